"""Where in a training's checkpoint the network's weights lie: under which nest and which prefix."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from heatproof.errors import ModelError, did_you_mean
from heatproof.models.pickles import Inert

State = dict[str, Tensor]

DEEPEST, MOST_PLACES, MOST_PREFIXES = 6, 20_000, 32
"""How deep a file is searched, in how many dictionaries and modules, and for how many prefixes that fit alike."""
# where training scripts keep the weights; what fits elsewhere too is taken from these, in this order
FIRST = ("state_dict", "model_state_dict", "model", "network", "net")
# an average over the training, or its teacher: not what was trained
LAST = re.compile(r"(^|[._])(ema|swa|averaged?|teacher|momentum|shadow)([._]|$)|(^|[._])ema", re.IGNORECASE)
# put before every name, or into it, by torch's own wrappers
_WRAPPED = re.compile(r"(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.|(?<=\.)module\.")
# counted in training, or by a counter of operations: nothing reads them in eval mode
UNREAD = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")


@dataclass(frozen=True)
class Nest:
    """A dictionary of tensors somewhere in a file.

    Attributes:
        path: the keys that lead to it, ``model_ema`` or ``ema.module``; empty for the file itself.
        state: its tensors by name.
        inert: what else stands under names there, as the class that was not made.
    """

    path: str
    state: State
    inert: Mapping[str, str]


@dataclass(frozen=True)
class Fit:
    """A nest seen as the weights of a network.

    Attributes:
        prefix: that every name of the network has in the nest.
        added: that the names in the nest lack.
        state: the tensors by the network's names, and whatever else has the prefix.
        left_out: names in the nest without the prefix.
        names, shapes: how many of the network's tensors are there, and with their shape.
    """

    nest: Nest
    prefix: str
    added: str
    state: State
    left_out: tuple[str, ...]
    names: int
    shapes: int

    @property
    def label(self) -> str:
        """How it is chosen: ``model_ema``, or ``state_dict.encoder``."""
        return ".".join(part for part in (self.nest.path, self.prefix.rstrip(".")) if part)


def nests_in(loaded: Any) -> list[Nest]:
    """All dictionaries of tensors in what a file holds; the state of whole modules as well.

    Raises:
        ModelError: it is nested without end.
    """
    found: list[Nest] = []
    seen: set[int] = set()

    def search(value: Any, path: tuple[str, ...]) -> None:
        if id(value) in seen or len(path) > DEEPEST:
            return
        seen.add(id(value))
        if len(seen) > MOST_PLACES:
            raise ModelError(f"it holds more than {MOST_PLACES} dictionaries")
        inside = _entries(value)
        tensors = {str(name): part for name, part in inside.items() if isinstance(part, Tensor)}
        if isinstance(value, Inert) and "_modules" in value.state:
            tensors = dict(_of_module(value))
            inside = {}
        inert = {str(name): part.name for name, part in inside.items() if isinstance(part, Inert)}
        if tensors:
            found.append(Nest(".".join(path), tensors, inert))
        parts: dict[str, Nest] = {}
        for name, part in inside.items():
            before = len(found)
            search(part, (*path, str(name)))
            if len(found) > before and found[before].path == ".".join((*path, str(name))):
                parts[str(name)] = found[before]
        # a network in parts: {"backbone": ..., "head": ...}
        if len(parts) > 1 and not tensors:
            whole = {f"{name}.{inner}": v for name, nest in parts.items() for inner, v in nest.state.items()}
            found.append(Nest(".".join(path), whole, {}))

    search(loaded, ())
    return found


def _entries(value: Any) -> Mapping[Any, Any]:
    """What stands under names in a dictionary, or in an object that was not made."""
    if isinstance(value, Inert):
        return value.state | value.entries
    return value if isinstance(value, Mapping) else {}


def _of_module(module: Inert) -> Iterator[tuple[str, Tensor]]:
    """The state_dict of a module that was pickled whole."""
    places = 0
    ahead = [("", module)]
    while ahead:
        prefix, module = ahead.pop()
        places += 1
        if places > MOST_PLACES:
            raise ModelError(f"it holds more than {MOST_PLACES} modules")
        hidden = module.state.get("_non_persistent_buffers_set")
        hidden = hidden if isinstance(hidden, list) else []
        for kind in ("_parameters", "_buffers"):
            for name, value in _entries(module.state.get(kind)).items():
                if isinstance(value, Tensor) and not (kind == "_buffers" and name in hidden):
                    yield f"{prefix}{name}", value
        for name, inner in _entries(module.state.get("_modules")).items():
            if isinstance(inner, Inert):
                ahead.append((f"{prefix}{name}.", inner))


def best_fit(nests: list[Nest], own: State, choice: str | None = None) -> tuple[Fit, list[Fit]]:
    """The nest and prefix under which most of the network's names are, and others that fit as well.

    Args:
        own: the network's state_dict.
        choice: a nest's path, a prefix, or both: only these are looked at.

    Raises:
        ModelError: nothing in the file is called so.
    """
    common = _common(own)
    wrapped = any(_WRAPPED.search(name) for name in own)
    fits = [fit for nest in nests for fit in _fits(nest, own, common, wrapped)]
    if choice is not None:
        wanted = choice.strip(".")
        chosen = [f for f in fits if wanted in (f.label, f.nest.path, f.prefix.rstrip("."))]
        if not chosen:
            labels = list(dict.fromkeys(fit.label for fit in _ranked(fits) if fit.label))
            shown = did_you_mean(wanted, labels) if labels else "its tensors lie in no nest"
            raise ModelError(f"holds no weights called {wanted!r}; {shown}")
        fits = chosen
    best, *rest = _ranked(fits)
    same = _tensors(best, own)
    others: dict[tuple[int, ...], Fit] = {}
    for fit in rest:
        key = _tensors(fit, own)
        if (fit.names, fit.shapes) == (best.names, best.shapes) and key != same:
            others.setdefault(key, fit)
    return best, list(others.values())


def _ranked(fits: list[Fit]) -> list[Fit]:
    """Best first: most names, most shapes, then what was trained before its average, then the file's own order."""

    def order(fit: Fit) -> tuple[Any, ...]:
        first = FIRST.index(fit.nest.path) if fit.nest.path in FIRST else len(FIRST)
        largest = 0 if fit.names else -len(fit.state)
        return -fit.names, -fit.shapes, largest, bool(LAST.search(fit.label)), first, len(fit.added), len(fit.prefix)

    return sorted(fits, key=order)


def _tensors(fit: Fit, own: State) -> tuple[int, ...]:
    """Which tensors would be taken: the same under another name are no other choice."""
    return tuple(id(fit.state[name]) for name in own if name in fit.state)


def _fits(nest: Nest, own: State, common: list[str], wrapped: bool) -> Iterator[Fit]:
    """The nest under its best prefixes, one at least.

    Args:
        common: the prefixes that all the network's names have.
        wrapped: whether the network itself has names of torch's wrappers.
    """
    names = nest.state if wrapped else _unwrapped(nest.state)
    deepest = max((name.count(".") for name in own), default=0) + 1
    for added in common:
        bare = {name.removeprefix(added) for name in own}
        counts: Counter[str] = Counter()
        for name in names:
            parts = name.split(".")
            cuts = range(max(0, len(parts) - deepest), len(parts))
            counts.update(".".join([*parts[:cut], ""]) for cut in cuts if ".".join(parts[cut:]) in bare)
        top = max(counts.values(), default=0)
        for prefix in [p for p, count in counts.items() if count == top][:MOST_PREFIXES] or [""]:
            state = {added + n.removeprefix(prefix): v for n, v in names.items() if n.startswith(prefix)}
            left_out = tuple(n for n in names if not n.startswith(prefix))
            there = [n for n in own if n in state and not n.endswith(UNREAD)]
            shapes = sum(not state[n].is_nested and own[n].shape == state[n].shape for n in there)
            yield Fit(nest, prefix, added, state, left_out, len(there), shapes)


def _common(own: Iterable[str]) -> list[str]:
    """The prefixes that all names have: none first."""
    split = [name.split(".")[:-1] for name in own]
    found = [""]
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        found.append(f"{found[-1]}{parts[0]}.")
    return found


def _unwrapped(state: State) -> State:
    """Without what torch's wrappers put into names."""
    names = {_WRAPPED.sub("", name): value for name, value in state.items()}
    return names if len(names) == len(state) else state


def class_names(loaded: Any) -> list[str] | None:
    """The classes that a training wrote down: a list of names, or a dictionary to or from numbers."""
    for place in (loaded, *(_entries(loaded).get(key) for key in KEPT)):
        for key in CALLED:
            if (found := _as_names(_entries(place).get(key))) is not None:
                return found
    return None


KEPT = ("hyper_parameters", "hparams", "meta", "args", "config", "cfg", "opt", "model", "ema")
"""Where in a file names of classes may lie, beside the file itself."""
CALLED = ("classes", "class_names", "CLASSES", "categories", "class_to_idx", "idx_to_class", "id2label", "names")
"""What they may be called."""


def _as_names(value: Any) -> list[str] | None:
    """
    >>> _as_names(["a", "b"]), _as_names({"b": 1, "a": 0}), _as_names({0: "a", 1: "b"}), _as_names({"a": 3})
    (['a', 'b'], ['a', 'b'], ['a', 'b'], None)
    """
    if isinstance(value, Mapping) and value:
        pairs = [(v, k) if isinstance(k, str) and not k.isdigit() else (k, v) for k, v in value.items()]
        numbered = {int(n): name for n, name in pairs if isinstance(n, int) or (isinstance(n, str) and n.isdigit())}
        value = [numbered.get(number) for number in range(len(value))]
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
        return list(value)
    return None
