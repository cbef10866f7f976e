"""Files of tensors, from anybody: sizes are checked before anything is read, and nothing in them is ever executed."""

import math
import pickle
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

LONGEST_HEADER = 16 * 2**20
"""Bytes of a safetensors header; that of a network with ten thousand tensors takes one of them."""
# the only name that torch's tensors-only reader knows and whose argument alone decides how much memory is taken
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
        with open(path, "rb") as file:
            start = file.read(8)
        size = path.stat().st_size
        header = struct.unpack("<Q", start)[0] if len(start) == 8 else math.inf
        if header > min(LONGEST_HEADER, size):
            raise DamagedFile("is no whole safetensors file: its header is longer than the file or than any network's")
        with safe_open(path, "pt") as file:
            remarks = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, remarks  # noqa: SIM118 (no mapping)
    except DamagedFile:
        raise
    # SafetensorError, OSError, and whatever torch says of a type that it does not know
    except Exception as error:
        raise DamagedFile(f"is no whole safetensors file: {_first_line(error)}") from error


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
        if "torchscript" in str(error).lower():
            raise DamagedFile("is a TorchScript archive; save the state_dict of the model instead") from error
        raise DamagedFile(f"cannot be read as a checkpoint: {_first_line(error)}") from error


def _check_sizes(path: Path) -> None:
    """Stop what would take more memory than the file has bytes, before it takes it."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            # the first pickles of a file of torch before 1.6 lie before its numbers
            _check_makers(file.read(LONGEST_HEADER))
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
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
