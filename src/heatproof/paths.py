"""Paths as they are typed, and what may be read under them."""

import os
import stat
from pathlib import Path
from typing import BinaryIO


class NoFile(OSError):
    """What is there is a folder, a device, a pipe or a socket, as the text says."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file to be read, and nothing else: a pipe would wait for ever, and a device may act when it is opened.

    Raises:
        NoFile: it is a folder, a device, a pipe or a socket.
        OSError: it is not there, or cannot be read.
    """
    _check_regular(os.stat(path).st_mode)
    # somebody may have put a pipe in its place meanwhile
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check_regular(os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_file(path: Path) -> bytes:
    """All bytes of a file, and of nothing else.

    Raises:
        OSError: as :func:`open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def _check_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise NoFile("it is a folder")
    if not stat.S_ISREG(mode):
        raise NoFile("it is a device or a pipe, not a file")


def literal(text: str) -> Path:
    """The path as it stands; ``~`` means the home folder only where there is nothing called so.

    >>> literal("photos[1]/*.png").name
    '*.png'
    """
    return Path(text) if os.path.lexists(text) else Path(text).expanduser()


def as_text(name: str) -> str:
    """A name as every file can hold it: bytes that are no text, which Python keeps as half characters, escaped.

    >>> as_text("bad\\udcff.png")
    'bad\\\\udcff.png'
    """
    return name.encode("utf-8", "backslashreplace").decode()
