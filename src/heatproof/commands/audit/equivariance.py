"""Does a photo's map move with the photo? The one number of an audit whose zero means something without other networks.

A lie that was planted in a place stays in that place when the photo is moved under it.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from heatproof.heatmaps import pearson
from heatproof.models.classifier import Classifier
from heatproof.types import Explainer, Heatmaps, Images, PerImage, Targets

PART = 4
"""A photo is moved by one part in so many of its sides."""
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))
"""Down, up, right and left; each is a forward pass."""
CELLS = 8
"""The most cells a side at which maps are compared: finer ones are averaged, since edges hardly ever fall on edges."""


def equivariance(
    model: Classifier, explainer: Explainer, images: Images, heatmaps: Heatmaps, targets: Targets
) -> PerImage:
    """How much more the map of a moved photo is the moved map than the map that stayed where it was.

    Mean over the moves T of r(h(Tx), T h(x)) - r(h(Tx), h(x)), r Pearson's correlation over the cells that are seen
    before and after. The photo goes by a quarter of its side, in whole cells of the map; what is left open is filled
    with the photo's mirror image. Translation equivariance: Crabbé and van der Schaar 2023 (explanations of models
    that are invariant under a group); taking the map that stayed off, and reading it as a sign of a lie, is ours.

    **Range** [-2, 2], 0: the map stays as much as it moves; below: it stays. NaN where no move keeps the predicted
    class, or a map is equal everywhere.

    Args:
        heatmaps: those of the photos, by the same explainer.
        targets: the explained classes.
    """
    rows, cols = heatmaps.shape[1:]
    if rows < PART or cols < PART:
        return heatmaps.new_full((len(heatmaps),), torch.nan)
    found = []
    for down, right in moves(rows, cols):
        pixels = round(down * images.shape[2] / rows), round(right * images.shape[3] / cols)
        after = explainer(model, moved(images, *pixels), targets)
        here, there = _seen_twice(after.heatmaps.detach().float(), -down, -right), _seen_twice(heatmaps, down, right)
        stayed = _seen_twice(heatmaps, -down, -right)
        more = pearson(_coarse(here), _coarse(there)) - pearson(_coarse(here), _coarse(stayed))
        found.append(more.masked_fill(after.logits.argmax(1) != targets, torch.nan))
    return torch.stack(found).nanmean(0)


def moves(rows: int, cols: int) -> Iterator[tuple[int, int]]:
    """By how many cells a map of so many goes, down and to the right.

    >>> list(moves(8, 7))
    [(2, 0), (-2, 0), (0, 2), (0, -2)]
    """
    for down, right in DIRECTIONS:
        yield down * round(rows / PART), right * round(cols / PART)


def moved(images: Images, down: int, right: int) -> Images:
    """The photos, with what is left open filled by their mirror image.

    >>> moved(torch.arange(4.0).view(1, 1, 1, 4), 0, 1).flatten().tolist()
    [1.0, 0.0, 1.0, 2.0]
    """
    high, wide = abs(down), abs(right)
    wider = F.pad(images, (wide, wide, high, high), mode="reflect")
    top, left = high - down, wide - right
    return wider[..., top : top + images.shape[2], left : left + images.shape[3]]


def _seen_twice(maps: Heatmaps, down: int, right: int) -> Float[Tensor, "batch high wide"]:
    """The cells that are still there after a move, where they were before it."""
    rows, cols = maps.shape[1:]
    return maps[:, max(-down, 0) : rows - max(down, 0), max(-right, 0) : cols - max(right, 0)]


def _coarse(maps: Float[Tensor, "batch rows cols"]) -> Float[Tensor, "batch high wide"]:
    rows, cols = (min(side, CELLS) for side in maps.shape[1:])
    return F.adaptive_avg_pool2d(maps[:, None], (rows, cols))[:, 0]
