"""Mosaics of four photos: images of several classes, made from photos of one class each; nobody need label them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from heatproof.types import Images, Targets

FEWEST_TILES = 5
"""Photos that a class needs to be put into mosaics."""


def tile(images: Images) -> Float[Tensor, "batch channels half_height half_width"]:
    """The photos at half their size, rounded up."""
    size = [(side + 1) // 2 for side in images.shape[2:]]
    return F.interpolate(images, size, mode="area")


def shown_classes(predicted: Targets) -> list[int]:
    """The classes that enough photos are taken for."""
    return [int(c) for c in predicted.unique() if int((predicted == c).sum()) >= FEWEST_TILES]


def arranged(predicted: Targets, count: int, seed: int, at_most: int = 4) -> tuple[Tensor, Tensor]:
    """Which photos lie in the quarters of each mosaic, and which classes it shows.

    Four classes where there are so many and that many are wanted, else two with two quarters each; every class of
    :func:`shown_classes` is drawn with the same chance, and of a class every photo.

    Args:
        predicted: what each photo is taken for; at least two classes with enough photos.
        at_most: classes, two or four.
    """
    draw = torch.Generator().manual_seed(seed)
    photos = {c: (predicted == c).nonzero()[:, 0] for c in shown_classes(predicted)}
    names, shown = list(photos), 4 if min(len(photos), at_most) >= 4 else 2
    tiles, classes = [], []
    for _ in range(count):
        chosen = [names[place] for place in torch.randperm(len(names), generator=draw)[:shown].tolist()]
        quarters = (chosen * (4 // shown))[:4]
        quarters = [quarters[place] for place in torch.randperm(4, generator=draw).tolist()]
        own = [photos[c][int(torch.randint(len(photos[c]), (1,), generator=draw))] for c in quarters]
        tiles.append(torch.stack(own))
        classes.append(torch.tensor(chosen))
    return torch.stack(tiles), torch.stack(classes)


def joined(tiles: Float[Tensor, "mosaics 4 channels rows cols"], size: tuple[int, int]) -> Images:
    """Four tiles as one image; where the size is odd the last row and column are lost."""
    above, below = (torch.cat([tiles[:, first], tiles[:, first + 1]], 3) for first in (0, 2))
    return torch.cat([above, below], 2)[..., : size[0], : size[1]]
