"""The door to data: a name in, photos out, whatever kind of data the name stands for."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from heatproof.data.channels import Pixels
from heatproof.data.kinds import DEMO, DEMO_COUNTS, listing_of
from heatproof.data.listing import Listing
from heatproof.data.photos import read_photo
from heatproof.errors import InputError
from heatproof.paths import as_text
from heatproof.preprocessing import Preprocessing

__all__ = ["DEMO", "DEMO_COUNTS", "Photo", "Photos", "Source", "limited", "open_data", "part_source", "parted"]


class Photo(NamedTuple):
    """One photo as it was read.

    Attributes:
        id: Names the photo within its data, the same wherever the data lies.
        image: At its own size, mostly RGB in 0..255, see :func:`~heatproof.data.photos.read_photo`.
        label: The model's class, or -1.
        fitted: Whether the image is what a network takes, so that nothing more is to be done to it.
    """

    id: str
    image: Pixels
    label: int
    fitted: bool = False


@runtime_checkable
class Photos(Protocol):
    """What batches are made of: photos by position, each a pure function of it."""

    @property
    def ids(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Photo:
        """Read one photo; an :class:`InputError` says why it cannot be read."""
        ...

    def skip(self, image: str, reason: str) -> None:
        """Note that a photo was left out."""
        ...


@dataclass(frozen=True)
class Source:
    """Photos of one data name, read when they are asked for; :func:`open_data` makes it.

    ``source[3]`` reads one photo or raises an :class:`InputError` with the reason. Iterating reads all in order, leaves
    out those that cannot be read and notes them in ``skipped``. Reading is safe in threads.
    """

    name: str
    listing: Listing = field(repr=False)
    positions: Sequence[int] = field(repr=False)
    preprocessing: Preprocessing = field(default=Preprocessing(), repr=False)
    _left_out: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def ids(self) -> list[str]:
        """Every photo's id, in order; nothing is read."""
        return self._ids

    @cached_property
    def _ids(self) -> list[str]:
        return [self.listing.ids[place] for place in self.positions]

    @cached_property
    def labels(self) -> list[int]:
        """Every photo's class, or -1."""
        return [self.listing.labels[place] for place in self.positions]

    @property
    def count(self) -> int:
        """Number of photos listed, readable or not."""
        return len(self.positions)

    @property
    def classes(self) -> Sequence[str] | None:
        """The names that labels count through, where they are known."""
        return self.listing.classes

    @property
    def skipped(self) -> list[dict[str, str]]:
        """``{"image", "reason"}`` of what was left out so far, in the order of the data."""
        places = {name: place for place, name in enumerate(self.ids)}
        met = sorted(self._left_out.items(), key=lambda entry: places.get(entry[0], 0))
        entries = [*self.listing.skipped, *({"image": image, "reason": reason} for image, reason in met)]
        return [{key: as_text(text) for key, text in entry.items()} for entry in entries]

    def skip(self, image: str, reason: str) -> None:
        """Note that a photo was left out; a photo is noted once."""
        self._left_out[image] = reason

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, position: int) -> Photo:
        place = self.positions[position]
        found = self.listing.fetch(place)
        image = found if isinstance(found, Tensor) else self._read(found)
        return Photo(self.listing.ids[place], image, self.listing.labels[place])

    def _read(self, file: Path | bytes) -> Pixels:
        return read_photo(file, name="", channels=self.preprocessing.channels, alpha=self.preprocessing.alpha)

    def __iter__(self) -> Iterator[Photo]:
        for position in range(len(self)):
            try:
                photo = self[position]
            except InputError as error:
                self.skip(self.ids[position], str(error))
            else:
                yield photo

    def fingerprint(self) -> str:
        """A sha256 that tells this data from other data, without reading all of it.

        It covers, of every photo in order: id, label, size in bytes, and the 4 KiB in the middle of its bytes; of a
        Parquet file with photos inside, its size and 256 stretches of 4 KiB spread evenly over it. A change elsewhere
        in a file that leaves its size alone is not seen. Of what lies at an address it covers the size and what
        the store says of the content, where its listing tells them.
        """
        digest = hashlib.sha256()
        for place in self.positions:
            stamp = self.listing.stamp(place)
            digest.update(f"{self.listing.ids[place]}\0{self.listing.labels[place]}\0{len(stamp)}\0".encode())
            digest.update(stamp)
        return digest.hexdigest()


def open_data(
    name: str | Path | Sequence[str | Path],
    *,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    labels: bool = True,
    preprocessing: Preprocessing | None = None,
    count: int | None = None,
) -> Source:
    """Open data by its name; no photo is read yet.

    ===========================  ====================================================================================
    name                         photos, in this order
    ===========================  ====================================================================================
    a file, several files        as given; no labels
    a folder with photos         all below it, sorted; no labels
    a folder of class folders    sorted; labels by class name, WordNet id or number
    ``*.csv``, ``*.tsv``         the rows: ``path`` (from the table's folder) and ``label``
    ``*.parquet``, a folder of   the same, or ``id``, ``image`` (bytes) and ``label``; ``t-{000..009}.parquet`` for
    them                         several
    ``*.tar``, a folder of       tar shards by name, then as they lie: ``key.jpg`` and ``key.cls``;
    them, ``s-{000..009}.tar``   braces stand for a range or a choice
    ``hf:NAME``, ``hf:FOLDER``   a data set of HuggingFace: ``hf:cifar10#split=test`` (``pip install heatproof[hf]``)
    ``s3://``, ``gs://``, ...    each of the above at an address that fsspec reads (``pip install heatproof[remote]``
                                 for ``https://``, ``s3fs`` for ``s3://``, ``gcsfs`` for ``gs://``)
    ``demo``                     the packaged scenes (``demo/train`` for the other split)
    ===========================  ====================================================================================

    Columns of other names are chosen behind the name: ``test.parquet#image=img,label=fine_label`` (``path`` and ``id``
    likewise, of a HuggingFace data set also ``split`` and ``config``).

    Args:
        name: What to open. A folder of your own that is called ``demo`` is ``./demo``.
        classes: The model's class names, which labels are matched to. Without them classes are numbered in the sorted
            order of their names.
        limit: Take so many photos: the data is cut into ``limit`` stretches of equal length and one photo is drawn
            from each, so that sorted classes are all met. The choice depends on the data's length, ``limit`` and
            ``seed`` alone.
        seed: For ``limit``.
        labels: If false every label is -1 and folders need not be classes.
        preprocessing: The model's (``model.preprocessing``): which of many bands, pages and transparency are read.
        count: Of the model's logits; classes that are numbered here, and are not as many, are refused.

    Raises:
        InputError: The data is not there, holds no photo, or its labels do not fit the classes.
        AddressError: The store at an address does not answer, or refuses.
    """
    _check_limit(limit)
    names = [name] if isinstance(name, str | Path) else list(name)
    if not names:
        raise InputError("no data was named: expected photos, a folder, a manifest, tar shards or demo")
    listing = listing_of([str(part) for part in names], classes, labels)
    if labels and classes is None and count is not None:
        _check_count(listing, count, str(names[0]))
    positions = _spread(len(listing.ids), limit, seed)
    shown = str(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    return Source(shown, listing, positions, preprocessing or Preprocessing())


def _check_count(listing: Listing, count: int, name: str) -> None:
    """Stop labels that the model's unnamed classes cannot be."""
    way = "give the model its class names (classes=...), or the folder with the photos themselves to do without labels"
    if listing.classes is not None and len(listing.classes) != count:
        raise InputError(
            f"{name} has {len(listing.classes)} classes ({', '.join(listing.classes[:3])}, ...), and the model has "
            f"{count} without names: which is which is not known; {way}"
        )
    if max(listing.labels, default=0) >= count:
        raise InputError(f"{name} has a class {max(listing.labels)}, and the model has {count}, from 0 on; {way}")


def _check_limit(limit: int | None) -> None:
    if limit is not None and (type(limit) is not int or limit < 1):
        raise InputError(f"limit must be a whole number, at least 1 photo, got {limit!r}")


def limited(source: Source, limit: int | None, seed: int = 0) -> Source:
    """At most ``limit`` of the photos, chosen as :func:`open_data` chooses them.

    Raises:
        InputError: a limit below 1.
    """
    _check_limit(limit)
    if limit is None:
        return source
    places = _spread(len(source), limit, seed)
    return replace(source, positions=[source.positions[place] for place in places])


def _spread(count: int, limit: int | None, seed: int) -> Sequence[int]:
    if limit is None or limit >= count:
        return range(count)
    shares = np.random.default_rng(seed).random(limit)
    edges = [count * stretch // limit for stretch in range(limit + 1)]
    return [
        start + int(share * (end - start)) for start, end, share in zip(edges, edges[1:], shares.tolist(), strict=False)
    ]


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


def part_source(source: Source, share: float, seed: int) -> tuple[Source, Source]:
    """Two sources without a common photo; the second holds ``share`` of them.

    Raises:
        InputError: there are too few photos.
    """
    rest, aside = ([source.positions[place] for place in part] for part in parted(len(source), share, seed))
    return replace(source, positions=rest), replace(source, positions=aside)
