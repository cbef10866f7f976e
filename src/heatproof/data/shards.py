"""Photos in plain tar archives, as WebDataset lays them out: ``key.jpg`` beside ``key.cls``.

The archives are not unpacked: their headers are read once, and each photo from its place. So a photo can be had out
of turn, which a run that is resumed, shared among processes or shuffled needs.
"""

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from braceexpand import braceexpand

from heatproof.data import folders
from heatproof.data.classes import class_indices, unknown_class
from heatproof.data.listing import UNLABELLED, Listing, file_stamp
from heatproof.errors import InputError


class _Place(NamedTuple):
    shard: Path
    offset: int
    size: int


def expand(pattern: str) -> list[Path]:
    """The archives that a name with braces stands for.

    >>> [path.name for path in expand("shards-{000..002}.tar")]
    ['shards-000.tar', 'shards-001.tar', 'shards-002.tar']
    """
    return [Path(name) for name in braceexpand(pattern)]


def from_shards(shards: Sequence[Path], classes: Sequence[str] | None, labels: bool = True) -> Listing:
    """List the photos of archives, in the order given and within an archive in its own.

    Files that share a key (the name up to the first dot) belong together: a photo, and its label in ``key.cls`` as a
    number, a class name or a WordNet id. Ids are ``archive/key``, the archive without ``.tar``.

    Raises:
        InputError: An archive is missing, compressed or no archive; none holds a photo; a label is no class.
    """
    ids, places, texts, skipped = [], [], [], []
    for shard in shards:
        members, damage = _index(shard)
        for key, (photo, label) in members.items():
            if photo is not None:
                ids.append(f"{shard.stem}/{key}")
                places.append(photo)
                texts.append(_read(label).decode(errors="replace").strip() if labels and label else "")
        if damage:
            skipped.append({"image": shard.name, "reason": damage})
    if not places:
        raise InputError(f"no photo in {', '.join(shard.name for shard in shards[:3])}: expected key.jpg and key.cls")
    found, names = class_indices((text for text in texts if text not in ("", "-1")), classes)
    if not found and classes is None:
        names = None
    for name, text in zip(ids, texts, strict=True):
        if text not in found and text not in ("", "-1"):
            raise InputError(f"label of {name}: {unknown_class(text, names or [])}")
    numbers = [found.get(text, UNLABELLED) for text in texts]
    repeated = len(ids) - len(set(ids))
    if repeated:
        raise InputError(f"{repeated} ids occur twice, for archives of one name lie in several folders; rename them")
    return Listing(
        ids,
        numbers,
        fetch=lambda place: _read(places[place]),
        stamp=lambda place: file_stamp(*places[place]),
        classes=names,
        skipped=skipped,
    )


def _index(shard: Path) -> tuple[dict[str, tuple[_Place | None, _Place | None]], str]:
    """Where each key's photo and label lie, and how the archive is damaged if it is."""
    if not shard.is_file():
        raise InputError(f"there is no archive {shard}")
    members: dict[str, tuple[_Place | None, _Place | None]] = {}
    damage = ""
    end = shard.stat().st_size
    try:
        with tarfile.open(shard, "r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  (typeshed lacks it) # or it would keep every header
                name = member.name.removeprefix("./")
                folder, slash, file = name.rpartition("/")
                stem, _, ending = file.partition(".")
                if not member.isfile() or not stem or member.offset_data + member.size > end:
                    continue  # of a file that is cut off, next() tells below
                key = folder + slash + stem
                photo, label = members.get(key, (None, None))
                place = _Place(shard, member.offset_data, member.size)
                if f".{ending.casefold()}" in folders.SUFFIXES:
                    photo = place
                elif ending == "cls":
                    label = place
                members[key] = photo, label
    except (tarfile.TarError, OSError) as error:
        if not members:
            raise InputError(f"{shard} is no plain tar archive ({error}); unpack it if it is compressed") from error
        damage = f"the archive is damaged after {len(members)} photos ({error}); the rest is left out"
    return members, damage


def _read(place: _Place) -> bytes:
    try:
        with place.shard.open("rb") as file:
            file.seek(place.offset)
            content = file.read(place.size)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}") from error
    if len(content) < place.size:
        raise InputError("cannot be read: the archive is truncated")
    return content
