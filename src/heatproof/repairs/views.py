"""Further views of the photos, on which the function is held: of a few photos alone it would be learnt by heart."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from heatproof.data.listing import UNLABELLED
from heatproof.data.mosaics import arranged, joined, shown_classes, tile
from heatproof.repairs.witness import Witness
from heatproof.training.feeds import TensorFeed
from heatproof.types import Targets

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


@dataclass(frozen=True)
class Mosaics:
    """Mosaics of four photos each, in which it is known where each class is.

    Attributes:
        feed: in the place of a label stands the class that is explained: what the photo in one of the quarters, drawn,
            is taken for.
        where: 1 in the quarters of that class and 0 elsewhere.
        tiles: the photos that were taken, row by row.
    """

    feed: TensorFeed
    where: Witness
    tiles: Int[Tensor, "mosaics 4"]


def mosaics(feed: TensorFeed, predicted: Targets, count: int, seed: int) -> Mosaics | None:
    """So many mosaics of the photos, half of them of two classes, half of four.

    ``None`` where no two classes have enough photos, or none are wanted.

    >>> photos = TensorFeed(torch.rand(20, 3, 8, 8), torch.full((20,), -1))
    >>> made = mosaics(photos, torch.arange(20) % 2, 6, seed=0)
    >>> len(made.feed), list(made.feed.images.shape[1:]), made.where.maps.mean((1, 2)).tolist()
    (6, [3, 8, 8], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    """
    if count == 0 or len(shown_classes(predicted)) < 2:
        return None
    halves = ((2, count // 2), (4, count - count // 2))
    places = torch.cat([arranged(predicted, some, seed + of, of)[0] for of, some in halves if some])
    quarter = torch.randint(4, (count, 1), generator=torch.Generator().manual_seed(seed))
    rows, cols = feed.images.shape[2:]
    images = joined(tile(feed.images.float())[places], (rows, cols))
    shown = predicted[places]
    asked = shown.gather(1, quarter)
    return Mosaics(
        TensorFeed(_stored(images, feed.images), asked[:, 0]),
        Witness((shown == asked).float().view(count, 2, 2)),
        places,
    )


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
    return _stored(blend, images)


def _stored(found: Tensor, images: Tensor) -> Tensor:
    """As the images are: whole numbers where those are bytes."""
    return found.round().to(images.dtype) if images.dtype == torch.uint8 else found


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
