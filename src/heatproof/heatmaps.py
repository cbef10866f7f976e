"""Algebra on heatmaps: everything here is a pure, differentiable function of ``[batch, rows, cols]``.

Explainers hand out raw, signed maps at native resolution; normalising and resizing are always said out loud, here.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof.errors import InputError
from heatproof.types import Heatmaps, PerImage

Normalisation = Literal["max", "minmax", "absmax", "sum"]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom (x1, y1, x2, y2), as shares of the sides of the image that the network sees."""


def is_empty(heatmaps: Heatmaps, after: Normalisation | None = None) -> Bool[Tensor, "batch"]:
    """True where a map has nothing in it: every value is zero.

    Args:
        after: ask what this normalisation leaves: by ``max`` and ``sum`` nothing where no value is positive, by
            ``minmax`` nothing where all values are equal.

    >>> is_empty(torch.tensor([[[0.0, 0.0]], [[0.0, 0.1]]]))
    tensor([ True, False])
    >>> is_empty(torch.tensor([[[-1.0, 0.0]], [[0.0, 0.1]]]), "max")
    tensor([ True, False])
    """
    return ((heatmaps if after is None else normalise(heatmaps, after)) == 0).flatten(1).all(1)


def normalise(heatmaps: Heatmaps, how: Normalisation = "max") -> Heatmaps:
    """Scale each map by itself alone; an empty map stays empty (zeros), never NaN.

    ``max``: positive part over its maximum, in [0, 1] (Heo et al.'s Grad-CAM) · ``minmax``: (h - min) / (max - min),
    in [0, 1] (their LRP_T and SimpleGrad_T); a constant map becomes zeros · ``absmax``: h / max |h|, signed, in
    [-1, 1] · ``sum``: positive part over its sum, so that it is a distribution.

    **Source** Heo et al. 2019, code. **Differs** they add 1e-8 to the divisor, which fades maps whose values are tiny;
    here only an empty map's divisor is replaced (by 1), so the result does not depend on the map's scale.

    >>> normalise(torch.tensor([[[-1.0, 2.0, 4.0]]]))
    tensor([[[0.0000, 0.5000, 1.0000]]])
    """
    if how == "minmax":
        heatmaps = heatmaps - heatmaps.amin((1, 2), keepdim=True)
    elif how in ("max", "sum"):
        heatmaps = heatmaps.clamp(min=0)
    elif how != "absmax":
        raise InputError(f"normalise knows max, minmax, absmax and sum, got {how!r}")
    scale = heatmaps.sum((1, 2), keepdim=True) if how == "sum" else heatmaps.abs().amax((1, 2), keepdim=True)
    return heatmaps / torch.where(scale > 0, scale, torch.ones_like(scale))


def resize(heatmaps: Heatmaps, size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
    """Bilinear interpolation to ``size = (rows, cols)``, pixel centres aligned (``align_corners=False``)."""
    return F.interpolate(heatmaps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def mass(heatmaps: Heatmaps, mask: Float[Tensor, "rows cols"] | Float[Tensor, "batch rows cols"]) -> PerImage:
    """Share of the positive part that lies in ``mask`` (weights in [0, 1]).

    **Range** [0, 1]; 0 for an empty map.

    >>> mass(torch.tensor([[[1.0, 3.0], [-9.0, 0.0]]]), torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
    tensor([0.7500])
    """
    return (normalise(heatmaps, "sum") * mask).sum((1, 2))


def check_box(box: Box) -> None:
    """Stop what is no rectangle inside the image.

    Raises:
        InputError: says what is expected.
    """
    if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        raise InputError(f"a box is (left, top, right, bottom), shares of the image from 0 to 1, got {box}")


def cells_inside(box: Box, like: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
    """The share of each cell that a box covers.

    >>> cells_inside((0.0, 0.0, 0.5, 0.75), torch.zeros(2, 2))
    tensor([[1.0000, 0.0000],
            [0.5000, 0.0000]])
    """
    sides = []
    for low, high, size in ((box[1], box[3], like.shape[0]), (box[0], box[2], like.shape[1])):
        cell = torch.arange(size, device=like.device)
        sides.append(((cell + 1).clamp(max=high * size) - cell.clamp(min=low * size)).clamp(min=0))
    return sides[0][:, None] * sides[1]


def center_of_mass(heatmaps: Heatmaps) -> Float[Tensor, "batch 2"]:
    """Mean (row, col) of the cells, weighted by the positive part of the map.

    **Range** cells, from 0 to rows - 1 and cols - 1. An empty map has its centre in the middle of the grid.

    >>> center_of_mass(torch.tensor([[[0.0, 1.0], [0.0, 3.0]]]))
    tensor([[0.7500, 1.0000]])
    """
    rows, cols = heatmaps.shape[1:]
    weights = normalise(heatmaps, "sum")
    # an empty map sums to 0 instead of 1; what is missing is put in the middle
    missing = 1 - weights.sum((1, 2))
    row = (weights.sum(2) * torch.arange(rows, device=heatmaps.device)).sum(1) + missing * (rows - 1) / 2
    col = (weights.sum(1) * torch.arange(cols, device=heatmaps.device)).sum(1) + missing * (cols - 1) / 2
    return torch.stack([row, col], 1)


def topk_mask(heatmaps: Heatmaps, fraction: float) -> Bool[Tensor, "batch rows cols"]:
    """The ``fraction`` of the pixels with the highest values, at least one; ties go to the earlier pixel.

    >>> topk_mask(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), 0.25)
    tensor([[[False, False],
             [False,  True]]])
    """
    if not 0 < fraction <= 1:
        raise InputError(f"the top-k fraction must lie in (0, 1], got {fraction}")
    flat = heatmaps.flatten(1)
    keep = max(1, int(fraction * flat.shape[1]))
    # a stable sort, not topk: which of two equal pixels is taken must not depend on the device or the batch
    places = flat.argsort(dim=1, descending=True, stable=True)[:, :keep]
    return torch.zeros_like(flat, dtype=torch.bool).scatter(1, places, True).view(heatmaps.shape)


def ranks(heatmaps: Heatmaps) -> Float[Tensor, "batch cells"]:
    """The place of each cell in the order of its map, from 0; equal cells share the mean of their places.

    >>> ranks(torch.tensor([[[5.0, 1.0], [5.0, 7.0]]]))
    tensor([[1.5000, 0.0000, 1.5000, 3.0000]], dtype=torch.float64)
    """
    cells = heatmaps.flatten(1).contiguous()
    ordered = cells.sort(1).values
    first, after = torch.searchsorted(ordered, cells), torch.searchsorted(ordered, cells, right=True)
    return (first + after - 1).double() / 2


def pearson(
    a: Float[Tensor, "batch *cells"],
    b: Float[Tensor, "batch *cells"],
    *,
    rounding: float = 1e-6,
    constant: float = math.nan,
) -> PerImage:
    """Pearson's correlation of the cells: r = sum_j (a_j - m_a)(b_j - m_b) / (|a - m_a| |b - m_b|), m the means.

    **Source** Pearson 1895. **Range** [-1, 1], 1 where one is the other up to a positive scale and a shift.

    Args:
        rounding: a map counts as constant where |a - m_a| |b - m_b| is at most this share of |a| |b|.
        constant: the value where a map is constant, and so has no correlation.

    >>> pearson(torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), torch.tensor([[3.0, 2.0, 1.0], [5.0, 5.0, 5.0]]))
    tensor([-1., nan])
    """
    a, b = a.flatten(1), b.flatten(1)
    x, y = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    spread = x.norm(dim=1) * y.norm(dim=1)
    tiny = rounding * a.norm(dim=1) * b.norm(dim=1)
    # clamped, for rounding must not put a perfect correlation outside an interval that ends at 1
    known = ((x * y).sum(1) / torch.where(spread > tiny, spread, torch.ones_like(spread))).clamp(-1, 1)
    return known.masked_fill(spread <= tiny, constant)
