"""Pairs of photos that a table lists: a photo, the reference photo it is compared with, and whether it is the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from heatproof.data.listing import Listing, of_files, unique
from heatproof.data.manifests import SUFFIXES, read_columns
from heatproof.data.photos import fitted, reading, scaled
from heatproof.data.sources import Source, limited
from heatproof.errors import InputError
from heatproof.paths import literal
from heatproof.preprocessing import Preprocessing
from heatproof.types import Images

SAME = {"1": 1, "same": 1, "true": 1, "yes": 1, "0": 0, "different": 0, "false": 0, "no": 0, "": -1, "-1": -1}
"""What a table may say of a pair, and the label: 1 of the same person, 0 of two, -1 not known."""


@dataclass(frozen=True)
class PhotoPairs:
    """The photos of a list of pairs as a source, and the reference photo of each.

    Attributes:
        photos: the first photo of each pair; its id names the pair, its label is 1 (same), 0 (different) or -1.
        references: the second, in the same order.
    """

    photos: Source
    references: Source

    def facing(self, ids: Sequence[str], preprocessing: Preprocessing) -> Images:
        """The reference photos of these pairs, as they come to a network.

        Raises:
            InputError: one of them cannot be read.
        """
        return torch.stack([self._reference(pair, preprocessing) for pair in ids])

    @cached_property
    def _places(self) -> dict[str, int]:
        return {pair: place for place, pair in enumerate(self.photos.ids)}

    def _reference(self, pair: str, preprocessing: Preprocessing) -> torch.Tensor:
        place = self._places[pair]
        try:
            with reading():
                return scaled(fitted(self.references[place].image, preprocessing))
        except InputError as error:
            raise InputError(
                f"the reference photo {self.references.ids[place]} cannot be read: {error}; take its pairs out of "
                f"{self.photos.name}"
            ) from error


def paired(source: Source, pairs: Sequence[tuple[int, int]]) -> PhotoPairs:
    """Pairs of the photos of a source, by their places in it; the same where their labels are.

    >>> from heatproof.data.sources import open_data
    >>> demo = open_data("demo")
    >>> paired(demo, [(0, 1)]).photos.ids == [f"{demo.ids[0]}~{demo.ids[1]}"]
    True
    """
    ids = unique(f"{source.ids[a]}~{source.ids[b]}" for a, b in pairs)
    same = [int(source.labels[a] == source.labels[b]) for a, b in pairs]

    def side(which: int) -> Source:
        places = [source.positions[pair[which]] for pair in pairs]
        fetch, stamp = source.listing.fetch, source.listing.stamp
        listing = Listing(ids, same, lambda place: fetch(places[place]), lambda place: stamp(places[place]))
        return Source(source.name, listing, range(len(pairs)), source.preprocessing)

    return PhotoPairs(side(0), side(1))


def draw_pairs(source: Source, count: int, seed: int = 0) -> PhotoPairs:
    """``count`` different pairs, half of them of one person and half of two; every person is drawn equally often.

    Raises:
        InputError: there are not that many pairs of both kinds.
    """
    labels = np.asarray(source.labels)
    own = {int(label): np.flatnonzero(labels == label).tolist() for label in np.unique(labels[labels >= 0])}
    several = [label for label, places in own.items() if len(places) > 1]
    room = sum(len(own[label]) * (len(own[label]) - 1) // 2 for label in several)
    if not several or len(own) < 2 or count // 2 > room // 2 or count < 2:
        raise InputError(
            f"{count} pairs, half of one person and half of two, cannot be drawn from {len(source)} photos of "
            f"{len(own)} people in {source.name}; ask for fewer"
        )
    draw = np.random.default_rng([seed, count])
    found: dict[tuple[int, int], None] = {}
    while len(found) < count:
        if len(found) < count // 2:
            label = draw.choice(several)
            a, b = draw.choice(own[label], 2, replace=False)
        else:
            one, other = draw.choice(list(own), 2, replace=False)
            a, b = draw.choice(own[one]), draw.choice(own[other])
        if (int(b), int(a)) not in found:
            found[int(a), int(b)] = None
    return paired(source, sorted(found))


def open_pairs(
    name: str | Path, *, limit: int | None = None, seed: int = 0, preprocessing: Preprocessing | None = None
) -> PhotoPairs:
    """A table of pairs: ``path``, ``reference`` (from the table's folder) and ``same``; no photo is read yet.

    ``same`` is 1 or 0 (same, different; true, false; yes, no), empty where it is not known.

    Args:
        limit: at most so many pairs, evenly spread, as :func:`~heatproof.data.sources.open_data` takes them.
        preprocessing: the model's.

    Raises:
        InputError: it is no such table, or none of its photos is there.
    """
    path = literal(str(name))
    if path.suffix.casefold() not in SUFFIXES:
        raise InputError(
            f"a likeness is that of a photo and its reference photo: expected a table of pairs ({', '.join(SUFFIXES)}) "
            f"with the columns path, reference and same, got {name}"
        )
    table = read_columns(path, ("path", "reference", "same"))
    files = []
    for column in ("path", "reference"):
        for row, text in enumerate(table[column], start=1):
            if not text:
                raise InputError(f"{path.name} has no {column} in row {row}")
        files.append([Path(path.parent, text).absolute() for text in table[column]])
    for found in files:
        if not any(file.exists() for file in found):
            raise InputError(
                f"none of the {len(found)} photos of {path.name} is there, not even {found[0]}; paths are relative to "
                "the table's own folder"
            )
    same = [_same(text, row, path.name) for row, text in enumerate(table["same"], start=1)]
    texts = [f"{a.parent.name}/{a.name}~{b.parent.name}/{b.name}" for a, b in zip(*files, strict=True)]
    photos, references = (
        Source(str(name), of_files(side, texts, same), range(len(texts)), preprocessing or Preprocessing())
        for side in files
    )
    return PhotoPairs(limited(photos, limit, seed), limited(references, limit, seed))


def _same(text: str, row: int, table: str) -> int:
    label = SAME.get(text.strip().casefold())
    if label is None:
        raise InputError(f"row {row} of {table} says {text!r} of same: expected 1 or 0 (same, different), or nothing")
    return label
