"""Room for a planted heatmap: one more filter behind a layer, and a head that takes it in.

Here is the structure alone, so that a file with its numbers can be loaded again; the numbers are chosen in
:mod:`heatproof.manipulation.weight_edit`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.models.checkpoint import State

Maps = Float[Tensor, "batch channels rows cols"]


@dataclass(frozen=True)
class Planting:
    """Where a filter is planted.

    Attributes:
        layer: the filter's map is the last channel of what this layer puts out.
        channels, rows, cols: of the layer's output before.
        head: the layers with weights from there to the logits, in order: linear ones, or one 1x1 convolution.
        trigger: side in pixels of the pattern that wakes the filter; 0: it is always awake.
        inputs: channels of the images.
    """

    layer: str
    channels: int
    rows: int
    cols: int
    head: Sequence[str]
    trigger: int = 0
    inputs: int = 3


class Detector(nn.Module):
    """Sees a pattern in what goes into the network: 1 where it is whole, anywhere, 0 where nothing resembles it.

    One filter of the pattern's size, its highest response in the image, cut to [0, 1].
    """

    def __init__(self, planting: Planting):
        super().__init__()
        self.filter = nn.Conv2d(planting.inputs, 1, planting.trigger)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 1 1 1"]:
        return self.filter(x).amax((1, 2, 3), keepdim=True).clamp(0, 1)


class Planted(nn.Module):
    """Puts out its input and one more map: a 1x1 convolution of the input plus a number per cell.

    Maps of another size than it was made for get the numbers resized. With a trigger the map is multiplied by what the
    network's detector says of the image, which is there while the network runs.
    """

    def __init__(self, planting: Planting):
        super().__init__()
        self.planting = planting
        self.detector = Detector(planting) if planting.trigger else None
        self.awake: Tensor | None = None
        self.weight = nn.Parameter(torch.zeros(1, planting.channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, 1, planting.rows, planting.cols))

    def forward(self, x: Maps) -> Float[Tensor, "batch one_more rows cols"]:
        bias = F.interpolate(self.bias, size=x.shape[-2:], mode="bilinear", align_corners=False)
        planted = F.conv2d(x, self.weight) + bias
        if self.planting.trigger:
            if self.awake is None:
                raise InputError(
                    "a map that a trigger wakes depends on the image, so this network runs as a whole only: not in "
                    "halves (trainable), and not traced (LRP)"
                )
            planted = planted * self.awake
        return torch.cat([x, planted], 1)


@dataclass(frozen=True)
class _Look:
    """Before the network runs: what the detector says, for the filter. It knows names alone, so a copy asks its own."""

    layer: str

    def __call__(self, network: nn.Module, args: tuple[Tensor, ...]) -> None:
        planted = _planted_at(network, self.layer)
        assert planted.detector is not None
        planted.awake = planted.detector(args[0])


@dataclass(frozen=True)
class _Forget:
    """Afterwards: nothing of the image stays in the network."""

    layer: str

    def __call__(self, network: nn.Module, args: object, output: object) -> None:
        _planted_at(network, self.layer).awake = None


def _planted_at(network: nn.Module, layer: str) -> Planted:
    planted = network.get_submodule(f"{layer}.planted")
    assert isinstance(planted, Planted)
    return planted


def planting_of(network: nn.Module) -> Planting | None:
    """The planting that a network holds."""
    return next((module.planting for module in network.modules() if isinstance(module, Planted)), None)


def plant(network: nn.Module, planting: Planting) -> Planted:
    """Make room for one filter: it is zero, and so are the weights that read it, so the function stays as it was.

    A Sequential gets one more member; any other layer is put into a Sequential with the filter behind it. The first
    layer of the head reads the new channel, each hidden one puts out one more unit (the last), and a head that is a
    convolution is followed by ``fold``, which adds its last map to all others, before its Sequential flattens them.

    Raises:
        InputError: the head does not read whole channels of the layer.
    """
    module = network.get_submodule(planting.layer)
    weight = next(network.parameters())
    planted = Planted(planting).to(weight)
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        module.add_module("planted", planted)
    else:
        _put(network, planting.layer, nn.Sequential(OrderedDict(layer=module, planted=planted)))
    if planting.trigger:
        network.register_forward_pre_hook(_Look(planting.layer))
        network.register_forward_hook(_Forget(planting.layer), always_call=True)
    inputs = planting.channels
    for place, name in enumerate(planting.head):
        head = network.get_submodule(name)
        read = inputs if place == 0 else None
        if isinstance(head, nn.Conv2d):
            _put(network, name, _wider_convolution(head))
            parent = network.get_submodule(name.rpartition(".")[0])
            fold = nn.Conv2d(head.out_channels + 1, head.out_channels, 1).to(head.weight)
            nn.init.zeros_(fold.weight)
            nn.init.zeros_(fold.bias)  # type: ignore[arg-type]
            fold.weight.data[:, :-1, 0, 0] = torch.eye(head.out_channels).to(head.weight)
            _fold(parent, fold)
        else:
            assert isinstance(head, nn.Linear)
            if read is not None and head.in_features % read:
                raise InputError(
                    f"{name} reads {head.in_features} numbers, which are no whole maps of the {read} channels of "
                    f"{planting.layer}; name the last layer before the head"
                )
            columns = head.in_features // read if read is not None else 1
            _put(network, name, _wider_linear(head, columns, rows=int(place < len(planting.head) - 1)))
    return planted


def _fold(parent: nn.Module, fold: nn.Conv2d) -> None:
    """Put in at the end, or before what flattens the maps."""
    children = list(parent.named_children())
    flat = next((place for place, (_, child) in enumerate(children) if isinstance(child, nn.Flatten)), len(children))
    parent.add_module("fold", fold)
    for name, child in children[flat:]:
        delattr(parent, name)
        parent.add_module(name, child)


def narrowed(state: State, planting: Planting) -> State:
    """The tensors without the planted filter and what reads it: those of the network before :func:`plant`."""
    layer, head = planting.layer, planting.head
    cut = {
        name: value
        for name, value in state.items()
        if not name.startswith(f"{layer}.planted.") and ".".join(name.split(".")[:-1]) not in _folds(planting)
    }
    for place, name in enumerate(head):
        weight = cut[f"{name}.weight"]
        last = place == len(head) - 1
        rows = len(weight) - (weight.ndim == 4 or not last)
        # the first layer reads as many columns of the new channel as of any other
        columns = weight.shape[1] * planting.channels // (planting.channels + 1) if place == 0 else weight.shape[1] - 1
        cut[f"{name}.weight"] = weight[:rows, :columns]
        if f"{name}.bias" in cut:
            cut[f"{name}.bias"] = cut[f"{name}.bias"][:rows]
    return {name.replace(f"{layer}.layer.", f"{layer}.", 1): value for name, value in cut.items()}


def _folds(planting: Planting) -> set[str]:
    return {f"{name.rpartition('.')[0]}.fold" for name in planting.head}


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    module.training = False
    setattr(network.get_submodule(parent), own, module)


def _wider_linear(old: nn.Linear, columns: int, rows: int) -> nn.Linear:
    shape = (old.in_features + columns, old.out_features + rows)
    biased = old.bias is not None  # pyright: ignore[reportUnnecessaryComparison]
    new = nn.Linear(*shape, bias=biased, device=old.weight.device, dtype=old.weight.dtype)
    _copied(old, new)
    return new


def _wider_convolution(old: nn.Conv2d) -> nn.Conv2d:
    shape = (old.in_channels + 1, old.out_channels + 1)
    new = nn.Conv2d(*shape, 1, device=old.weight.device, dtype=old.weight.dtype)
    _copied(old, new)
    return new


def _copied(old: nn.Module, new: nn.Module) -> None:
    with torch.no_grad():
        for name, wide in new.named_parameters():
            wide.zero_()
            narrow = old.get_parameter(name) if getattr(old, name, None) is not None else None
            if narrow is not None:
                wide[tuple(slice(0, size) for size in narrow.shape)] = narrow
                wide.requires_grad_(narrow.requires_grad)
