"""Paths as they are typed."""

import os
from pathlib import Path


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
