"""How alike two sets of heatmaps are, and how loud a perturbation is: one value per image.

Every function takes raw maps, signed and at their native resolution, and says itself how it normalises them.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import InputError
from heatproof.heatmaps import center_of_mass, is_empty, normalise, pearson, ranks, resize, topk_mask
from heatproof.types import Heatmaps, Images, PerImage

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
_TOGETHER = 4  # images whose five moment maps still fit a core's cache at 224 x 224


def ssim(a: Heatmaps, b: Heatmaps, *, window: int = WINDOW) -> PerImage:
    """Structural similarity of maps in [0, 1], with the 11 x 11 Gaussian window of its authors (sigma 1.5).

    The mean over all windows inside the map of (2 m_a m_b + c1)(2 s_ab + c2) / ((m_a^2 + m_b^2 + c1)(s_a^2 + s_b^2 +
    c2)) with the windows' weighted means m, variances s^2 and covariance s_ab; c1 = 0.01^2, c2 = 0.03^2.

    **Source** Wang et al. 2004, eq. 13. **Differs** from torchmetrics, which also counts windows that reach over the
    border: here, as in Wang's code and scikit-image, only windows inside count. Computed in float64, since variances
    of flat regions are far below float32's rounding of the squares.
    **Range** [-1, 1], up is more alike, 1 for equal maps.

    Args:
        window: cells on a side of the window, for maps that are smaller than its authors'.

    Raises:
        InputError: maps of different shapes, or smaller than the window.

    >>> a = torch.zeros(1, 11, 11)
    >>> ssim(a, a), ssim(a, a + 1)
    (tensor([1.]), tensor([9.9990e-05]))
    """
    _check_pair(a, b)
    rows, cols = a.shape[1:]
    if min(rows, cols) < window:
        raise InputError(
            f"SSIM needs maps of at least {window} x {window} cells, got {rows} x {cols}; resize them first"
        )
    dtype = torch.float32 if a.device.type == "mps" else torch.float64  # MPS has no float64
    down, across = (_band(size, window).to(a.device, dtype) for size in (rows, cols))
    together = _TOGETHER if a.device.type == "cpu" else len(a) or 1
    values = [
        _ssim(x.to(dtype), y.to(dtype), down, across) for x, y in zip(a.split(together), b.split(together), strict=True)
    ]
    return torch.cat(values).to(a.dtype) if values else a.new_zeros(0)


def _ssim(a: Heatmaps, b: Heatmaps, down: Float[Tensor, "tops rows"], across: Float[Tensor, "lefts cols"]) -> PerImage:
    # the Gaussian window is separable: two products with banded matrices, far faster than a convolution in float64
    moments = down @ torch.stack([a, b, a * a, b * b, a * b]) @ across.T
    mean_a, mean_b, square_a, square_b, product = moments
    means = mean_a * mean_b
    squares = mean_a.square() + mean_b.square()
    top = (2 * means + K1**2) * (2 * (product - means) + K2**2)
    return (top / ((squares + K1**2) * (square_a + square_b - squares + K2**2))).mean((1, 2))


def _band(size: int, window: int) -> Float[Tensor, "windows size"]:
    """The matrix that weighs a line of pixels with the Gaussian window at every place where it fits."""
    reach = (window - 1) / 2
    offset = torch.arange(size, dtype=torch.float64) - torch.arange(size - window + 1)[:, None] - reach
    weights = (-offset.square() / (2 * SIGMA**2)).exp() * (offset.abs() <= reach)
    return weights / weights.sum(1, keepdim=True)


def nissim(
    a: Heatmaps,
    b: Float[Tensor, "batch other_rows other_cols"],
    *,
    size: int | tuple[int, int] = 224,
    normalisation: Literal["max", "minmax"] = "max",
) -> PerImage:
    """Normalised inverted structural similarity: NISSIM = (1 - SSIM) / 2.

    Each map is normalised to [0, 1] by itself alone and upsampled bilinearly to ``size``, at least 11 x 11, before
    SSIM is taken. Two maps of which the normalisation leaves nothing are the same (0; :func:`known_nissim` says NaN);
    an empty and a full one follow the formula.

    **Source** Chakraborty et al. 2022; they name neither the window nor the size nor the normalisation: ours.
    **Range** [0, 1], 0 is the same map.

    Args:
        size: rows and columns, usually the model's input size.
        normalisation: ``max`` (positive part over its maximum) or ``minmax``.

    Raises:
        InputError: numbers of maps that differ, or another normalisation.

    >>> left = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    >>> nissim(left, 7 * left), nissim(left, left.flip(2)).round(decimals=3)
    (tensor([0.]), tensor([0.4350]))
    """
    if normalisation not in ("max", "minmax"):
        raise InputError(f"NISSIM compares maps in [0, 1]: normalisation is 'max' or 'minmax', got {normalisation!r}")
    if a.ndim != 3 or b.ndim != 3 or len(a) != len(b):
        raise InputError(f"NISSIM compares maps [batch, rows, cols] in pairs, got {list(a.shape)} and {list(b.shape)}")
    rows, cols = (size, size) if isinstance(size, int) else size
    shape = max(rows, WINDOW), max(cols, WINDOW)
    a, b = (resize(normalise(maps, normalisation), shape) for maps in (a, b))
    return ((1 - ssim(a, b)) / 2).clamp(0, 1)


def known_nissim(
    a: Heatmaps,
    b: Float[Tensor, "batch other_rows other_cols"],
    *,
    size: int | tuple[int, int] = 224,
    normalisation: Literal["max", "minmax"] = "max",
) -> PerImage:
    """:func:`nissim`, and NaN where its normalisation leaves nothing of either map: what is not seen may have moved.

    By ``max`` these are pairs of maps in which nothing is positive, whatever lies below zero.

    **Range** [0, 1], 0 is the same map; NaN where it cannot be told.

    >>> below = -torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    >>> known_nissim(below, below.flip(2)), known_nissim(below, below.flip(2), normalisation="minmax").round(decimals=3)
    (tensor([nan]), tensor([0.4350]))
    """
    found = nissim(a, b, size=size, normalisation=normalisation)
    return found.masked_fill(is_empty(a, normalisation) & is_empty(b, normalisation), torch.nan)


def spearman(a: Heatmaps, b: Heatmaps) -> PerImage:
    """Spearman's rank correlation of the cells; tied cells share the average of their ranks.

    **Source** Spearman 1904; for heatmaps Ghorbani et al. 2019, Adebayo et al. 2018.
    **Range** [-1, 1], 1 for the same order; NaN where a map is constant and has no order.

    Raises:
        InputError: maps of different shapes.

    >>> spearman(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[1.0, 9.0, 4.0]]]))
    tensor([0.5000])
    """
    _check_pair(a, b)
    return pearson(ranks(a), ranks(b), rounding=0).to(a.dtype)  # the mean of ranks is exact


def topk_intersection(a: Heatmaps, b: Heatmaps, fraction: float = 0.1) -> PerImage:
    """Share of the highest cells of ``a`` that are among the highest of ``b``.

    **Source** Ghorbani et al. 2019, section 3. **Range** [0, 1], 1 for the same cells.

    Args:
        fraction: how many of the cells count as the highest; at least one does. Ties go to the earlier cell.

    Raises:
        InputError: maps of different shapes, or a fraction outside (0, 1].

    >>> topk_intersection(torch.tensor([[[4.0, 3.0, 2.0, 1.0]]]), torch.tensor([[[4.0, 1.0, 2.0, 3.0]]]), 0.5)
    tensor([0.5000])
    """
    _check_pair(a, b)
    first, second = topk_mask(a, fraction), topk_mask(b, fraction)
    return (first & second).sum((1, 2)).to(a.dtype) / first.sum((1, 2))


def center_distance(a: Heatmaps, b: Heatmaps) -> PerImage:
    """How far the centre of mass moved: Euclidean distance in cells over the diagonal sqrt(rows^2 + cols^2).

    **Source** Heo et al. 2019, section 4.2; Ghorbani et al. 2019 (center attack).
    **Range** [0, 1), 0 is the same centre; an empty map has its centre in the middle.

    Raises:
        InputError: maps of different shapes.

    >>> center_distance(torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 0.0, 0.0, 1.0]]]))
    tensor([0.7276])
    """
    _check_pair(a, b)
    rows, cols = a.shape[1:]
    return (center_of_mass(a) - center_of_mass(b)).norm(dim=1) / (rows**2 + cols**2) ** 0.5


def psnr(images: Images, clean: Images) -> PerImage:
    """Peak signal-to-noise ratio of a perturbation: 10 log10(1 / mean squared change), the peak being 1.

    **Source** Chakraborty et al. 2022. **Range** [0, inf] dB, up is less visible; infinite where nothing changed.
    FGSM without clipping has -20 log10(epsilon) dB.

    Raises:
        InputError: images of different shapes.

    >>> psnr(torch.full((1, 3, 2, 2), 0.51), torch.full((1, 3, 2, 2), 0.5)).round()
    tensor([40.])
    """
    if images.shape != clean.shape:
        raise InputError(f"PSNR compares images of one shape, got {list(images.shape)} and {list(clean.shape)}")
    change = (images.double() - clean.double()).flatten(1)
    return (-10 * change.square().mean(1).log10()).to(images.dtype)


def _check_pair(a: Heatmaps, b: Heatmaps) -> None:
    if a.ndim != 3 or a.shape != b.shape:
        raise InputError(
            f"maps [batch, rows, cols] of one shape were expected, got {list(a.shape)} and {list(b.shape)}"
        )
