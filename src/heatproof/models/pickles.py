"""A reader of ``torch.save``'s files that runs nothing: whatever is neither a tensor nor a container stays inert.

A pickle is a program. Here the names in it stay names: none is imported, and the six operations that would call
something (``REDUCE``, ``NEWOBJ``, ``NEWOBJ_EX``, ``OBJ``, ``INST``, ``BUILD``) make :class:`Inert` objects, but for the
functions of :data:`REBUILT`, which are written below.
"""

import io
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

# what a storage's class in torch.save's files says of its numbers
STORED = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The number that files of torch before 1.6 begin with."""


class NotReadable(ValueError):
    """The file is no such file, or promises more than it has."""


@dataclass(frozen=True)
class Name:
    """What a pickle calls a class or a function, as text: ``argparse.Namespace``."""

    text: str


class Inert:
    """An object of a class that was not imported: what it was to be made of.

    Attributes:
        name: of its class or of the function that was to make it.
        arguments: that it was to be made with.
        state: its attributes.
        entries, listed: its items, where it is a dictionary or a list of a class of its own.
    """

    __slots__ = ("arguments", "entries", "listed", "name", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()):
        self.name, self.arguments = name, arguments
        self.state: dict[Any, Any] = {}
        self.entries: dict[Any, Any] = {}
        self.listed: list[Any] = []

    def __repr__(self) -> str:
        return f"<{self.name}, not made>"


@dataclass(frozen=True)
class Storage:
    """Numbers of a type, as tensors are views of them."""

    numbers: torch.UntypedStorage
    dtype: torch.dtype


def read_inert(path: Path) -> tuple[Any, set[str]]:
    """What the file holds, with :class:`Inert` in place of all but tensors, numbers, texts and their containers.

    Returns:
        The content, and the names of the classes and functions that were left alone.

    Raises:
        NotReadable: the file is not what ``torch.save`` writes, or damaged; it may raise other exceptions as well.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive)
    with open(path, "rb") as file:
        return _read_legacy(file, path.stat().st_size)


def _read_archive(archive: zipfile.ZipFile) -> tuple[Any, set[str]]:
    names = set(archive.namelist())
    pickled = [name for name in names if name.rsplit("/", 1)[-1] == "data.pkl"]
    if len(pickled) != 1:
        raise NotReadable("it has no data.pkl")
    folder = pickled[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder").decode() != sys.byteorder:
        raise NotReadable(f"its numbers are not in the order of this machine ({sys.byteorder}-endian)")
    storages: dict[str, torch.UntypedStorage] = {}

    def numbers(key: str, size: int) -> torch.UntypedStorage:
        if key not in storages:
            content = bytearray(archive.read(f"{folder}data/{key}"))
            made = torch.frombuffer(content, dtype=torch.uint8).untyped_storage() if content else None
            storages[key] = torch.UntypedStorage(0) if made is None else made
        if size > storages[key].nbytes():
            raise NotReadable(f"the numbers {key} are fewer than it says")
        return storages[key]

    reader = _Reader(io.BytesIO(archive.read(pickled[0])), numbers)
    return reader.load(), reader.left


def _read_legacy(file: io.BufferedReader, size: int) -> tuple[Any, set[str]]:
    storages: dict[str, torch.UntypedStorage] = {}

    def numbers(key: str, wanted: int) -> torch.UntypedStorage:
        if key not in storages:
            if wanted + sum(made.nbytes() for made in storages.values()) > size:
                raise NotReadable("it says to hold more numbers than it has bytes")
            storages[key] = torch.UntypedStorage(wanted)
        if wanted > storages[key].nbytes():
            raise NotReadable(f"the numbers {key} are fewer than it says")
        return storages[key]

    if _Reader(file, numbers).load() != LEGACY_MAGIC:
        raise NotReadable("it was not written by torch.save")
    _Reader(file, numbers).load()  # the version
    said = _Reader(file, numbers).load()
    if isinstance(said, dict) and said.get("little_endian", True) != (sys.byteorder == "little"):
        raise NotReadable(f"its numbers are not in the order of this machine ({sys.byteorder}-endian)")
    reader = _Reader(file, numbers)
    loaded = reader.load()
    for key in _Reader(file, numbers).load():
        made = storages[key]
        count = struct.unpack("<q", file.read(8))[0]
        content = bytearray(file.read(made.nbytes()))
        if count <= 0 or len(content) < made.nbytes():
            if count or made.nbytes():
                raise NotReadable(f"the numbers {key} are torn")
            continue
        made.copy_(torch.frombuffer(content, dtype=torch.uint8).untyped_storage())
    return loaded, reader.left


def _view(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: Any) -> Tensor:
    """A tensor as a view of numbers that are there."""
    shape = (offset, *size, *stride)
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in shape):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise NotReadable("a tensor of no numbers")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if prod(size) else offset - 1
    if (last + 1) * storage.dtype.itemsize > storage.numbers.nbytes():
        raise NotReadable(f"a tensor of {list(size)} has fewer numbers than that")
    return torch.empty(0, dtype=storage.dtype).set_(storage.numbers, offset, size, stride)


def _view_of_type(storage: Storage, offset: int, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any) -> Tensor:
    kind = getattr(torch, dtype.text.rpartition(".")[2], None) if isinstance(dtype, Name) else None
    if not isinstance(kind, torch.dtype):
        raise NotReadable("a tensor of an unknown type")
    return _view(Storage(storage.numbers, kind), offset, size, stride)


def _first(value: Any, *rest: Any) -> Any:
    """A parameter is its tensor."""
    return value


def _subclass(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """A tensor of a subclass is a tensor."""
    if not isinstance(function, Name) or function.text not in REBUILT:
        return Inert(kind.text if isinstance(kind, Name) else "a tensor of its own kind")
    return REBUILT[function.text](*arguments)


def _counted(*pairs: Any) -> dict[Any, Any]:
    """An ordered dictionary, a defaultdict or a counter is a dictionary."""
    made: dict[Any, Any] = {}
    for pair in pairs[-1] if pairs and isinstance(pairs[-1], list) else []:
        made[_as_key(pair[0])] = pair[1]
    return made | (pairs[-1] if pairs and isinstance(pairs[-1], dict) else {})


def _listed(values: Any = ()) -> list[Any]:
    """A set is a list: its values' hashes may take forever."""
    return list(values) if isinstance(values, list | tuple) else []


REBUILT: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _view,
    "torch._utils._rebuild_tensor_v2": _view,
    "torch._utils._rebuild_tensor_v3": _view_of_type,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "collections.OrderedDict": _counted,
    "collections.defaultdict": _counted,
    "collections.Counter": _counted,
    "builtins.set": _listed,
    "builtins.frozenset": _listed,
    "__builtin__.set": _listed,
    "__builtin__.frozenset": _listed,
}


def _as_key(value: Any) -> Any:
    """A key of a dictionary; nested tuples are none, since their hashes may take forever."""
    parts = value if isinstance(value, tuple) else (value,)
    if not all(part is None or isinstance(part, str | bytes | int | float | Name | Inert) for part in parts):
        raise NotReadable("a dictionary whose keys are neither texts nor numbers")
    return value


# Python's own reader, written in Python
_PICKLE: Any = vars(pickle)["_Unpickler"]


class _Reader(_PICKLE):
    """Python's own reader in Python, without the operations that import or call.

    Args:
        numbers: the bytes of a storage, by its key and at least so many.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(_PICKLE.dispatch)

    def __init__(self, file: Any, numbers: Callable[[str, int], torch.UntypedStorage]):
        super().__init__(file, encoding="utf-8", errors="backslashreplace")
        self.numbers = numbers
        self.left: set[str] = set()

    def find_class(self, module: str, name: str) -> Name:
        return Name(f"{module}.{name}")

    def get_extension(self, code: int) -> None:
        self.append(Name(f"extension {code}"))

    def persistent_load(self, pid: Any) -> Any:
        # before torch 1.6 the classes of modules came with their source
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module":
            return pid[1]
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], Name):
            raise NotReadable("it refers to something outside of it")
        kind, key, count = pid[1].text.rpartition(".")[2], pid[2], pid[4]
        if kind not in STORED or not isinstance(key, str) or type(count) is not int or count < 0:
            raise NotReadable(f"it holds numbers of an unknown type ({kind[:100]})")
        if len(pid) > 5 and pid[5] is not None:
            raise NotReadable("it holds numbers that are parts of others; save the weights again")
        return Storage(self.numbers(key, count * STORED[kind].itemsize), STORED[kind])

    def made(self, maker: Any, arguments: Any) -> Any:
        """What a call would make: a tensor, a dictionary, or an inert object."""
        name = maker.text if isinstance(maker, Name) else "an unnamed function"
        if name in REBUILT and isinstance(arguments, tuple):
            return REBUILT[name](*arguments)
        self.left.add(name)
        return Inert(name, arguments if isinstance(arguments, tuple) else ())

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.made(self.stack[-1], arguments)

    def load_newobj_ex(self) -> None:
        self.stack.pop()  # the arguments by name
        self.load_reduce()

    def load_obj(self) -> None:
        maker, *arguments = self.pop_mark()
        self.append(self.made(maker, tuple(arguments)))

    def load_inst(self) -> None:
        module, name = (self.readline()[:-1].decode("ascii", "backslashreplace") for _ in range(2))
        arguments = self.pop_mark()  # which makes another append
        self.append(self.made(Name(f"{module}.{name}"), tuple(arguments)))

    def load_build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, Inert):
            for part in state if isinstance(state, tuple) else (state,):
                made.state |= part if isinstance(part, dict) else {}

    def load_append(self) -> None:
        value = self.stack.pop()
        self._extend(self.stack[-1], [value])

    def load_appends(self) -> None:
        values = self.pop_mark()
        self._extend(self.stack[-1], values)

    def load_empty_set(self) -> None:
        self.append([])

    def load_frozenset(self) -> None:
        values = self.pop_mark()
        self.append(values)

    def _extend(self, made: Any, values: list[Any]) -> None:
        if not isinstance(made, list | Inert):
            raise NotReadable(f"something is appended to a {type(made).__name__}")
        (made.listed if isinstance(made, Inert) else made).extend(values)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._set(self.stack[-1], items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(self.stack[-1], items)

    def _set(self, made: Any, items: list[Any]) -> None:
        if not isinstance(made, dict | Inert):
            raise NotReadable(f"an item is set in a {type(made).__name__}")
        into = made.entries if isinstance(made, Inert) else made
        into |= {_as_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}

    def load_bytearray8(self) -> None:
        self.append(self.read(min(struct.unpack("<Q", self.read(8))[0], sys.maxsize)))

    def load_next_buffer(self) -> None:
        raise NotReadable("it refers to something outside of it")

    for _operation, _run in {
        pickle.REDUCE: load_reduce,
        pickle.NEWOBJ: load_reduce,
        pickle.NEWOBJ_EX: load_newobj_ex,
        pickle.OBJ: load_obj,
        pickle.INST: load_inst,
        pickle.BUILD: load_build,
        pickle.APPEND: load_append,
        pickle.APPENDS: load_appends,
        pickle.ADDITEMS: load_appends,
        pickle.EMPTY_SET: load_empty_set,
        pickle.FROZENSET: load_frozenset,
        pickle.SETITEM: load_setitem,
        pickle.SETITEMS: load_setitems,
        pickle.DICT: load_dict,
        pickle.BYTEARRAY8: load_bytearray8,
        pickle.NEXT_BUFFER: load_next_buffer,
        pickle.READONLY_BUFFER: load_next_buffer,
    }.items():
        dispatch[_operation[0]] = _run
