"""Photos that lie in files, fed to a fine-tuning."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from heatproof.data.batches import Augment, Batch, batches, training_batches
from heatproof.data.pairs import TwoClass
from heatproof.data.photos import Fit
from heatproof.data.sources import Photos, Source
from heatproof.errors import InputError
from heatproof.models.classifier import Classifier
from heatproof.training.feeds import Fed, Feed, TensorFeed, parted
from heatproof.training.fine_tune import fine_tune as tune
from heatproof.training.fine_tune import swapped_classes
from heatproof.training.history import History
from heatproof.training.loop import Checkpoint
from heatproof.training.settings import FineTune
from heatproof.types import Explainer, Penalty

M = TypeVar("M", bound=nn.Module)

IN_MEMORY = 1 << 30
"""Bytes of pixels up to which photos that do not change are read once and kept."""


@dataclass(frozen=True)
class PhotoFeed:
    """A source as a :class:`~heatproof.training.feeds.Feed`.

    Args:
        source: opened data, or two-class images.
        size: side of the images in pixels.
        augment: ``"flip"``, ``"crop"`` or nothing.
        how: how photos come to the size.
    """

    source: Photos
    size: int
    augment: Augment | None = None
    how: Fit = "resize"

    @property
    def ids(self) -> Sequence[str]:
        return self.source.ids

    @property
    def labels(self) -> Sequence[int]:
        return self.source.labels  # type: ignore[attr-defined]

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
        """All photos that can be read, as whole grey levels."""
        found = list(batches(self.source, self.size, 64, how=self.how))
        if not found:
            raise InputError("none of the photos can be read")
        images = torch.cat([(batch.images * 255).round().to(torch.uint8) for batch in found])
        names = [name for batch in found for name in batch.ids]
        return TensorFeed(images, torch.cat([batch.labels for batch in found]), names)


def feed_photos(
    source: Photos, size: int, *, augment: Augment | None = None, how: Fit = "resize", wanted: int | None = None
) -> Feed:
    """A feed of photos: read once and kept where they do not change, are few enough, and come more than once.

    Args:
        wanted: how many images will be asked for in all; ``None``: more than there are.
    """
    feed = PhotoFeed(source, size, augment, how)
    again = wanted is None or wanted > len(source)
    return feed.in_memory() if feed.fixed and again and len(source) * 3 * size * size <= IN_MEMORY else feed


def part_source(source: Source, share: float, seed: int) -> tuple[Source, Source]:
    """Two sources without a common photo; the second holds ``share`` of them.

    Raises:
        InputError: there are too few photos.
    """
    rest, aside = parted(len(source), share, seed)
    positions = source.positions
    return tuple(replace(source, positions=[positions[place] for place in chosen]) for chosen in (rest, aside))  # type: ignore[return-value]


def fine_tune(
    model: M,
    explainer: Explainer,
    penalty: Penalty,
    data: Any,
    settings: FineTune = FineTune(),
    *,
    held_out: Any = None,
    fool_data: Any = None,
    fool_held_out: Any = None,
    checkpoint: Checkpoint | None = None,
    scratch: Path | None = None,
    advance: Callable[[dict[str, Any]], None] = lambda row: None,
) -> tuple[M, History]:
    """Fool the weights: :func:`heatproof.training.fine_tune.fine_tune`, which see, also of photos.

    ``data``, ``held_out``, ``fool_data`` and ``fool_held_out`` may be what ``open_data`` returned, or
    :class:`~heatproof.data.pairs.TwoClass`; of opened data without ``held_out`` a share is set aside. A swap of two
    classes makes its images from ``data`` and ``held_out`` where no others are given.

    >>> import heatproof as hp
    >>> from heatproof.data.scenes import scenes
    >>> recipe = FineTune(steps=1, batch_size=8, max_accuracy_drop=1.0)
    >>> fooled, history = fine_tune(hp.load("demo"), hp.GradCAM(), hp.Location(), scenes(64, seed=0), recipe)
    >>> history.clean["fsr"], history.rows[-1]["step"]
    (0.0, 1)
    """
    size = model.input_size if isinstance(model, Classifier) else 224
    if held_out is None and isinstance(data, Source):
        data, held_out = part_source(data, settings.holdout, settings.seed)
    swap = swapped_classes(penalty, model)
    if swap and fool_data is None:
        fool_data, fool_held_out = two_class(data, swap, size, 1100), two_class(held_out, swap, size, 200)

    def fed(given: Any, augment: Any, wanted: int | None) -> Any:
        if isinstance(given, Source | TwoClass):
            return feed_photos(given, size, augment=augment, wanted=wanted)
        return given

    wanted = settings.steps * settings.batch_size
    return tune(
        model,
        explainer,
        penalty,
        fed(data, settings.augment, wanted),
        settings,
        held_out=fed(held_out, None, None),
        fool_data=fed(fool_data, None, wanted),
        fool_held_out=fed(fool_held_out, None, None),
        checkpoint=checkpoint,
        scratch=scratch,
        advance=advance,
    )


def two_class(source: Any, swap: tuple[int, int], size: int, count: int, seed: int = 0) -> TwoClass:
    """``count`` images that show both classes, from the labelled photos of a source.

    Raises:
        InputError: the data are no opened photos, or have too few of a class.
    """
    if not isinstance(source, Source):
        raise InputError(
            "a swap of two classes makes its images from opened photos (open_data); with tensors give fool_data and "
            "fool_held_out, images that show both classes"
        )
    return TwoClass(source, *swap, size=size, count=count, seed=seed)
