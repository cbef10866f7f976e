"""What every kind of data comes down to: photos in a fixed order, each with an id and a label, not read yet."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from jaxtyping import UInt8
from torch import Tensor

from heatproof.data.addresses import RemoteFile
from heatproof.errors import InputError
from heatproof.paths import NoFile, as_text, open_regular

UNLABELLED = -1
"""The label of a photo whose class is not known."""

SAMPLE = 4096  # bytes of a photo that its stamp covers


@dataclass(frozen=True)
class Listing:
    """Photos by position, not read yet.

    Attributes:
        ids: Unique, and the same wherever the data lies.
        labels: The model's class of each, or -1.
        fetch: The file of a photo, its bytes, or its pixels; raises an :class:`InputError` that gives the reason.
        stamp: A few bytes that change with a photo's content, cheap to have.
        classes: The class names, where they are known.
        skipped: What was left out already, and why.
    """

    ids: Sequence[str]
    labels: Sequence[int]
    fetch: Callable[[int], Path | bytes | UInt8[Tensor, "3 height width"]]
    stamp: Callable[[int], bytes]
    classes: Sequence[str] | None = None
    skipped: Sequence[dict[str, str]] = field(default=())


def unique(names: Iterable[str]) -> list[str]:
    """Number the repetitions of a name; a number that another name already bears is passed over.

    >>> unique(["a.png", "b.png", "a.png"])
    ['a.png', 'b.png', 'a.png#2']
    """
    seen: Counter[str] = Counter()
    names = list(names)
    given = set(names)
    numbered = []
    for name in names:
        seen[name] += 1
        while seen[name] > 1 and f"{name}#{seen[name]}" in given:
            seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return numbered


def file_stamp(path: Path, offset: int = 0, size: int | None = None) -> bytes:
    """Size and middle 4 KiB of a file, or of its stretch from ``offset`` on; a fixed word if it is not there."""
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size if size is None else size
            file.seek(offset + max(0, size - SAMPLE) // 2)
            return size.to_bytes(8, "big") + file.read(min(SAMPLE, size))
    except (OSError, ValueError, InputError):  # a name may hold a null byte
        return b"not there"


def open_file(path: Path) -> BinaryIO:
    """Open a photo to be read (:func:`heatproof.paths.open_regular`).

    Raises:
        InputError: it is a folder, a device, a pipe or a socket.
        OSError: it is not there, or cannot be read.
    """
    try:
        return open_regular(path)
    except NoFile as error:
        raise InputError(f"{error}, not a photo" if path.is_dir() else str(error)) from error


def ids_below(files: Sequence[Path]) -> list[str]:
    """Paths below the deepest folder that holds all of these absolute paths.

    >>> ids_below([Path("/photos/cats/1.png"), Path("/photos/dogs/1.png")])
    ['cats/1.png', 'dogs/1.png']
    """
    together = os.path.commonpath([file.parent for file in files])
    return [Path(os.path.relpath(file, together)).as_posix() for file in files]


def of_files(files: Sequence[Path], ids: Sequence[str], labels: Sequence[int], **known: Any) -> Listing:
    """The listing of photos that lie in files of their own."""
    texts = unique(map(as_text, ids))
    return Listing(texts, labels, fetch=files.__getitem__, stamp=lambda place: file_stamp(files[place]), **known)


def of_remote_files(files: Sequence[RemoteFile], ids: Sequence[str], labels: Sequence[int], **known: Any) -> Listing:
    """The listing of photos that lie in files of their own at an address; each is read in one request."""
    return Listing(
        unique(map(as_text, ids)),
        labels,
        fetch=lambda place: files[place].read(),
        stamp=lambda place: files[place].tag.encode(),
        **known,
    )
