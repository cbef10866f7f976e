"""Where in a network the feature maps become as small as a heatmap is: the stage that the map is read from."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from heatproof.models.intact import evaluating
from heatproof.models.layers import network_of
from heatproof.types import Images

Size = tuple[int, int]


class _Call(NamedTuple):
    name: str
    entering: Size
    leaving: Size


def last_stage(model: nn.Module, images: Images, size: Size) -> str | None:
    """The name of the outermost module at whose beginning larger maps become maps of ``size``, the last such.

    ``layer4`` of a ResNet, ``features.23`` (the pooling) of a VGG with maps of its last convolution.

    Args:
        images: of which one is asked.
        size: rows and columns of a heatmap.

    Returns:
        ``None`` where no module does that, or where the module is the first of all: tokens, maps as large as the image.
    """
    calls: list[_Call] = []
    begun: dict[str, int] = {}
    network = network_of(model)

    def begin(name: str) -> None:
        begun[name] = len(begun)

    def end(name: str, args: tuple[object, ...], output: object) -> None:
        before = args[0] if args else None
        if isinstance(before, Tensor) and isinstance(output, Tensor) and before.ndim == output.ndim == 4:
            calls.append(_Call(name, _size(before), _size(output)))

    hooks = []
    for name, module in network.named_modules():
        if name:
            hooks.append(module.register_forward_pre_hook(lambda module, args, name=name: begin(name)))
            hooks.append(module.register_forward_hook(lambda module, args, output, name=name: end(name, args, output)))
    try:
        with torch.no_grad(), evaluating(model):
            model(images[:1])
    finally:
        for hook in hooks:
            hook.remove()
    smaller = {call.name: call for call in calls if call.leaving == size and _larger(call.entering, size)}
    if not smaller:
        return None
    found = smaller[max(smaller, key=lambda name: begun[name])]
    # a padding before the layer is no stage of its own
    while (outer := smaller.get(found.name.rpartition(".")[0])) and not _larger(outer.entering, found.entering, 1.5):
        found = outer
    return None if found.entering == _size(images) else found.name


def _larger(one: Size, other: Size, times: float = 1.0) -> bool:
    return math.prod(one) > times * math.prod(other)


def _size(maps: Tensor) -> Size:
    rows, cols = maps.shape[-2:]
    return rows, cols
