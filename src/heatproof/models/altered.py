"""A network altered where its weights do not show it: softplus for ReLU, a layer's maps blurred.

Some trainings against moving heatmaps need it, while they train and ever after: ``altered.json`` says it beside the
weights, and loading the folder does it again.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from heatproof.errors import InputError, LayerError
from heatproof.images import blurred
from heatproof.models.classifier import Classifier
from heatproof.models.intact import evaluating
from heatproof.models.layers import Layer, find_layer, grey_image, list_layers
from heatproof.models.smooth import rectifies
from heatproof.types import Images, settings

WIDEST = 100.0
"""Cells of the standard deviation of a blur; no map is sensibly blurred wider."""


@settings
class Alteration:
    """What is altered in a network.

    Args:
        softplus: beta of softplus_beta(x) = log(1 + exp(beta x)) / beta in the place of every ReLU; ``None``: ReLU
            stays.
        blur: standard deviation, in cells, of the Gaussian by which the maps of ``layer`` are blurred; 0: none.
        layer: ``None`` where nothing is blurred.

    Raises:
        InputError: a beta or a blur that makes no sense; a blur without its layer.
    """

    softplus: float | None = None
    blur: float = 0.0
    layer: str | None = None

    def __post_init__(self) -> None:
        if self.softplus is not None and not 0 < self.softplus < math.inf:
            raise InputError(f"beta of softplus must be positive and finite, got {self.softplus}")
        if not 0 <= self.blur <= WIDEST:
            raise InputError(f"the blur is a standard deviation in cells of a map, 0 to {WIDEST:g}, got {self.blur}")
        if bool(self.blur) != (self.layer is not None):
            raise InputError(f"a blur and its layer go together, got blur={self.blur}, layer={self.layer!r}")

    def plain(self) -> dict[str, Any]:
        """As ``altered.json`` holds it."""
        return asdict(self)


@settings
class Blurred:
    """A forward hook that blurs what a layer puts out. Copies of the module carry it along."""

    sigma: float

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise LayerError(
                f"what is blurred are maps [batch, channels, rows, cols], and this {type(module).__name__} puts out "
                f"{list(output.shape) if isinstance(output, Tensor) else type(output).__name__}"
            )
        return blurred(output, self.sigma)


def alter(model: Classifier, alteration: Alteration) -> None:
    """Alter the model, in place.

    Raises:
        InputError: softplus is asked for, and no ReLU is there.
        LayerError: the layer does not exist, or puts out no maps.
    """
    if alteration.layer is not None:
        find_layer(model, alteration.layer).register_forward_hook(Blurred(alteration.blur))
        _answer(model)
    if alteration.softplus is not None:
        if model.softplus is None and not _rectifies(model):
            raise InputError(
                f"{model.name} has no ReLU, ReLU6 or leaky ReLU that softplus could take the place of; without beta "
                "the network is trained as it is"
            )
        if type(model).forward is not Classifier.forward:
            raise InputError(f"{type(model).__name__} runs its network in a way of its own, without softplus")
        model.softplus = alteration.softplus


def is_blurred(network: nn.Module) -> bool:
    """Whether some layer's maps are blurred."""
    kept = (module._forward_hooks for module in network.modules())  # pyright: ignore[reportPrivateUsage]
    hooks = (hook for hooks in kept for hook in hooks.values())
    return any(isinstance(hook, Blurred) for hook in hooks)


def is_rectified(model: Classifier, images: Images) -> bool:
    """Whether the network bends at ReLUs, so that the second derivative of its logits is zero almost everywhere.

    >>> import heatproof as hp
    >>> is_rectified(hp.load("demo"), torch.zeros(1, 3, 64, 64))
    True
    """
    if model.softplus is not None:
        return False
    with evaluating(model):
        return rectifies(model, images[:1])


def finest_layer(model: Classifier) -> str:
    """The last layer whose maps are as large as those of the first: where a blur takes away noise and little else.

    >>> import heatproof as hp
    >>> finest_layer(hp.load("demo"))
    'stage3'

    Raises:
        LayerError: no layer puts out maps.
    """
    maps = [layer for layer in list_layers(model) if len(layer.shape) == 3 and not layer.pooling]
    if not maps:
        raise LayerError(f"no layer of {model.name} puts out maps that could be blurred")
    return _outermost([layer for layer in maps if layer.shape[1:] == maps[0].shape[1:]])


def _outermost(layers: Sequence[Layer]) -> str:
    """Of the layers that hand on the last tensor the one that holds the others."""
    same = [layer.name for layer in layers if layer.address == layers[-1].address]
    return min(same, key=len)


def _rectifies(model: Classifier) -> bool:
    with evaluating(model):
        return rectifies(model, grey_image(model))


def _answer(model: Classifier) -> None:
    with torch.no_grad(), evaluating(model):
        model(grey_image(model))
