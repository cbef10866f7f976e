"""Files of tensors, from anybody: sizes are checked before anything is read, and nothing in them is ever executed."""

import json
import math
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from heatproof.paths import open_regular

LONGEST_HEADER = 16 * 2**20
"""Bytes of a safetensors header; that of a network with ten thousand tensors takes one of them."""
# the only name that torch's tensors-only reader knows and whose argument alone decides how much memory is taken
TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Of a safetensors header, those that a file of maps may name."""
_MAKERS = re.compile(rb"c(?:__builtin__|builtins)\n(bytearray)\n")


class DamagedFile(ValueError):
    """A file that is not what it should be; the text goes on after its name: ``is no whole safetensors file``."""


class NeedsCode(DamagedFile):
    """The file holds objects of classes that torch's tensors-only reader does not make."""


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors by name, and the file's own remarks.

    Raises:
        DamagedFile: the file is torn, no safetensors, or promises more than it has.
    """
    try:
        _header_size(path)
        with safe_open(path, "pt") as file:
            remarks = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, remarks  # noqa: SIM118 (no mapping)
    except DamagedFile:
        raise
    # SafetensorError, OSError, and whatever torch says of a type that it does not know
    except Exception as error:
        raise DamagedFile(f"is no whole safetensors file: {_first_line(error)}") from error


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of a safetensors file, by name; each is read when it is asked for, and none is kept.

    Raises:
        DamagedFile: the file is torn, no safetensors, promises more than it has, or has changed under our hands.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            size = _header_size(path)
            # names, types and sizes are checked there, and no tensor is read
            with safe_open(path, "pt") as file:
                self._names: Sequence[str] = list(file.keys())
            with open(path, "rb") as file:
                self._header = json.loads(file.read(8 + size)[8:])
        except DamagedFile:
            raise
        except Exception as error:
            raise DamagedFile(f"is no whole safetensors file: {_first_line(error)}") from error
        self._begin = 8 + size

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Tensor:
        entry = self._header[name]
        if entry["dtype"] not in TYPES:
            kind = "complex" if entry["dtype"].startswith("C") else f"of type {entry['dtype']}"
            raise DamagedFile(f"is damaged: {name[:100]!r} is {kind}")
        first, last = entry["data_offsets"]
        try:
            with open(self.path, "rb") as file:
                file.seek(self._begin + first)
                content = bytearray(file.read(last - first))
        except OSError as error:
            raise DamagedFile(f"cannot be read: {_first_line(error)}") from error
        if len(content) != last - first:
            raise DamagedFile("is no whole safetensors file: it was cut while it was read")
        kind = TYPES[entry["dtype"]]
        # torch makes nothing of an empty buffer
        flat = torch.frombuffer(content, dtype=kind) if content else torch.empty(0, dtype=kind)
        return flat.reshape(entry["shape"])


def safetensors_of(names: Sequence[str], tensors: Iterable[Tensor]) -> Iterator[bytes]:
    """The bytes of a safetensors file, one tensor at a time, of tensors of one shape and type.

    >>> from safetensors.torch import load
    >>> load(b"".join(safetensors_of(["a", "b"], [torch.ones(2), torch.zeros(2)])))["a"]
    tensor([1., 1.])
    """
    tensors = iter(tensors)
    like = next(tensors)
    kind = next(name for name, known in TYPES.items() if known == like.dtype)
    size = like.numel() * like.element_size()
    header = bytearray(b"{")
    for place, name in enumerate(names):
        # as text at once: all entries as dicts take half a kilobyte each
        entry = {"dtype": kind, "shape": list(like.shape), "data_offsets": [place * size, (place + 1) * size]}
        header += f"{',' if place else ''}{json.dumps(name)}:{json.dumps(entry, separators=(',', ':'))}".encode()
    header += b"}"
    header += b" " * (-len(header) % 8)
    yield struct.pack("<Q", len(header)) + header
    for name, value in zip(names, chain([like], tensors), strict=True):
        if value.shape != like.shape or value.dtype != like.dtype:
            raise ValueError(f"expected {name} as the first tensor is, {list(like.shape)}, got {list(value.shape)}")
        yield value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def read_pickled(path: Path) -> Any:
    """What ``torch.save`` wrote, tensors, numbers, texts and their containers only.

    Raises:
        NeedsCode: the file would have to be executed.
        DamagedFile: it is torn, or unfolds to more than its own size.
    """
    try:
        _check_sizes(path)
        with warnings.catch_warnings():
            # torch warns of pickle protocols that it did not write; whether the file can be read is told below
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except DamagedFile:
        raise
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted is None:
            raise NeedsCode("is no checkpoint of tensors, or is damaged") from error
        raise NeedsCode(
            f"holds more than tensors: reading it would run code ({wanted[1][:100]}), so it is refused. "
            "Save the weights alone: torch.save(model.state_dict(), ...) or safetensors"
        ) from error
    # a damaged pickle may end in any exception
    except Exception as error:
        raise DamagedFile(f"cannot be read as a checkpoint: {_first_line(error)}") from error


def _header_size(path: Path) -> int:
    with open_regular(path) as file:
        start = file.read(8)
    header = struct.unpack("<Q", start)[0] if len(start) == 8 else math.inf
    if header > min(LONGEST_HEADER, path.stat().st_size):
        raise DamagedFile("is no whole safetensors file: its header is longer than the file or than any network's")
    return int(header)


def _check_sizes(path: Path) -> None:
    """Stop what would take more memory than the file has bytes, before it takes it."""
    if not path.is_file():
        raise DamagedFile("is no file")
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            # the first pickles of a file of torch before 1.6 lie before its numbers
            _check_makers(file.read(LONGEST_HEADER))
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise DamagedFile("is a TorchScript archive; save the state_dict of the model instead")
        # torch stores and never compresses; two entries over the same bytes are a bomb as well
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise DamagedFile("is compressed, which torch.save never does; unpack it, or save the weights again")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise DamagedFile("unfolds to more bytes than it has; no checkpoint does")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                _check_makers(archive.read(entry))


def _check_makers(pickled: bytes) -> None:
    if found := _MAKERS.search(pickled):
        raise DamagedFile(f"holds more than tensors (a {found[1].decode()}), so it is refused")


def why_not_plain(value: Tensor) -> str | None:
    """In what a tensor is none that a network's numbers could be; ``None`` where it is one.

    >>> zeros = torch.zeros(2)
    >>> why_not_plain(zeros), why_not_plain(zeros.to(torch.complex64)), why_not_plain(zeros.to_sparse())
    (None, 'is complex', 'is sparse')
    """
    if value.is_meta:
        return "is on the meta device and holds no numbers"
    if value.is_nested or value.layout is not torch.strided:
        return "is nested" if value.is_nested else "is sparse"
    if value.is_quantized:
        return "is quantised"
    if value.is_complex():
        return "is complex"
    if value.device.type == "cpu" and value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"says to hold {list(value.shape)} numbers and holds fewer"
    return None


def is_finite(value: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity.

    >>> is_finite(torch.ones(2)), is_finite(torch.tensor([1.0, torch.inf])), is_finite(torch.tensor([3]))
    (True, False, True)
    """
    if not value.is_floating_point() or not value.numel():
        return True
    # the least and the greatest are finite where all are, and take no memory
    flat = value.detach()
    low, high = (flat.float() if flat.element_size() < 2 else flat).aminmax()
    return bool(low.isfinite()) and bool(high.isfinite())


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200] or type(error).__name__
