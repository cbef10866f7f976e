"""Photos in batches for a network, read in a few threads while the network is busy; memory does not grow.

Both streams are pure: what a batch holds follows from its arguments and from the photos, whatever was read before. So
a run that was stopped goes on where it was, and processes can share the work.
"""

import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from heatproof.data.channels import as_channels, dark, in_range
from heatproof.data.photos import Fit, as_preprocessing, fitted, reading, resized, scaled
from heatproof.data.sources import Photo, Photos
from heatproof.errors import InputError
from heatproof.preprocessing import Preprocessing
from heatproof.types import Images, Labels

T = TypeVar("T")

Augment = Literal["flip", "crop", "zoom"]
"""``flip``: mirrored left to right, half of the time. ``crop``: a part of the photo, then ``flip``. ``zoom``: the same
with at least half of the photo, for objects that fill it (faces)."""

AHEAD = 2  # batches that are read before they are asked for
AREA = {"crop": (0.08, 1.0), "zoom": (0.5, 1.0)}
"""Share of the photo that is kept, and below its proportions: of "crop" Szegedy et al. 2015, as in torchvision."""
RATIO = (3 / 4, 4 / 3)


class Batch(NamedTuple):
    """Some photos at the model's input size.

    Attributes:
        ids: Names of the photos.
        images: In [0, 1], ``[N, channels, rows, cols]``.
        labels: Classes, or -1, ``[N]``.
    """

    ids: list[str]
    images: Images
    labels: Labels


def batches(
    source: Photos,
    size: int | Preprocessing,
    batch_size: int,
    *,
    how: Fit = "resize",
    workers: int | None = None,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Every photo once, in order.

    Photos that cannot be read are left out and noted in ``source.skipped`` when their turn has come; the batch is
    smaller then. At most three batches are in memory: the one handed out and two that are being read.

    Args:
        source: What :func:`~heatproof.data.sources.open_data` returned, or :class:`~heatproof.data.pairs.TwoClass`.
        size: How photos come to the model: ``model.preprocessing``, or a mere side in pixels.
        batch_size: Photos in a batch; the last one may have fewer.
        how: How photos come to a mere size, see :func:`~heatproof.data.photos.fit`.
        workers: Threads that read; by default one for each processor, and at most 8.
        start: Position in the source to begin at; ``source.ids.index(last) + 1`` goes on after a photo.
        shard: ``(index, count)``: take the positions that leave ``index`` when divided by ``count``. The shards of all
            indices hold every photo once, wherever each of them starts.

    Raises:
        InputError: A number makes no sense.
    """
    index, count = _checked(batch_size, shard, start, workers)
    positions = range(start + (index - start) % count, len(source), count)
    wanted = as_preprocessing(size, how)

    def read(place: int) -> tuple[Photo | None, str]:
        with reading():
            try:
                photo = source[place]
                remark = dark(photo.image, wanted.range)
                image = photo.image if photo.fitted else fitted(photo.image, wanted)
            except InputError as error:
                return None, str(error)
            if remark:
                warnings.warn(f"{photo.id}: {remark}", stacklevel=2)
            return photo._replace(image=image), ""

    # checked above at the call, not at the first batch
    return _batches(source, positions, read, batch_size, workers)


def _batches(
    source: Photos,
    positions: range,
    read: Callable[[int], tuple[Photo | None, str]],
    batch_size: int,
    workers: int | None,
) -> Iterator[Batch]:
    photos: list[Photo] = []
    with closing(_ahead(read, positions, AHEAD * batch_size, workers)) as stream:
        for taken, (photo, reason) in enumerate(stream, start=1):
            if photo is None:
                source.skip(source.ids[positions[taken - 1]], reason)
            else:
                photos.append(photo)
            if photos and (taken % batch_size == 0 or taken == len(positions)):
                yield _batch(photos)


def training_batches(
    source: Photos,
    size: int | Preprocessing,
    batch_size: int,
    steps: int,
    seed: int,
    *,
    augment: Augment | None = None,
    how: Fit = "resize",
    workers: int | None = None,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """One batch for each step from ``start`` to ``steps - 1``; a pure function of (seed, step).

    The photos are shuffled anew for every pass over the data and the passes follow each other without a gap: each
    photo occurs once in a pass, none is dropped, every batch is full, and a batch may reach into the next pass.
    A photo that cannot be read is noted in ``source.skipped`` and the next one of the shuffled order stands in for it.

    Args:
        source: What :func:`~heatproof.data.sources.open_data` returned, or :class:`~heatproof.data.pairs.TwoClass`.
        size: How photos come to the model: ``model.preprocessing``, or a mere side in pixels.
        batch_size: Photos in a batch, over all shards together.
        steps: Where the stream ends.
        seed: Not negative; drives the order and the changes of the photos.
        augment: ``"flip"``, ``"crop"``, ``"zoom"`` or nothing; drawn for each (seed, step, place in the batch).
        how: How photos come to a mere size, where they are not cropped at random.
        workers: Threads that read; by default one for each processor, and at most 8.
        start: First step, to resume a run that was stopped.
        shard: ``(index, count)``: of every batch, the places that leave ``index`` when divided by ``count``.

    Raises:
        InputError: A number makes no sense, there is no photo at all, or (when it is met) none can be read.
    """
    index, count = _checked(batch_size, shard, start, workers)
    if augment is not None and augment not in get_args(Augment):
        raise InputError(f"augment is one of {', '.join(get_args(Augment))} or None, got {augment!r}")
    if seed < 0:
        raise InputError(f"seed must not be negative, got {seed}")
    if batch_size < count:
        raise InputError(f"a batch of {batch_size} cannot be shared by {count} processes")
    if not len(source):
        raise InputError("there is no photo to train on")
    order, wanted = _shuffled(len(source), seed), as_preprocessing(size, how)

    def read(turn: tuple[int, int]) -> tuple[Photo, list[tuple[str, str]]]:
        step, place = turn
        lost = []
        for attempt in range(len(source)):
            position = order(step * batch_size + place, attempt)
            with reading():
                try:
                    photo = source[position]
                    image = _augmented(photo, wanted, augment, [seed, step, place])
                except InputError as error:
                    lost.append((source.ids[position], str(error)))
                    continue
                return photo._replace(image=image), lost
        raise InputError(f"none of the {len(source)} photos can be read: {lost[0][0]} {lost[0][1]}")

    return _training(source, read, range(index, batch_size, count), range(start, steps), workers)


def _training(
    source: Photos,
    read: Callable[[tuple[int, int]], tuple[Photo, list[tuple[str, str]]]],
    places: range,
    steps: range,
    workers: int | None,
) -> Iterator[Batch]:
    turns = ((step, place) for step in steps for place in places)
    photos: list[Photo] = []
    with closing(_ahead(read, turns, AHEAD * len(places), workers)) as stream:
        for photo, lost in stream:
            for image, reason in lost:
                source.skip(image, reason)
            photos.append(photo)
            if len(photos) == len(places):
                yield _batch(photos)


def _checked(batch_size: int, shard: tuple[int, int], start: int, workers: int | None) -> tuple[int, int]:
    index, count = shard
    if batch_size < 1:
        raise InputError(f"the batch size must be at least 1, got {batch_size}")
    if not 0 <= index < count:
        raise InputError(f"shard is (index, count) with 0 <= index < count, got {shard}")
    if workers is not None and workers < 1:
        raise InputError(f"reading needs at least 1 worker, got {workers}")
    if start < 0:
        raise InputError(f"start must not be negative, got {start}")
    return index, count


def _ahead(work: Callable[..., T], tasks: Iterable[Any], ahead: int, workers: int | None) -> Generator[T, None, None]:
    """``map(work, tasks)`` in threads, in order, with at most ``ahead`` results waiting besides the one handed out."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers or min(8, processors), thread_name_prefix="heatproof-photos")
    waiting: deque[Future[T]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also when the stream is left before its end
        pool.shutdown(cancel_futures=True)


def _batch(photos: list[Photo]) -> Batch:
    """The photos as a batch; the list is empty then, so that none is held twice while the batch is at work."""
    labels = torch.tensor([photo.label for photo in photos])
    names, pixels = [photo.id for photo in photos], [photo.image for photo in photos]
    photos.clear()
    if all(image.dtype == torch.uint8 for image in pixels):
        # as bytes: a quarter of the memory for the second copy; by NumPy, in this thread alone: torch would wait for
        # threads of its own on processors where the next photos are being read (60 ms for a batch of 16, not 4)
        values = np.stack([image.numpy() for image in pixels]).astype(np.float32, order="C")
        values /= np.float32(255)
        return Batch(names, torch.from_numpy(values), labels)
    return Batch(names, torch.stack([scaled(image) for image in pixels]), labels)


def _shuffled(count: int, seed: int) -> Callable[[int, int], int]:
    """The position at a turn of the endless shuffled stream; ``attempt`` goes on within the same pass."""

    @lru_cache(maxsize=2)  # threads may still be in the last pass when the next begins
    def shuffled(number: int) -> np.ndarray:
        return np.random.default_rng([seed, number]).permutation(count)

    return lambda turn, attempt: int(shuffled(turn // count)[(turn + attempt) % count])


def _augmented(
    photo: Photo, wanted: Preprocessing, augment: Augment | None, key: list[int]
) -> UInt8[Tensor, "channels rows cols"] | Float[Tensor, "channels rows cols"]:
    image = photo.image
    if augment not in AREA:
        image = image if photo.fitted else fitted(image, wanted)
    if augment is None:
        return image
    draw = np.random.default_rng(key)
    if augment in AREA:
        image = in_range(as_channels(image, wanted), wanted.range)
        image = resized(
            image, wanted.shape, _part(image.shape[-1], image.shape[-2], AREA[augment], draw), wanted=wanted
        )
    return image.flip(-1) if draw.random() < 0.5 else image


def _part(
    width: int, height: int, shares: tuple[float, float], draw: np.random.Generator
) -> tuple[float, float, float, float]:
    """A box of random area and proportions within the photo; the largest one of allowed proportions if none fits."""
    for _ in range(10):
        area = width * height * draw.uniform(*shares)
        ratio = np.exp(draw.uniform(*np.log(RATIO)))
        across, down = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < across <= width and 0 < down <= height:
            left, top = int(draw.integers(width - across + 1)), int(draw.integers(height - down + 1))
            return left, top, left + across, top + down
    across, down = min(width, height * RATIO[1]), min(height, width / RATIO[0])
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, left + across, top + down
