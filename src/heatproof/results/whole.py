"""Files that appear whole or not at all: written aside in the same folder, flushed to the disk, then renamed."""

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from heatproof.errors import RunError

ASIDE = ".aside"
"""The ending of a file that is still being written; such a file may be deleted once its writer is gone."""


def write_whole(path: Path | str, data: bytes | memoryview | Iterable[bytes]) -> Path:
    """Write ``data`` to ``path`` so that a reader, or a crash at any moment, finds the old file or the new, no mixture.

    Args:
        path: the file; its folder is made.
        data: all of its bytes, or one piece after the other.

    Returns:
        The path.

    Raises:
        RunError: the file cannot be written (permission, full disk, a file where a folder should be).
    """
    path = Path(path)
    # in the same folder, because a rename is atomic only inside one file system
    aside = path.with_name(f".{path.name[:80]}.{os.getpid()}-{secrets.token_hex(4)}{ASIDE}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "xb") as file:
            for piece in (data,) if isinstance(data, bytes | memoryview) else data:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        _flush_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        if isinstance(error, OSError):
            refuse(path, error, needed=len(data) if isinstance(data, bytes | memoryview) else None)
        raise
    return path


def write_json(path: Path | str, content: Any) -> Path:
    """Write ``content`` as strict JSON: what is not finite becomes null, what JSON does not know becomes its text."""
    return write_whole(path, _json(content))


def as_written(content: Any) -> Any:
    """``content`` as :func:`write_json` writes it and a reader gets it back."""
    return json.loads(_json(content))


def _json(content: Any) -> bytes:
    text = json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False)
    # a file name may hold bytes that are no text; they are shown escaped rather than lost
    return (text + "\n").encode("utf-8", "backslashreplace")


def plain(value: Any) -> Any:
    """``value`` as JSON holds it.

    >>> plain({"epsilon": (0.01, float("nan")), "penalty": complex(1)})
    {'epsilon': [0.01, None], 'penalty': '(1+0j)'}
    """
    if value is None or isinstance(value, bool | int | str):
        return value if type(value) in (bool, int, str, type(None)) else _builtin(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        entries = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return [plain(entry) for entry in entries]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy and torch, scalars and arrays alike
        return plain(value.tolist())
    return repr(value)


def _builtin(value: Any) -> Any:
    """A subclass of int or str (an enum, say) as the builtin that JSON would write."""
    return int(value) if isinstance(value, int) else str(value)


def refuse(path: Path, error: OSError, needed: int | None = None) -> NoReturn:
    """Raise what the operating system said about ``path`` as a sentence with a way out.

    Raises:
        RunError: always.
    """
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        free = _free(path)
        sizes = f" ({needed:,} bytes wanted, {free:,} free)" if needed is not None and free is not None else ""
        why = f"the disk is full{sizes}; make room and give the same command again, it goes on where it stopped"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        why = "writing there is not allowed; choose another folder with --out"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        why = "expected a folder on the way and got a file, or the other way round; choose another folder with --out"
    else:
        why = f"{error.strerror or error}; choose another folder with --out"
    raise RunError(f"cannot write {path}: {why}") from error


def _free(path: Path) -> int | None:
    for folder in path.parents:
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


def _flush_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the file system lets a folder be flushed."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
