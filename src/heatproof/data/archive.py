"""The members of a plain tar archive, damaged or not: what is whole is found, and what is lost is told.

Python's own reader ends at the first damaged header without a word. This one goes on at the next whole header, so that
a damaged stretch costs only what lies in it.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from heatproof.data.addresses import RemoteFile

BLOCK = tarfile.BLOCKSIZE
RECORD = tarfile.RECORDSIZE  # archives end in two blocks of zeros and are filled up to a multiple of this
LONGEST_NAME = 1 << 16  # bytes of a pax header or a long name; a longer one is hostile
_FIRST, _MOST = 64, 8192  # blocks that are searched at once for the next whole header
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_BEFORE = {tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE}  # name the member that follows
_BESIDE = {tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE}  # tell nothing that matters here


@dataclass(frozen=True)
class Member:
    """One entry of an archive.

    Attributes:
        name: as stored; bytes that are no UTF-8 are escaped.
        offset: where its content begins.
        size: of its content in bytes.
        fault: why it cannot be read; empty where it can.
    """

    name: str
    offset: int
    size: int
    fault: str = ""


@dataclass(frozen=True)
class Loss:
    """A stretch of an archive that belongs to no member.

    Attributes:
        begin: its first byte.
        end: one past its last byte.
        reason: in a sentence.
    """

    begin: int
    end: int
    reason: str


def members(path: Path | RemoteFile) -> Iterator[Member | Loss]:
    """All members that are files, links or devices, and what is damaged, in the archive's order.

    Raises:
        OSError: the archive cannot be read.
    """
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        place, found, ended = 0, False, False
        while place < end:
            following = min(end, _next_header(file, place))
            if following > place:
                empty = _is_zero(file, place, following)
                ended = following == end
                if not (ended and empty and 2 * BLOCK <= following - place < RECORD + 2 * BLOCK):
                    yield _loss(place, following, ended, empty)
                place = following
                continue
            member, place = _member(file, place, end)
            if member is not None:
                yield member
            found = True
        if found and not ended:
            yield Loss(end, end, "it has no end mark and may have been cut off")


def _loss(begin: int, following: int, ended: bool, empty: bool) -> Loss:
    if ended and empty:
        return Loss(begin, following, f"its last {following - begin:,} bytes are zeros, which is no archive's end")
    if ended:
        return Loss(begin, following, f"what begins at byte {begin:,} is cut off or no member; it is left out")
    what = "are zeros" if empty else "is no whole header"
    return Loss(begin, following, f"from byte {begin:,} to {following:,} there {what}; what was there is lost")


def _member(file: BinaryIO, place: int, end: int) -> tuple[Member | None, int]:
    """The member whose whole header, or whose long name, begins at ``place``, and where the next header should be."""
    name, size = "", -1
    while True:
        header = _header(file, place)
        if header is None:  # a long name and then no whole header: the member is lost with it
            return (Member(name, place, 0, "its header in the archive is damaged") if name else None), place
        data = place + BLOCK
        beyond = data + _whole_blocks(header.size)
        if header.type in _BEFORE | _BESIDE:
            if header.size > LONGEST_NAME or beyond > end:
                return Member(name or header.name, data, 0, "its long name in the archive is damaged"), data
            if header.type in _BEFORE:
                name, size = _extended(file, data, header, name, size)
            place = beyond
            continue
        name, size = name or header.name, header.size if size < 0 else size
        if header.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            return Member(name, data, 0, "it is a link inside the archive, not a photo"), data
        if header.type in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
            return Member(name, data, 0, "it is a device or a pipe, not a file"), data
        if header.isdir():
            return None, data
        if data + size > end:
            # its content may be cut off, or its size be wrong: go on with what lies behind the header
            return Member(name, data, size, "the archive is cut off inside it"), data
        fault = "" if header.type in _REGULAR else "it is stored in an unusual way (sparse or unknown)"
        return Member(name, data, size, fault), data + _whole_blocks(size)


def _extended(file: BinaryIO, data: int, header: tarfile.TarInfo, name: str, size: int) -> tuple[str, int]:
    """What a long name or a pax header says about the member that follows."""
    file.seek(data)
    content = file.read(header.size)
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return _text(content.split(b"\0", 1)[0]), size
    for key, value in _records(content):
        if key == b"path":
            name = _text(value)
        elif key == b"size" and value.isdigit() and len(value) < 20:
            size = int(value)
    return name, size


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """``length key=value`` and a line's end, as POSIX writes pax headers; what is damaged is left out."""
    while content:
        count, blank, _ = content.partition(b" ")
        if not blank or not count.isdigit() or len(count) > 6 or int(count) <= len(count) + 1:
            return
        key, equals, value = content[len(count) + 1 : int(count)].partition(b"=")
        if equals and value.endswith(b"\n"):
            yield key, value[:-1]
        content = content[int(count) :]


def _header(file: BinaryIO, place: int) -> tarfile.TarInfo | None:
    file.seek(place)
    return _parsed(file.read(BLOCK))


def _parsed(block: bytes) -> tarfile.TarInfo | None:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    # damaged headers raise more kinds than the module's own
    except (tarfile.TarError, ValueError, OverflowError, IndexError):
        return None
    return header if header.size >= 0 else None


def _next_header(file: BinaryIO, place: int) -> int:
    """Where the next whole header at or after ``place`` begins, in steps of a block; the archive's end if nowhere."""
    if _header(file, place) is not None:
        return place
    place += BLOCK
    count = _FIRST
    while True:
        file.seek(place)
        content = file.read(count * BLOCK)
        blocks = np.frombuffer(content, np.uint8, len(content) // BLOCK * BLOCK).reshape(-1, BLOCK)
        # a checksum is six octal digits: only blocks with such a field are looked at more closely
        field = blocks[:, 148:154]
        likely = (((field >= 48) & (field <= 55)) | (field == 32) | (field == 0)).all(1) & (field != 0).any(1)
        for number in np.flatnonzero(likely).tolist():
            if _parsed(bytes(blocks[number])) is not None:
                return place + number * BLOCK
        if len(content) < count * BLOCK:
            return place + len(content)
        place += len(content)
        count = min(2 * count, _MOST)


def _is_zero(file: BinaryIO, begin: int, end: int) -> bool:
    file.seek(begin)
    while begin < end:
        content = file.read(min(1 << 20, end - begin))
        if not content or content.count(0) < len(content):
            return False
        begin += len(content)
    return True


def _whole_blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
