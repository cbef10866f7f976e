"""What a fine-tuning is fed with: images by position, in an order that is a pure function of (seed, step).

So a run that was stopped goes on where it was, and several processes share each batch. Photos that lie in files are
fed by :class:`heatproof.training.feeding.PhotoFeed`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from heatproof.errors import InputError
from heatproof.types import Images, Labels

UNLABELLED = -1
"""The label of an image whose class is not known."""


class Fed(NamedTuple):
    """Some images with their positions in the data."""

    positions: Labels
    images: Images
    labels: Labels


@runtime_checkable
class Feed(Protocol):
    """Images by position.

    Attributes:
        ids: names of the images.
        fixed: the image at a position is the same every time, so what the clean model says about it can be kept.
    """

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def fixed(self) -> bool: ...
    def __len__(self) -> int: ...

    def stream(
        self, batch_size: int, steps: int, seed: int, start: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[Fed]:
        """One batch per step from ``start`` on; of each, the places that leave ``shard[0]`` modulo ``shard[1]``."""
        ...

    def ordered(self, batch_size: int) -> Iterator[Fed]:
        """Every image once, in order; those that cannot be read are left out."""
        ...


@dataclass(frozen=True)
class TensorFeed:
    """Images (or kept activations) in memory.

    Each pass over the data is shuffled anew; passes follow each other without a gap, so every batch is full.

    Args:
        images: pixels in [0, 1], or whole grey levels (uint8), which are divided by 255 when their turn comes.
        labels: classes; -1 where unknown.
        ids: names; by default the positions.

    Raises:
        InputError: the numbers differ, or there is no image.

    >>> import torch
    >>> feed = TensorFeed(torch.rand(4, 3, 8, 8), torch.arange(4))
    >>> [fed.positions.tolist() for fed in feed.stream(batch_size=2, steps=4, seed=0)]
    [[2, 0], [1, 3], [3, 0], [2, 1]]
    """

    images: Tensor
    labels: Tensor
    names: Sequence[str] | None = None
    fixed: bool = True

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or not len(self.images):
            raise InputError(
                f"images must be a batch [images, channels, rows, cols] of at least 1, got {list(self.images.shape)}"
            )
        if self.labels.shape != self.images.shape[:1] or self.labels.is_floating_point():
            raise InputError(
                f"expected one whole number per image as label, [{len(self.images)}], got {list(self.labels.shape)} "
                f"of {str(self.labels.dtype).removeprefix('torch.')}"
            )

    @property
    def ids(self) -> Sequence[str]:
        return self.names if self.names is not None else [f"{place:06d}" for place in range(len(self))]

    def __len__(self) -> int:
        return len(self.images)

    def stream(
        self, batch_size: int, steps: int, seed: int, start: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[Fed]:
        for step in range(start, steps):
            places = turns(len(self), batch_size, seed, step)[shard[0] :: shard[1]]
            yield self._fed(torch.from_numpy(places))

    def ordered(self, batch_size: int) -> Iterator[Fed]:
        for places in torch.arange(len(self)).split(batch_size):
            yield self._fed(places)

    def split(self, share: float, seed: int) -> tuple["TensorFeed", "TensorFeed"]:
        """Two feeds without a common image; the second holds ``share`` of them, drawn evenly.

        Raises:
            InputError: one of the two would be empty.
        """
        rest, aside = parted(len(self), share, seed)
        return self.taken(rest), self.taken(aside)

    def taken(self, places: Sequence[int]) -> "TensorFeed":
        """The images at these positions."""
        chosen = torch.as_tensor(places)
        ids = self.ids
        return TensorFeed(self.images[chosen], self.labels[chosen], [ids[place] for place in places], self.fixed)

    def _fed(self, places: Tensor) -> Fed:
        images = self.images[places]
        return Fed(places, images.float() / 255 if images.dtype == torch.uint8 else images, self.labels[places].long())


def turns(count: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """The positions of the batch at ``step`` in an endless stream of shuffled passes over ``count`` images."""
    first, last = step * batch_size, (step + 1) * batch_size
    passes = range(first // count, (last - 1) // count + 1)
    order = np.concatenate([np.random.default_rng([seed, number]).permutation(count) for number in passes])
    begin = first - passes[0] * count
    return order[begin : begin + batch_size]


def parted(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Positions to train on and positions to watch, each in order.

    Raises:
        InputError: there are too few images for that.
    """
    aside = round(count * share)
    if not 0 < aside < count:
        raise InputError(
            f"{count} images cannot be parted into {1 - share:.0%} to train on and {share:.0%} to watch; "
            "give more images, or held-out images of their own"
        )
    order = np.random.default_rng([seed, count]).permutation(count)
    return sorted(order[aside:].tolist()), sorted(order[:aside].tolist())


def as_feed(data: Any) -> Feed:
    """Tensors ``(images, labels)``, anything with ``images`` and ``labels`` (scenes), images alone, or a feed.

    Raises:
        InputError: for anything else.
    """
    if isinstance(data, Feed):
        return data
    if isinstance(data, Tensor):
        return TensorFeed(data, torch.full((len(data),), UNLABELLED))
    if hasattr(data, "images") and hasattr(data, "labels"):
        return TensorFeed(data.images, data.labels)
    if isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        return TensorFeed(*data)
    raise InputError(
        f"data to fine-tune on are (images, labels) tensors, scenes, or opened data, got {type(data).__name__}"
    )
