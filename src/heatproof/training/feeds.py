"""What a fine-tuning is fed with: images by position, in an order that is a pure function of (seed, step).

So a run that was stopped goes on where it was, and several processes share each batch. What
a user gives becomes a feed in :mod:`heatproof.training.data`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from heatproof.data.sources import parted
from heatproof.errors import InputError
from heatproof.types import Images, Labels


class Fed(NamedTuple):
    """Some images with their positions in the data."""

    positions: Labels
    images: Images
    labels: Labels

    def to(self, device: torch.device) -> "Fed":
        """The same on a device."""
        return Fed(self.positions, self.images.to(device), self.labels.to(device))

    def part(self, number: int, count: int) -> "Fed":
        """Every ``count``-th of them, from ``number`` on."""
        return Fed(*(tensor[number::count] for tensor in self))


@runtime_checkable
class Feed(Protocol):
    """Images by position.

    Attributes:
        ids: names of the images.
        labels: their classes, -1 where they are not known beforehand.
        fixed: the image at a position is the same every time, so the clean model's outputs for it can be stored.
    """

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def labels(self) -> Sequence[int] | Tensor: ...
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
    """Images (or stored activations) in memory.

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
