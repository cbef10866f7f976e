"""What is trained on, from what a user gives: photos in files, tensors, scenes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from heatproof.data.batches import Augment, Batch, batches, training_batches
from heatproof.data.listing import UNLABELLED
from heatproof.data.pairs import TwoClass, two_class
from heatproof.data.photos import Fit
from heatproof.data.sources import Source, part_source
from heatproof.errors import InputError
from heatproof.models.classifier import Classifier
from heatproof.preprocessing import Preprocessing
from heatproof.training.feeds import Fed, Feed, TensorFeed
from heatproof.training.settings import FineTune

IN_MEMORY = 1 << 30
"""Bytes of pixels up to which photos that do not change are read once and held in memory."""


@dataclass(frozen=True)
class PhotoFeed:
    """A source as a :class:`~heatproof.training.feeds.Feed`.

    Args:
        source: opened data, or two-class images.
        size: how photos come to the model, or the side of the images in pixels.
        augment: ``"flip"``, ``"crop"``, ``"zoom"`` or nothing.
        how: how photos come to the size.
    """

    source: Source | TwoClass
    size: int | Preprocessing
    augment: Augment | None = None
    how: Fit = "resize"

    @property
    def ids(self) -> Sequence[str]:
        return self.source.ids

    @property
    def labels(self) -> Sequence[int]:
        return self.source.labels

    @property
    def fixed(self) -> bool:
        return self.augment is None

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.source.ids)}

    def stream(
        self, batch_size: int, steps: int, seed: int, start: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[Fed]:
        found = training_batches(
            self.source,
            self.size,
            batch_size,
            steps,
            seed,
            augment=self.augment,
            how=self.how,
            start=start,
            shard=shard,
        )
        return map(self._fed, found)

    def ordered(self, batch_size: int) -> Iterator[Fed]:
        return map(self._fed, batches(self.source, self.size, batch_size, how=self.how))

    def _fed(self, batch: Batch) -> Fed:
        return Fed(torch.tensor([self._places[name] for name in batch.ids]), batch.images, batch.labels)

    def in_memory(self) -> TensorFeed:
        """All photos that can be read, as whole grey levels where they have 8 bits."""
        names: list[str] = []
        labels: list[Tensor] = []
        images = torch.empty(0, dtype=torch.uint8)
        # batch by batch, since all photos as floats would take four times what is kept, and their copies as much again
        for batch in batches(self.source, self.size, 64, how=self.how):
            levels = (batch.images * 255).round()
            if not names:
                images = torch.empty((len(self), *levels.shape[1:]), dtype=torch.uint8)
            if images.dtype == torch.uint8 and not torch.equal(levels / 255, batch.images):
                images = images.float() / 255
            kept = slice(len(names), len(names) + len(levels))
            images[kept] = levels if images.dtype == torch.uint8 else batch.images
            names += batch.ids
            labels.append(batch.labels)
        if not names:
            raise InputError("none of the photos can be read")
        return TensorFeed(images[: len(names)], torch.cat(labels), names)


def feed_photos(
    source: Source | TwoClass,
    size: int | Preprocessing,
    *,
    augment: Augment | None = None,
    how: Fit = "resize",
    wanted: int | None = None,
) -> Feed:
    """A feed of photos: read once where they do not change, are few enough, and come more than once.

    Args:
        wanted: how many images will be wanted in all; ``None``: more than there are.
    """
    feed = PhotoFeed(source, size, augment, how)
    again = wanted is None or wanted > len(source)
    pixels = math.prod(size.shape) * size.channels if isinstance(size, Preprocessing) else 3 * size * size
    return feed.in_memory() if feed.fixed and again and len(source) * pixels <= IN_MEMORY else feed


@runtime_checkable
class _Labelled(Protocol):
    @property
    def images(self) -> object: ...
    @property
    def labels(self) -> object: ...


def as_feed(
    data: object, size: int | Preprocessing = 224, augment: Augment | None = None, wanted: int | None = None
) -> Feed:
    """A feed of ``(images, labels)``, anything with ``images`` and ``labels`` (scenes), images alone, or opened photos.

    Args:
        data: a feed is handed back as it is.
        size: of photos: how they come to the model, or the side of the images in pixels.
        augment: of photos.
        wanted: of photos, see :func:`feed_photos`.

    Raises:
        InputError: for anything else.
    """
    match data:
        case Feed():
            return data
        case Source() | TwoClass():
            return feed_photos(data, size, augment=augment, wanted=wanted)
        case Tensor():
            return TensorFeed(data, torch.full((len(data),), UNLABELLED))
        case _Labelled(images=Tensor() as images, labels=Tensor() as labels) | (Tensor() as images, Tensor() as labels):
            return TensorFeed(images, labels)
        case _:
            raise InputError(
                f"data to fine-tune on are (images, labels) tensors, scenes, or opened data, got {type(data).__name__}"
            )


def part_photos(data: object, held_out: object, settings: FineTune) -> tuple[object, object]:
    """Opened photos without held-out ones in two; everything else as it is."""
    if held_out is None and isinstance(data, Source):
        return part_source(data, settings.holdout, settings.seed)
    return data, held_out


def train_and_held_out(
    data: object, held_out: object, settings: FineTune, size: int | Preprocessing = 224
) -> tuple[Feed, Feed]:
    """What is trained on and what is evaluated on; by default a share of the data is set aside for the latter.

    Raises:
        InputError: data that are none, too few of them, or a feed without held-out images.
    """
    data, held_out = part_photos(data, held_out, settings)
    feed = as_feed(data, size, settings.augment, wanted=settings.steps * settings.batch_size)
    if held_out is not None:
        return feed, as_feed(held_out, size)
    if not isinstance(feed, TensorFeed):
        raise InputError("held-out images are needed to measure accuracy and success: give held_out")
    return feed.split(settings.holdout, settings.seed)


def two_class_photos(
    data: object, held_out: object, classes: tuple[int, int], size: int | Preprocessing
) -> tuple[TwoClass, TwoClass]:
    """Images that show both classes, made of opened photos: as many as Heo et al. train on (1100) and judge by (200).

    Raises:
        InputError: the data are no opened photos, or have too few of a class.
    """
    return two_class(data, classes, size, 1100), two_class(held_out, classes, size, 200)


def image_size(model: nn.Module) -> int | Preprocessing:
    """How photos come to the model; a bare network does not say, and takes 224 pixels a side."""
    return model.preprocessing if isinstance(model, Classifier) else 224
