"""Files at an address (``s3://``, ``gs://``, ``https://``, ``memory://``), read by stretches through fsspec.

What a store asks for (keys, a region, an endpoint) comes from where its own tools take it: the environment and their
files of settings. An address with a password in it is refused, since run folders record the names of data.
"""

import atexit
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from threading import RLock
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, unquote, urljoin

from heatproof.errors import AddressError, InputError, Remark, did_you_mean

T = TypeVar("T")

TRIES, PAUSE = 3, 0.5  # a store that fails is asked again, after so many seconds, and twice as many
AHEAD = 1 << 20  # bytes that are read at once where a file is read from its beginning to its end
LARGE = 16 << 20
"""Bytes from which on it is told that a file is copied: some seconds on a common line."""
POLARS = ("s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "adl", "http", "https", "hf")
"""Addresses that polars reads by stretches itself."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)(?:://|::)")
_PASSWORD = re.compile(r"//[^/@:]*:[^/@]*@")
_SECRET = re.compile(r"[?&][^=&]*(sig|token|key|secret)[^=&]*=", re.IGNORECASE)
_one_at_a_time = RLock()
"""Stores that fsspec does not ask asynchronously are not made for several threads."""


def is_address(text: str) -> bool:
    """Whether a data name is an address and not the path of something that is there.

    >>> is_address("s3://bucket/photos/"), is_address("photos/cat.png"), is_address("hf:cifar10")
    (True, False, False)
    """
    return bool(_SCHEME.match(text)) and not os.path.lexists(text)


@dataclass(frozen=True)
class RemoteFile:
    """A file or folder at an address; :func:`at_address` makes it, and nothing is asked of the store before it is read.

    Attributes:
        address: as it was given, or the address of the folder with the path below it.
        fs: fsspec's file system.
        path: of the file there.
        tag: what the store says of its content (an ETag or a checksum), where it was listed with it.
    """

    address: str
    fs: Any = field(repr=False, compare=False)
    path: str = field(repr=False)
    tag: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.address

    @property
    def scheme(self) -> str:
        return scheme_of(self.address)

    @property
    def _is_web(self) -> bool:
        return self.scheme in ("http", "https")

    @property
    def name(self) -> str:
        """The last part of its path."""
        path = unquote(self.path.split("?", 1)[0]) if self._is_web else self.path
        return PurePosixPath(path).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @cached_property
    def _info(self) -> dict[str, Any]:
        return self._asked(lambda: self.fs.info(self.path))

    @property
    def size(self) -> int:
        """In bytes.

        Raises:
            InputError: there is no such file, or the store does not say.
            AddressError: the store does not answer.
        """
        found = self._info.get("size")
        if not isinstance(found, int):
            raise InputError(f"the server does not say how long {self.address} is")
        return found

    def check(self) -> None:
        """Stop what is not there, in the store's own words.

        Raises:
            InputError, AddressError: as :meth:`read`.
        """
        _ = self._info

    def is_file(self) -> bool:
        """Whether there is something to read; of the web a folder's page is, too."""
        try:
            return self._info.get("type") != "directory"
        except InputError:
            return False

    def is_folder(self) -> bool:
        return bool(self._asked(lambda: self.fs.isdir(self.path)))

    def read(self, begin: int = 0, count: int | None = None) -> bytes:
        """All bytes, or a stretch of them, in one request.

        Raises:
            InputError: there is no such file.
            AddressError: the store does not answer, or refuses.
        """
        end = None if count is None else begin + count
        content: bytes = self._asked(lambda: self.fs.cat_file(self.path, start=begin or None, end=end))
        if count is not None and len(content) > count:  # a server that knows no stretches hands out the whole
            return content[begin:end]
        return content

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file, to be read from its beginning to its end with leaps.

        Raises:
            InputError, AddressError: as :meth:`read`.
        """
        return self._asked(lambda: self.fs.open(self.path, mode, block_size=AHEAD, cache_type="readahead"))

    def stamp(self) -> bytes:
        """Its size and what the store says of its content."""
        info = self._info
        tags = [str(info[key]) for key in ("ETag", "etag", "md5Hash", "crc32c", "content_md5") if info.get(key)]
        return f"{info.get('size')} {self.tag or ' '.join(tags)}".encode()

    def sibling(self, text: str) -> "RemoteFile":
        """The file at a path that is relative to this file's folder."""
        if self._is_web:
            path = urljoin(self.path, quote(text))
            return RemoteFile(path, self.fs, path)
        path = os.path.normpath(os.path.join(os.path.dirname(self.path), text))
        return RemoteFile(f"{os.path.dirname(self.address)}/{text}", self.fs, path)

    def by_stretches(self) -> "Path | RemoteFile":
        """Itself, or a copy on this machine where the server hands out files as a whole only."""
        if not self._is_web:
            return self
        self.check()
        try:
            with self.open() as file:
                file.seek(max(0, self.size - 1))
                file.read(1)
        except (ValueError, OSError):
            size = self._info.get("size")
            # of a small one there is nothing to wait for, and of one that is here already nothing more
            if self.address not in _copies and (size is None or size >= LARGE):
                told = "all of it" if size is None else f"all {size / 2**20:,.0f} MiB of it"
                warnings.warn(
                    Remark(f"the server of {self.name} hands out no parts of files: {told} is copied here first"),
                    stacklevel=2,
                )
            return self.copied()
        return self

    def copied(self) -> Path:
        """A copy on this machine, which is gone when the program ends.

        Raises:
            InputError, AddressError: as :meth:`read`.
        """
        with _one_at_a_time:
            if self.address not in _copies:
                folder = tempfile.mkdtemp(prefix="heatproof-")
                atexit.register(shutil.rmtree, folder, ignore_errors=True)
                # what a stranger's address calls it must not lead out of the folder
                target = Path(folder) / (self.name if self.name.strip(".") else "copy")
                self._asked(lambda: self.fs.get_file(self.path, str(target)))
                _copies[self.address] = target
            return _copies[self.address]

    def below(self) -> Iterator["tuple[PurePosixPath, RemoteFile]"]:
        """All files below a folder with their paths below it, a folder at a time."""
        root = self.path.rstrip("/")
        for _, _, files in self._asked(lambda: self.fs.walk(self.path, detail=True)):
            for info in files.values():
                path = str(info["name"])
                within = path[len(root) :].lstrip("/")
                shown = unquote(within) if self._is_web else within
                tag = next((str(info[key]) for key in ("ETag", "etag", "md5Hash", "crc32c") if info.get(key)), "")
                size = info.get("size")
                told = f"{size if size is not None else ''} {tag}".strip()
                yield PurePosixPath(shown), RemoteFile(f"{self.address.rstrip('/')}/{within}", self.fs, path, told)

    def _asked(self, step: Callable[[], T]) -> T:
        """A step, again where the store fails; what it says at last, in a sentence."""
        attempt = 0
        while True:
            try:
                if getattr(self.fs, "async_impl", False):
                    return step()
                with _one_at_a_time:
                    return step()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
                cause = "" if isinstance(error.__cause__, LookupError) else _first_line(error.__cause__)
                raise InputError(f"there is nothing at {self.address}{f' ({cause})' if cause else ''}") from error
            except PermissionError as error:
                raise AddressError(
                    f"{self.address} may not be read ({_first_line(error)}); give the keys as the store's own tools "
                    "take them, in the environment or in their file of settings"
                ) from error
            # stores raise kinds of their own
            except Exception as error:
                attempt += 1
                if attempt == TRIES:
                    raise AddressError(
                        f"{self.address} cannot be read, asked {TRIES} times: {_first_line(error)}; see whether the "
                        "store can be reached, then give the same command again"
                    ) from error
                time.sleep(PAUSE * 2 ** (attempt - 1))


_copies: dict[str, Path] = {}


def scheme_of(address: str) -> str:
    """``s3`` of ``s3://bucket/key``."""
    found = _SCHEME.match(address)
    return found[1].casefold() if found else ""


def at_address(text: str) -> RemoteFile:
    """What lies at an address; the store is not asked yet.

    Raises:
        InputError: an address of an unknown kind, of one whose package is not installed, or with a password in it.
    """
    from fsspec import available_protocols
    from fsspec.core import url_to_fs

    if _PASSWORD.search(text):
        raise InputError(
            "an address with a password in it is not read, since the run folder records the names of data; give keys "
            "in the environment or in the store's file of settings"
        )
    if _SECRET.search(text):
        warnings.warn(Remark(f"{text.split('?')[0]}: what stands after ? is recorded in the run folder"), stacklevel=2)
    scheme = scheme_of(text)
    try:
        fs, path = url_to_fs(text)
    except ImportError as error:
        raise InputError(
            f"{scheme}:// is read by a package that is not here: {_first_line(error)}; pip install heatproof[remote] "
            "brings what http needs, s3fs is for s3, gcsfs for gs"
        ) from error
    except ValueError as error:
        known = did_you_mean(scheme, [name for name in available_protocols() if name.isalnum()])
        raise InputError(f"{text} is an address of an unknown kind ({_first_line(error)}); {known}") from error
    except Exception as error:
        raise InputError(f"{text} cannot be opened: {_first_line(error)}") from error
    return RemoteFile(text, fs, path)


def _first_line(error: BaseException | None) -> str:
    if error is None:
        return ""
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
