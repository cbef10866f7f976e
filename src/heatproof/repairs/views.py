"""Further views of the photos, on which the function is held: of a few photos alone it would be learnt by heart."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from heatproof.data.listing import UNLABELLED
from heatproof.repairs.witness import Witness
from heatproof.training.feeds import TensorFeed

SHIFT = 1 / 8
"""The largest shift as a share of a side."""


def views(feed: TensorFeed, count: int, seed: int) -> TensorFeed:
    """Of each photo so many others: mirrored half of the time, shifted, and half of them mixed with another photo.

    Nobody knows what is in them, and nobody need: they are shown to the checkpoint, and its outputs are held. What is
    shifted in repeats the border.

    >>> from heatproof.training.feeds import TensorFeed
    >>> len(views(TensorFeed(torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.long)), 3, seed=0))
    12
    """
    generator = torch.Generator().manual_seed(seed)
    found = [_one(feed.images, mixed=bool(number % 2), generator=generator) for number in range(count)]
    images = torch.cat(found)
    return TensorFeed(images, torch.full((len(images),), UNLABELLED))


def moved(feed: TensorFeed, count: int, seed: int) -> tuple[TensorFeed, Tensor]:
    """Of each photo so many copies, mirrored half of the time and shifted, and how each was moved.

    >>> photos = TensorFeed(torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.long))
    >>> copies, moves = moved(photos, 3, seed=0)
    >>> len(copies), list(moves.shape)
    (12, [12, 3])
    """
    generator = torch.Generator().manual_seed(seed)
    moves = [_draw(feed.images, generator) for _ in range(count)]
    images = torch.cat([_moved(feed.images, some) for some in moves])
    return TensorFeed(images, feed.labels.repeat(count)), torch.cat(moves)


def moved_along(witness: Witness, moves: Tensor, size: Sequence[int]) -> Witness:
    """The witness of copies of photos of this size; bilinear between its cells.

    What the checkpoint would be asked of a moved photo it was asked of the photo: no further question is needed.
    """
    maps = witness.maps.repeat(len(moves) // len(witness.maps), 1, 1)
    up, left, mirrored = moves.to(maps).unbind(1)
    places = torch.zeros(len(maps), 2, 3).to(maps)
    places[:, 0, 0], places[:, 1, 1] = 1 - 2 * mirrored, 1
    places[:, 0, 2], places[:, 1, 2] = 2 * left / size[1], 2 * up / size[0]
    grid = F.affine_grid(places, [len(maps), 1, *maps.shape[1:]], align_corners=False)
    return Witness(F.grid_sample(maps[:, None], grid, padding_mode="border", align_corners=False)[:, 0])


def _one(images: Tensor, mixed: bool, generator: torch.Generator) -> Tensor:
    found = _moved(images, _draw(images, generator))
    if not mixed:
        return found
    other = found[torch.randperm(len(found), generator=generator)]
    share = 0.5 + 0.5 * torch.rand(len(found), 1, 1, 1, generator=generator)
    blend = share * found.float() + (1 - share) * other.float()
    return blend.round().to(images.dtype) if images.dtype == torch.uint8 else blend


def _draw(images: Tensor, generator: torch.Generator) -> Tensor:
    """Of each image, how many rows and columns it is shifted up and left by, and whether it is mirrored then."""
    shifts = [
        torch.randint(-most, most + 1, (len(images),), generator=generator)
        for most in (max(1, round(side * SHIFT)) for side in images.shape[2:])
    ]
    return torch.stack([*shifts, torch.randint(2, (len(images),), generator=generator)], 1)


def _moved(images: Tensor, moves: Tensor) -> Tensor:
    rows, cols = images.shape[2:]
    found = torch.empty_like(images)
    for place, (up, left, mirrored) in enumerate(moves.tolist()):
        down, right = (torch.arange(side) for side in (rows, cols))
        # what is shifted in repeats the border
        view = images[place][:, (down + up).clamp(0, rows - 1)][:, :, (right + left).clamp(0, cols - 1)]
        found[place] = view.flip(2) if mirrored else view
    return found
