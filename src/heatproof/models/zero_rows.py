"""Derivatives that leave rows of zeros out: a score that reads the class token alone has no slope at other tokens.

Behind the last attention a token meets no other, so the derivative there is zero but for the class token, and torch
multiplies zeros: nine twelfths of a block's backward pass.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

LEAST = 64
"""Rows below which looking for zeros costs as much as it saves."""
PRODUCT = torch.ops.aten.mm.default
GELU = torch.ops.aten.gelu_backward.default
ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


@contextmanager
def zero_rows_skipped(wanted: bool = True) -> Generator[None]:
    """Inside, derivatives are computed for those rows alone that are not zero, if these are fewer than half.

    Matrix products, GELU and the fused attention on the CPU. The numbers are the same up to rounding: a row of zeros
    times finite weights is zero. Not for pieces of a graph that is to be differentiated again (there it is right as
    well, and saves nothing).
    """
    if not wanted:
        yield
        return
    with _Skipping():
        yield


class _Skipping(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _SHORT and (found := _SHORT[func](args, kwargs)) is not None:
            return found
        return func(*args, **kwargs)


def _few(rows: Tensor) -> Int[Tensor, " kept"] | None:
    """Those of these rows that are not zero; ``None`` where they are too many, or where a device would have to wait."""
    if rows.device.type != "cpu" or len(rows) < LEAST or _most(rows[:, 0] != 0):
        return None
    other = rows.any(1)
    return None if _most(other) else other.nonzero()[:, 0]


def _most(true: Bool[Tensor, " rows"]) -> bool:
    return 2 * int(true.sum()) >= len(true)


def _spread(values: Tensor, rows: Tensor, like: Tensor) -> Tensor:
    """These rows among zeros."""
    return values.new_zeros(len(like), *values.shape[1:]).index_copy_(0, rows, values)


def _product(args: Any, kwargs: Any) -> Tensor | None:
    left, right = args
    rows = _few(left)
    return None if rows is None else _spread(PRODUCT(left[rows], right), rows, left)


def _gelu(args: Any, kwargs: Any) -> Tensor | None:
    slope, given = args
    if slope.shape != given.shape or slope.ndim < 2:
        return None
    flat, before = slope.flatten(0, -2), given.flatten(0, -2)
    rows = _few(flat)
    return None if rows is None else _spread(GELU(flat[rows], before[rows], **kwargs), rows, flat).view(slope.shape)


def _attention(args: Any, kwargs: Any) -> tuple[Tensor, Tensor, Tensor] | None:
    """A query whose output has no slope has none itself, and gives none to keys and values."""
    slope, query, key, value, output, sums, *rest = args
    rows = _few(slope.transpose(0, 2).flatten(1))
    if rows is None or kwargs.get("attn_mask") is not None or any(rest[1:2]):
        return None  # masked queries are other ones
    few = [each.index_select(2, rows) for each in (slope, query, output, sums)]
    queries, keys, values = ATTENTION(few[0], few[1], key, value, few[2], few[3], *rest, **kwargs)
    whole = torch.zeros_like(query).index_copy_(2, rows, queries)
    return whole, keys, values


_SHORT: dict[Any, Callable[[Any, Any], Any]] = {PRODUCT: _product, GELU: _gelu, ATTENTION: _attention}
