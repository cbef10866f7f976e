"""Receptive fields, followed through the operators of one forward pass, whatever wrote them (modules or functions)."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.weak import WeakTensorKeyDictionary

aten = torch.ops.aten
# operators after which a cell has seen the whole image
GLOBAL = {aten.mm, aten.addmm, aten.bmm, aten.mean, aten.sum, aten.adaptive_avg_pool2d, aten._adaptive_avg_pool2d}
# (packet, place of kernel size, of stride, of dilation) in the operator's arguments
POOLS = {aten.max_pool2d_with_indices: (1, 2, 4), aten.max_pool2d: (1, 2, 4), aten.avg_pool2d: (1, 2, None)}


class _Follow(TorchDispatchMode):
    """Keeps (field, jump) per tensor: the pixels that a cell sees, and those between two cells; ``None``: all."""

    def __init__(self, image: Tensor):
        super().__init__()
        self.known: Any = WeakTensorKeyDictionary()
        self.known[image] = (1, 1)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [t for t in tree_flatten(args)[0] if isinstance(t, Tensor) and t in self.known]
        if inputs:
            fields = [self.known[t] for t in inputs]
            seen = None if None in fields else tuple(max(field[axis] for field in fields) for axis in (0, 1))
            for output in tree_flatten(result)[0]:
                if isinstance(output, Tensor):
                    self.known[output] = _after(func.overloadpacket, args, inputs[0], output, seen)
        return result


def _after(packet: Any, args: Any, source: Tensor, output: Tensor, seen: Any) -> tuple[int, int] | None:
    if seen is None:
        return None
    if packet in GLOBAL:
        # a pooling that leaves the size alone (VGG at 224 pixels) looks at one cell only
        return (
            seen if output.shape[-2:] == source.shape[-2:] and packet not in (aten.mm, aten.addmm, aten.bmm) else None
        )
    if packet is aten.convolution:
        kernel, stride, dilation, transposed = args[1].shape[2:], args[3], args[5], args[6]
        if transposed:
            return None
    elif packet in POOLS:
        places = POOLS[packet]
        kernel = args[places[0]]
        # an empty or missing stride means the kernel's own
        stride = (args[places[1]] if len(args) > places[1] else None) or kernel
        dilation = args[places[2]] if places[2] and len(args) > places[2] else [1]
    else:
        return seen
    field, jump = seen
    return field + (int(max(kernel)) - 1) * int(max(dilation)) * jump, jump * int(max(stride))


@contextmanager
def receptive_fields(image: Tensor) -> Generator[Callable[[Tensor], int | None]]:
    """Inside, passes over ``image`` are followed; yields ``tensor -> side of its cells' receptive field in pixels``.

    At joins (additions, concatenations, gates) the larger field counts. ``None``: the whole image is seen, or the
    operators could not be followed.
    """
    follow = _Follow(image)
    with follow:
        yield lambda tensor: found[0] if (found := follow.known.get(tensor)) else None
