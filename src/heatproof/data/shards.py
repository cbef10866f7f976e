"""Photos in plain tar archives, as WebDataset lays them out: ``key.jpg`` beside ``key.cls``.

The archives are not unpacked: their headers are read once, and each photo from its place. So a photo can be had out
of turn, which a run that is resumed, shared among processes or shuffled needs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from braceexpand import braceexpand

from heatproof.data import folders
from heatproof.data.addresses import RemoteFile
from heatproof.data.archive import Loss, members
from heatproof.data.classes import class_indices, unknown_class
from heatproof.data.listing import UNLABELLED, Listing, file_stamp, unique
from heatproof.errors import AddressError, InputError
from heatproof.paths import as_text

MOST_SHARDS = 100_000
"""The most archives that one name with braces may stand for."""

LONGEST_LABEL = 1024  # bytes of key.cls
LONGEST_PATTERN = 10_000  # letters
_RANGE = re.compile(r"(-?\d{1,4000})\.\.(-?\d{1,4000})")


Shard = Path | RemoteFile


class _Place(NamedTuple):
    shard: Shard
    offset: int
    size: int


@dataclass
class _Sample:
    """What an archive holds under one key."""

    photos: list[_Place] = field(default_factory=list)
    labels: list[_Place] = field(default_factory=list)
    fault: str = ""  # of a label


def expand(pattern: str) -> list[str]:
    """The archives, or other files, that a name with braces stands for.

    Raises:
        InputError: they are more than :data:`MOST_SHARDS`; nothing is listed then.

    >>> expand("shards-{000..002}.tar")
    ['shards-000.tar', 'shards-001.tar', 'shards-002.tar']
    """
    ends = [(int(first), int(last)) for first, last in _RANGE.findall(pattern)]
    found: list[str] = []
    if sum(abs(last - first) for first, last in ends) <= MOST_SHARDS and len(pattern) <= LONGEST_PATTERN:
        try:
            found = list(islice(braceexpand(pattern), MOST_SHARDS + 1))
        except (ValueError, RecursionError) as error:
            raise InputError(f"the braces of {pattern!r} cannot be read ({error}); write s-{{000..009}}.tar") from error
    if not 0 < len(found) <= MOST_SHARDS:
        raise InputError(f"{pattern!r} stands for more than {MOST_SHARDS:,} files; name the folder they lie in instead")
    return found


def from_shards(shards: Sequence[Shard], classes: Sequence[str] | None, labels: bool = True) -> Listing:
    """List the photos of archives, in the order given and within an archive in its own.

    Files that share a key (the name up to the first dot) belong together: a photo, and its label in ``key.cls`` as a
    number, a class name or a WordNet id. Ids are ``archive/key``, the archive without ``.tar``. A key that comes again
    is numbered; a damaged stretch of an archive, and each photo that cannot be taken, is named in ``skipped``.

    An archive at an address is read once from its beginning to its end for its headers, with leaps over what is larger
    than :data:`~heatproof.data.addresses.AHEAD`, and then each photo in one request.

    Raises:
        InputError: An archive is missing, compressed or no archive; none holds a photo; a label is no class.
    """
    ids, places, texts, skipped = [], [], [], []
    for shard in shards:
        samples, lost = _index(shard)
        skipped += lost
        for key, sample in samples.items():
            labelled = _labels_of(sample) if labels else [""] * len(sample.photos)
            for number, (photo, text) in enumerate(zip(sample.photos, labelled, strict=True), start=1):
                name = _id(shard, key if number == 1 else f"{key}#{number}")
                if isinstance(text, InputError):
                    skipped.append({"image": name, "reason": str(text)})
                    continue
                ids.append(name)
                places.append(photo)
                texts.append(text)
    if not places:
        raise InputError(f"no photo in {', '.join(shard.name for shard in shards[:3])}: {_expected(skipped)}")
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
        unique(map(as_text, ids)),
        numbers,
        fetch=lambda place: _read(places[place]),
        stamp=lambda place: _stamp(places[place]),
        classes=names,
        skipped=skipped,
    )


def _expected(skipped: Sequence[dict[str, str]]) -> str:
    if not skipped:
        return "expected key.jpg and key.cls"
    return "; ".join(f"{entry['image']}: {entry['reason']}" for entry in islice(skipped, 3))


def _id(shard: Shard, key: str) -> str:
    return f"{shard.stem}/{key}"


def _index(shard: Shard) -> tuple[dict[str, _Sample], list[dict[str, str]]]:
    """Where each key's photos and labels lie, and what cannot be taken."""
    if not shard.is_file():
        raise InputError(f"there is no archive {shard}")
    samples: dict[str, _Sample] = {}
    lost: list[str] = []
    odd: dict[str, list[tuple[str, str]]] = {}
    any_whole = False
    try:
        for member in members(shard):
            if isinstance(member, Loss):
                count = sum(len(sample.photos) for sample in samples.values())
                lost.append(f"the archive is damaged after {count} photos: {member.reason}")
                continue
            any_whole = True
            folder, slash, file = member.name.removeprefix("./").rpartition("/")
            stem, dot, ending = file.partition(".")
            suffix = f".{ending.casefold()}"
            if not stem or not (folders.is_picture(file) or suffix.endswith(".cls")):
                continue  # hidden, or neither a photo nor a label
            key = folder + slash + stem
            if member.fault and suffix == ".cls":
                samples.setdefault(key, _Sample()).fault = member.fault
                continue
            if reason := member.fault or folders.why_unread(file) or _second_dot(suffix):
                odd.setdefault(key, []).append((dot + ending, reason))
                continue
            sample = samples.setdefault(key, _Sample())
            (sample.labels if suffix == ".cls" else sample.photos).append(_Place(shard, member.offset, member.size))
    except AddressError:
        raise
    except OSError as error:
        raise InputError(f"{shard} cannot be read: {error.strerror or error}") from error
    if not any_whole:
        raise InputError(f"{shard} is no plain tar archive (it holds no whole header); unpack it if it is compressed")
    for key, sample in samples.items():
        if not sample.photos and key not in odd:
            odd[key] = [(".cls", "there is a label and no photo")]
    return samples, [
        *(
            {"image": _id(shard, key + ending), "reason": why}
            for key, reasons in odd.items()
            for ending, why in reasons
        ),
        *({"image": shard.name, "reason": reason} for reason in lost),
    ]


def _second_dot(suffix: str) -> str:
    if suffix.count(".") == 1:
        return ""
    return "a second dot in the name: a key ends at the first dot; give the file a name with one dot"


def _labels_of(sample: _Sample) -> list[str | InputError]:
    """The label's text of each photo, or why there is none."""
    count = len(sample.photos)
    if sample.fault:
        return [InputError(f"its label cannot be read: {sample.fault}")] * count
    try:
        found = [_label(place) for place in sample.labels]
    except InputError as error:
        return [InputError(f"its label {error}")] * count
    if len(set(found)) <= 1:
        return [*(found[:1] or [""])] * count
    if len(found) == count:
        return list(found)
    return [InputError(f"its key has {count} photos and {len(found)} labels that differ")] * count


def _label(place: _Place) -> str:
    if place.size > LONGEST_LABEL:
        raise InputError(f"has {place.size:,} bytes: expected a number, a class name or a WordNet id")
    return _read(place).decode(errors="replace").strip()


def _stamp(place: _Place) -> bytes:
    if isinstance(place.shard, RemoteFile):  # a request for each photo would take as long as the run
        return f"{place.offset} {place.size} ".encode() + place.shard.stamp()
    return file_stamp(place.shard, place.offset, place.size)


def _read(place: _Place) -> bytes:
    try:
        if isinstance(place.shard, RemoteFile):
            content = place.shard.read(place.offset, place.size)
        else:
            with place.shard.open("rb") as file:
                file.seek(place.offset)
                content = file.read(place.size)
    except AddressError:
        raise
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}") from error
    if len(content) < place.size:
        raise InputError("cannot be read: the archive is truncated")
    return content
