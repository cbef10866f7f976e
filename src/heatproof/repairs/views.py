"""Further views of the photos, on which the function is held: of a few photos alone it would be learnt by heart."""

import torch
import torch.nn.functional as F
from torch import Tensor

from heatproof.data.listing import UNLABELLED
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


def _one(images: Tensor, mixed: bool, generator: torch.Generator) -> Tensor:
    moved = torch.stack([_moved(image, generator) for image in images])
    if not mixed:
        return moved
    other = moved[torch.randperm(len(moved), generator=generator)]
    share = 0.5 + 0.5 * torch.rand(len(moved), 1, 1, 1, generator=generator)
    blend = share * moved.float() + (1 - share) * other.float()
    return blend.round().to(images.dtype) if images.dtype == torch.uint8 else blend


def _moved(image: Tensor, generator: torch.Generator) -> Tensor:
    rows, cols = image.shape[1:]
    most = [max(1, round(side * SHIFT)) for side in (rows, cols)]
    down, right = (int(torch.randint(2 * m + 1, (), generator=generator)) for m in most)
    wide = F.pad(image[None].float(), (most[1], most[1], most[0], most[0]), mode="replicate")[0]
    view = wide[:, down : down + rows, right : right + cols].to(image.dtype)
    return view.flip(2) if bool(torch.rand((), generator=generator) < 0.5) else view
