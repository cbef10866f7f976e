"""Where an image's rows and columns lie in a tensor, followed through the operators of one forward pass.

Nothing is guessed from sizes: a dimension is the image's rows because an operator made it from rows. What an operator
without a rule puts out has neither rows nor columns.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from heatproof.models.axes import COLS, ROWS, Axes, along, length, met, other
from heatproof.models.axis_rules import RULES, SAME


class FollowAxes(TorchDispatchMode):
    """Inside, operators on ``image`` are followed; :meth:`of` tells a tensor's axes.

    Known by where a tensor lies in memory, not by its identity: autograd hands on views as other objects. Every
    result of an operator is entered or struck out, so memory that is used again is not mistaken for the old.
    """

    def __init__(self, image: Tensor):
        super().__init__()
        rows, cols = image.shape[-2:]
        self.known: dict[Any, Axes] = {}
        self.known[_place(image)] = (
            *map(other, image.shape[:-2]),
            ((along(ROWS, rows),),),
            ((along(COLS, cols),),),
        )

    def of(self, tensor: Tensor) -> Axes | None:
        """``None``: nothing is known, as of a weight."""
        return self.known.get(_place(tensor)) if _has_place(tensor) else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and _has_place(leaf)]
        if not outputs:
            return result
        found: list[Axes | None] = []
        sources = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(self.of(source) is not None for source in sources):
            try:
                found = self._after(func, args, kwargs, outputs)
            # an operator called in a way that its rule does not know: its result has no rows and columns
            except (IndexError, KeyError, TypeError, ValueError, AttributeError):
                found = []
        for place, output in enumerate(outputs):
            axes = found[place] if place < len(found) else None
            if axes is None or tuple(sum(map(length, dim)) for dim in axes) != tuple(output.shape):
                self.known.pop(_place(output), None)
            else:
                self.known[_place(output)] = axes
        return result

    def _after(self, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Axes | None]:
        name = func._schema.name.removeprefix("aten::")
        names = [argument.name for argument in func._schema.arguments]
        given = dict(zip(names, args, strict=False)) | kwargs
        for argument in func._schema.arguments:
            given.setdefault(argument.name, argument.default_value)
        if name in RULES:
            return RULES[name](self, given, outputs)
        if name in SAME or torch.Tag.pointwise in func.tags:
            tensors = [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
            return [self.joined(tensors, outputs[0].shape)]
        return []

    def full(self, tensor: Tensor) -> Axes:
        """The axes, where nothing is known those of a weight."""
        return self.of(tensor) or tuple(map(other, tensor.shape))

    def joined(self, tensors: Sequence[Tensor], shape: Sequence[int]) -> Axes:
        """Of an element-wise operator, which stretches sizes of 1."""
        dims = [other(size) for size in shape]
        for tensor in tensors:
            axes = self.of(tensor)
            for back in range(1, min(tensor.ndim, len(shape)) + 1 if axes else 0):
                if tensor.shape[-back] == shape[-back]:
                    dims[-back] = met(dims[-back], axes[-back])  # type: ignore[index]
        return tuple(dims)


def _has_place(tensor: Tensor) -> bool:
    # a nested tensor, as torch's encoder makes of padded tokens, calls itself strided and has no shape
    return tensor.layout is torch.strided and not tensor.is_nested


def _place(tensor: Tensor) -> Any:
    storage = tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
    return storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype
