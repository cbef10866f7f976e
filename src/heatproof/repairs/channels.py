"""Filters of a convolution, cut out of it."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from heatproof.errors import InputError, LayerError
from heatproof.models.layers import find_layer
from heatproof.repairs.layers import in_order
from heatproof.types import Images


def last_convolution(model: nn.Module, layer: str | None, images: Images) -> str:
    """The last convolution that runs inside ``layer`` or before it; ``None``: of the network.

    Raises:
        LayerError: there is none.
    """
    order = in_order(model, images)
    held = set(find_layer(model, layer).modules()) if layer not in (None, "pixels") else set()
    inside = [place for place, (_, module) in enumerate(order) if module in held]
    end = max(inside) + 1 if inside else len(order)
    found = [name for name, module in order[:end] if isinstance(module, nn.Conv2d)]
    if not found:
        raise LayerError(f"there is no convolution up to {layer or 'the logits'} whose filters could be cut")
    return found[-1]


def cut_channels(model: nn.Module, name: str, idle: Int[Tensor, "idle"], images: Images) -> None:
    """Set these filters of a convolution to zero, and what a batch norm right behind it adds to their maps.

    Raises:
        InputError: the layer is no convolution.
    """
    layer = find_layer(model, name)
    if not isinstance(layer, nn.Conv2d):
        raise InputError(f"{name} is a {type(layer).__name__}; what is pruned are the filters of a convolution")
    parts: list[nn.Module] = [layer, *_norms_behind(in_order(model, images), layer)]
    with torch.no_grad():
        for part in parts:
            for parameter in part.parameters(recurse=False):
                parameter[idle.to(parameter.device)] = 0


def _norms_behind(order: Sequence[tuple[str, nn.Module]], layer: nn.Conv2d) -> list[nn.Module]:
    modules = [module for _, module in order]
    behind = modules[modules.index(layer) + 1 :][:1]
    return [m for m in behind if isinstance(m, nn.BatchNorm2d) and m.num_features == layer.out_channels]
