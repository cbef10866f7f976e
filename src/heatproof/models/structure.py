"""What was worked out for a network (graphs, layouts, the default layer) is forgotten when the network is changed.

Weights may change freely: what is remembered is read on the live modules. What counts is all that may lead the forward
pass another way: modules, hooks, forward methods (of one module, or patched on its class), settings, and which
parameters and buffers there are.
"""

import hashlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet, ref

import torch
from torch import Tensor, nn
from torch.nn.modules import module as every_module

from heatproof.models.intact import alone

F = TypeVar("F", bound=Callable[..., Any])
Structure = dict[Any, dict[str, Any]]
"""By a module's name, or a class: attribute -> what is compared."""
Moving = set[tuple[Any, str]]
"""What a forward pass changes by itself: counters, and what it keeps for the next call."""

_OBSERVERS: "WeakSet[Callable[..., Any]]" = WeakSet()
_PLAIN = frozenset({bool, int, float, str, bytes, complex, type(None), torch.dtype, torch.device, torch.Size})
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""Attributes that every module has; those of them that count are read by name."""
_FIRST = next(iter(vars(nn.Module())))
_LONGEST = 64
"""Longer lists and dictionaries count by their length."""
_DEEPEST = 2
"""So deep are lists, dictionaries and objects that hold settings (HuggingFace's configurations) read."""


@dataclass
class _Memory:
    structure: Structure
    moving: Moving
    kept: dict[str, Any] = field(default_factory=dict)
    digest: str = ""


_MEMORIES: "WeakKeyDictionary[nn.Module, _Memory]" = WeakKeyDictionary()


def observer(hook: F) -> F:
    """A hook that only looks on, so that what is remembered holds with it and without."""
    _OBSERVERS.add(hook)
    return hook


def remembered(network: nn.Module) -> dict[str, Any]:
    """What was worked out for the network as it is now, by name; empty where there is nothing, or it was changed."""
    return _memory(network).kept


def structure_digest(network: nn.Module) -> str:
    """Equal for a network and its copies, until one of them is changed. **Range** 64 hexadecimal digits."""
    memory = _memory(network)
    if not memory.digest:
        structure = _structure(network, memory.moving, _told)
        memory.digest = hashlib.sha256(repr(list(structure.items())).encode()).hexdigest()
    return memory.digest


@contextmanager
def own_pass(network: nn.Module) -> Generator[None]:
    """Inside, the network runs by itself: what this changes of its settings counts no more from then on."""
    # not in another thread's hooks
    with alone(network):
        memory = _memory(network)
        before = _structure(network, memory.moving)
        yield
        after = _structure(network, memory.moving)
    moved = {
        (name, key)
        for name in before.keys() & after.keys()
        if before[name] != after[name]
        for key in before[name].keys() | after[name].keys()
        if before[name].get(key, ...) != after[name].get(key, ...)
    }
    if moved:
        memory.moving |= moved
        memory.structure = {
            name: {key: value for key, value in marks.items() if (name, key) not in moved}
            for name, marks in memory.structure.items()
        }


def _memory(network: nn.Module) -> _Memory:
    # hooks that another thread has on the network while it explains are gone when it is this one's turn
    with alone(network):
        known = _MEMORIES.get(network)
        moving: Moving = known.moving if known else set()
        structure = _structure(network, moving)
        if known is None or known.structure != structure:
            known = _MEMORIES[network] = _Memory(structure, moving)
        return known


def _structure(network: nn.Module, moving: Moving, opaque: Callable[[Any], Any] | None = None) -> Structure:
    """
    Args:
        opaque: what an object that is not looked into counts by; ``None``: its identity.
    """
    opaque = opaque or _identity
    read: dict[int, Any] = {}
    found: Structure = {"every module": _hooks(vars(every_module), "_global", opaque)}
    kinds: dict[type, None] = {}
    for name, module in network.named_modules():
        kind, own = type(module), vars(module)
        kinds[kind] = None
        # those of every module come first, unless some were set before nn.Module's own __init__
        settings = islice(own.items(), len(_OF_EVERY_MODULE) if next(iter(own)) == _FIRST else 0, None)
        found[name] = marks = {
            key: value if type(value) in _PLAIN else _mark(value, opaque, read)
            for key, value in settings
            if key not in _OF_EVERY_MODULE
        }
        marks["module"], marks["kind"] = opaque(module), kind
        # torch's own read theirs when they run
        known = kind.__module__.startswith("torch.nn")
        for key in ("_parameters", "_buffers"):
            if held := own.get(key):
                marks[key] = [(one, value is None or known or _size(value)) for one, value in held.items()]
        if own.get("_forward_hooks") or own.get("_forward_pre_hooks"):
            marks |= _hooks(own, "", opaque)
    for kind in dict.fromkeys(one for own_kind in kinds for one in own_kind.__mro__):
        if kind.__module__.startswith("torch.nn"):
            found[kind] = {"forward": opaque(vars(kind).get("forward"))}
        elif kind is not object:
            found[kind] = {
                key: value if type(value) in _PLAIN else opaque(value)
                for key, value in vars(kind).items()
                if callable(value) or isinstance(value, property) or (type(value) in _PLAIN and key[0] != "_")
            }
    for name, key in moving:
        found.get(name, {}).pop(key, None)
    return found


def _hooks(held: Mapping[str, Any], prefix: str, opaque: Callable[[Any], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in (f"{prefix}_forward_hooks", f"{prefix}_forward_pre_hooks"):
        if hooks := [opaque(hook) for hook in held[name].values() if not _looks_on(hook)]:
            found[name] = hooks
    return found


def _looks_on(hook: Any) -> bool:
    try:
        return hook in _OBSERVERS
    except TypeError:
        return False


def _mark(value: Any, opaque: Callable[[Any], Any], read: dict[int, Any], deep: int = _DEEPEST) -> Any:
    """What an attribute counts by.

    Args:
        read: the marks of objects that several modules hold.
        deep: so many levels further down.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Tensor):
        return _size(value)
    if isinstance(value, list | tuple | set | frozenset):
        return (
            [_mark(part, opaque, read, deep - 1) for part in value] if deep and len(value) <= _LONGEST else len(value)
        )
    if isinstance(value, Mapping):
        if not deep or len(value) > _LONGEST:
            return len(value)
        return {str(key): _mark(part, opaque, read, deep - 1) for key, part in value.items()}
    if deep < _DEEPEST or isinstance(value, nn.Module | type) or callable(value) or not hasattr(value, "__dict__"):
        return opaque(value)
    if id(value) not in read:
        settings = vars(value).items()
        read[id(value)] = opaque(value), {key: _mark(part, opaque, read, deep - 1) for key, part in settings}
    return read[id(value)]


def _size(value: Tensor) -> Any:
    try:
        return value.shape
    except RuntimeError:
        # a parameter that is made at the first call
        return None


def _identity(value: Any) -> Any:
    """Its number, and that it is still there: numbers are given anew."""
    try:
        return id(value), ref(value)
    except TypeError:
        return id(value)


def _told(value: Any) -> str:
    """Where it is written, so that a copy's are the same."""
    value = getattr(value, "__func__", value)
    kind = value if isinstance(value, type) or hasattr(value, "__code__") else type(value)
    line = getattr(getattr(kind, "__code__", None), "co_firstlineno", "")
    return f"{kind.__module__}.{kind.__qualname__}{line}"
