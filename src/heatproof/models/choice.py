"""Which layer is explained where none is named: by what the score depends on, and not by names of architectures."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakSet

import torch
from torch import Tensor, nn

from heatproof.errors import LayerError, Remark
from heatproof.models.layout import Layout

_SAID: "WeakSet[nn.Module]" = WeakSet()

CANDIDATES = 32
"""How many of the last feature maps are looked at."""


class Candidate(NamedTuple):
    """A tensor that one or more layers hand on."""

    names: list[str]
    kinds: list[str]
    output: Tensor
    layout: Layout

    @property
    def cells(self) -> int:
        return self.layout.rows * self.layout.cols

    @property
    def name(self) -> str:
        """The shortest name, and of these the last."""
        named = [name for name, kind in zip(self.names, self.kinds, strict=True) if not _is_idle(kind)] or self.names
        depth = min(name.count(".") for name in named)
        return [name for name in named if name.count(".") == depth][-1]


class Choice(NamedTuple):
    """A layer, and why it is the one."""

    name: str
    reason: str


class TooSmall(NamedTuple):
    """A layer that is nearer to the score than the chosen one, and has no rows or no columns left."""

    name: str
    rows: int
    cols: int


WHOLE = "last feature map before pooling"
BRANCH = "last feature map of one branch; what reaches the score beside it is left out"


def candidates(outputs: dict[str, tuple[nn.Module, Tensor]], layouts: Any, classes: int) -> list[Candidate]:
    """The feature maps in the order in which they are ready."""
    pooled = {o.data_ptr() for m, o in outputs.values() if "pool" in type(m).__name__.lower()}
    found: dict[int, Candidate] = {}
    scores: dict[int, Candidate] = {}
    entries = list(outputs.items())
    weighty = [
        place
        for place, (_, (module, _)) in enumerate(entries)
        if next(module.parameters(recurse=False), None) is not None
    ]
    for place, (name, (module, output)) in enumerate(entries):
        layout: Layout | None = layouts.get(name, output)
        if layout is None or min(layout.rows, layout.cols) < 2 or output.data_ptr() in pooled:
            continue
        channels = output.shape[layout.dims.index("C")]
        if channels <= 3:
            continue
        # SqueezeNet's last map holds class scores, of which no weights make anything else
        into = scores if channels == classes and not any(later > place for later in weighty) else found
        old = into.pop(output.data_ptr(), Candidate([], [], output, layout))
        into[output.data_ptr()] = Candidate([*old.names, name], [*old.kinds, type(module).__name__], output, layout)
    return list((found or scores).values())


def too_small(choice: Choice, outputs: dict[str, tuple[nn.Module, Tensor]]) -> TooSmall | None:
    """The last layer behind the chosen one whose map is a single row or column only because the image is small.

    These are convolutions of more than one cell: what a network does with a pooled vector takes none.
    """
    order, found = list(outputs), None
    for name, (module, output) in outputs.items():
        if order.index(name) <= order.index(choice.name) or not isinstance(module, nn.Conv2d) or output.ndim != 4:
            continue
        rows, cols = int(output.shape[-2]), int(output.shape[-1])
        if max(module.kernel_size) > 1 and min(rows, cols) < 2:
            found = TooSmall(name, rows, cols)
    return found


def remark_on_small(network: nn.Module, title: str, chosen: str, beyond: TooSmall) -> None:
    """Say once of a network that another layer than usual is explained, for its last maps are single cells.

    Args:
        title: what the network is called.
    """
    if network in _SAID:
        return
    _SAID.add(network)
    warnings.warn(
        Remark(
            f"at this size of image {beyond.name} of {title} puts out {beyond.rows}x{beyond.cols}, so that the default "
            f"layer is {chosen}, the last with rows and columns, and not the last before pooling: give larger images, "
            "or name a layer (layer=..., Classifier(default_layer=...))"
        ),
        stacklevel=6,
    )


def check_read(choice: Choice, outputs: dict[str, tuple[nn.Module, Tensor]], layouts: Any, title: str) -> None:
    """Stop a layer behind which most of the network could not be read.

    Raises:
        LayerError: names it.
    """
    weighty = [
        name for name, (module, _) in outputs.items() if next(module.parameters(recurse=False), None) is not None
    ]
    order = list(outputs)
    unread = [
        name
        for name in weighty
        if order.index(name) > order.index(choice.name)
        and outputs[name][1].ndim > 2
        and layouts.get(name, outputs[name][1]) is None
    ]
    if 2 * len(unread) > len(weighty):
        raise LayerError(
            f"behind {choice.name}, the last feature map of {title} whose rows and columns can be established, lies "
            f"most of the network ({unread[0]}, ...), so it has no default layer; name one: `heatproof list layers` "
            "shows those that have maps. Or explain the pixels: simplegrad(), occlusion()"
        )


def choose(image: Tensor, logits: Tensor, maps: Sequence[Candidate], title: str) -> Choice:
    """The last map through which alone the score depends on the image; else the last with a gradient.

    Raises:
        LayerError: where there is none.
    """
    if not maps:
        raise LayerError(
            f"{title} has no layer that puts out a feature map [batch, channels, rows, cols] larger than 1x1 whose "
            "rows and columns can be established; heatmaps at a layer need a convolutional network or tokens on a "
            "grid. Explain the pixels instead: simplegrad(), occlusion()"
        )
    closing = [entry for entry in maps if _closing(entry)][-1:]
    maps = [entry for entry in maps if not _closing(entry)][-CANDIDATES:] or list(maps)[-CANDIDATES:]
    reached = [entry for entry, good in zip(maps, _with_gradient(logits, maps), strict=True) if good]
    if not reached:
        raise LayerError(
            f"the scores of {title} have no gradient at any of its feature maps ({maps[-1].name}, ...): its forward "
            "pass cuts it (no_grad, detach, argmax, quantised layers), and heatmaps at a layer are made of it. "
            "Explain by occlusion(), or let the gradient pass"
        )
    last = reached[-1]
    whole = next((entry for entry in reversed(reached) if not _bypassed(image, logits, entry.output)), None)
    # a map more than twice as fine a side is no summary of what comes after it
    if whole is not last and closing and _with_gradient(logits, closing)[0] and closing[0].cells == last.cells:
        # blocks that put out more than one tensor are no maps; what closes the last of them is
        whole = next((entry for entry in closing if not _bypassed(image, logits, entry.output)), whole)
    if whole is not None and (whole is last or whole.cells <= 4 * last.cells):
        return Choice(whole.name, WHOLE)
    if any(entry.layout.dims != "NCHW" for entry in reached):
        raise LayerError(
            f"no single layer of {title} carries all that its scores depend on (parallel branches), so it has no "
            f"default layer; name one, for example {last.name}: `heatproof list layers` shows those that have maps"
        )
    return Choice(last.name, BRANCH)


def _closing(entry: Candidate) -> bool:
    """A normalisation of tokens or of channels-last maps, which adds nothing to what it is given."""
    idle = [_is_idle(kind) or "Norm" in kind or "Affine" in kind for kind in entry.kinds]
    return all(idle) and (entry.layout.dims != "NCHW" or any("Permute" in kind for kind in entry.kinds))


def _is_idle(kind: str) -> bool:
    return any(word in kind for word in ("Identity", "Drop", "Permute"))


def _with_gradient(logits: Tensor, maps: Sequence[Candidate]) -> list[bool]:
    open_ = [entry.output for entry in maps if entry.output.requires_grad]
    if not logits.requires_grad or not open_:
        return [False] * len(maps)
    # of all scores at once, with weights that do not cancel: the sum of a softmax's outputs has no gradient
    weights = torch.linspace(1, 2, logits.numel(), device=logits.device, dtype=logits.dtype).view_as(logits).cos()
    found = iter(torch.autograd.grad((logits * weights).sum(), open_, retain_graph=True, allow_unused=True))
    good = []
    for entry in maps:
        gradient = next(found) if entry.output.requires_grad else None
        # after its last block, a class token is all that is read of the tokens
        good.append(gradient is not None and ("L" not in entry.layout.dims or bool(entry.layout.maps(gradient).any())))
    return good


def _bypassed(image: Tensor, logits: Tensor, output: Tensor) -> bool:
    """Whether the graph has a way from the scores to the image that does not lead through ``output``."""
    seen = {output.grad_fn}
    ways: list[Any] = [logits.grad_fn]
    while ways:
        node = ways.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if getattr(node, "variable", None) is image:
            return True
        ways += [following for following, _ in node.next_functions]
    return False
