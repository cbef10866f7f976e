"""Checkpoints are read as tensors only: nothing in a file is ever executed."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heatproof.errors import ModelError, Remark, nearest
from heatproof.models.classifier import Classifier
from heatproof.models.nests import UNREAD, Fit, Nest, State, best_fit, class_names, nests_in
from heatproof.models.pickles import NotReadable, read_inert
from heatproof.tensor_files import DamagedFile, NeedsCode, is_finite, read_pickled, read_safetensors, why_not_plain


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds.

    Attributes:
        path: of the file.
        nests: the dictionaries of tensors in it.
        classes: names of classes that it carries, and whether they are its own remark (safetensors metadata).
        choice: of several nests that fit, the one that the user named.
    """

    path: Path
    nests: list[Nest]
    classes: list[str] | None = None
    declared: bool = False
    choice: str | None = None

    def fitting(self, own: State) -> State:
        """The tensors of the nest, and under the prefix, that most of a network's names have.

        What lies beside them in the nest, and other nests that fit as well, are named in a remark.

        Raises:
            ModelError: the choice is not in the file.
        """
        try:
            fit, others = best_fit(self.nests, own, self.choice)
        except ModelError as error:
            raise ModelError(f"{self.path} {error}") from error
        wanted = [f"{name} is an object of {fit.nest.inert[name]}, which is not made" for name in fit.nest.inert]
        missing = [n for n in own if n not in fit.state and n.removeprefix(fit.added) in fit.nest.inert]
        if missing:
            raise ModelError(f"{self.path}: {'; '.join(wanted[:3])}; weights are tensors")
        for name, value in fit.state.items():
            if reason := why_not_plain(value):
                raise ModelError(
                    f"{self.path}: the tensor {name} {reason}; give the weights as dense floating-point numbers"
                )
        # what does not fit is refused where it is loaded
        if fit.names == sum(not name.endswith(UNREAD) for name in own):
            self._say(fit, [other for other in others if self.choice is None and _differ(fit, other, own)])
        return fit.state

    def _say(self, fit: Fit, others: list[Fit]) -> None:
        """Which weights are taken, where others would fit or lie beside them."""
        if others:
            labels = [other.label or "the file itself" for other in others]
            text = (
                f"{self.path}: the weights are those of {fit.label or 'the file itself'}; {_few(labels)} would fit as "
            )
            warnings.warn(Remark(f"{text}well (write {self.path}#{labels[0]})"), stacklevel=3)
        left_out = [name for name in fit.left_out if not name.endswith(UNREAD)]
        if left_out:
            text = (
                f"{self.path}: {len(fit.state)} tensors under {fit.prefix!r} are the network's; {len(left_out)} beside "
            )
            warnings.warn(Remark(f"{text}them are left out ({_few(left_out)})"), stacklevel=3)


def _differ(a: Fit, b: Fit, own: State) -> bool:
    """Whether two fits are two networks: a copy is no choice."""
    there = [name for name in own if name in a.state and name in b.state]
    pairs = [(a.state[name], b.state[name]) for name in there]
    if any(why_not_plain(x) or why_not_plain(y) for x, y in pairs):
        return True
    return any(x.shape != y.shape or not torch.equal(x, y) for x, y in pairs)


def read_checkpoint(path: Path) -> Checkpoint:
    """The dictionaries of tensors in a file; ``FILE#NAME`` chooses one of them.

    Objects of classes are never made (:mod:`heatproof.models.pickles`): of a module that was pickled whole, and of a
    training's settings beside the weights, nothing runs.

    Raises:
        ModelError: for a file that is missing, damaged, or holds no tensors or none of a network's.
    """
    choice = None
    if not path.is_file() and "#" in path.name:
        name, _, choice = path.name.rpartition("#")
        path = path.with_name(name) if name else path
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ModelError(f"there is no checkpoint {path}{hint}")
    left: set[str] = set()
    classes = None
    try:
        if path.suffix == ".safetensors":
            loaded, remarks = read_safetensors(path)
            classes = classes_in(remarks)
        else:
            loaded, left = _read_training(path)
        nests = nests_in(loaded)
    except DamagedFile as error:
        raise ModelError(f"{path} {error}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    if not nests:
        what = f"objects of {', '.join(sorted(left))[:200]}, which are not made: reading it would run code"
        raise ModelError(
            f"{path} holds no tensors by name; a state_dict was expected, got "
            + (f"{what} ({sorted(left)[0][:100]}), so it is refused" if left else type(loaded).__name__)
        )
    return Checkpoint(path, nests, classes or class_names(loaded), classes is not None, choice)


def _read_training(path: Path) -> tuple[Any, set[str]]:
    """What ``torch.save`` wrote, by torch's tensors-only reader where it can; and the classes that were not made."""
    try:
        return read_pickled(path), set()
    except NeedsCode as refusal:
        try:
            return read_inert(path)
        # a damaged pickle may end in any exception
        except Exception as error:
            reason = f": {error}" if isinstance(error, NotReadable) else ""
            raise DamagedFile(f"is no checkpoint of tensors, or is damaged{reason}") from refusal


def load_state(network: nn.Module, state: State, source: str) -> None:
    """Put ``state`` into ``network``; every name must fit.

    Raises:
        ModelError: naming what is missing, unexpected, of another shape or type, or holds NaN or infinity.
    """
    own = network.state_dict()
    # counts of batches are kept by some torch versions only, and nothing reads them in eval mode
    missing = [n for n in own if n not in state and not n.endswith(UNREAD)]
    unexpected = [n for n in state if n not in own and not n.endswith(UNREAD)]
    if missing or unexpected:
        parts = [f"{len(missing)} missing ({_few(missing)})"] if missing else []
        if unexpected:
            parts.append(f"{len(unexpected)} unexpected ({_few(unexpected)})")
        near = nearest(missing[0], unexpected) if missing else []
        hint = f"; is {near[0]} meant for {missing[0]}?" if near else ""
        raise ModelError(f"{source} does not fit {type(network).__name__}: names {' and '.join(parts)}{hint}")
    for name in own:
        if name in state and own[name].is_floating_point() and not state[name].is_floating_point():
            kind = str(state[name].dtype).removeprefix("torch.")
            raise ModelError(f"{source}: the tensor {name} is of {kind}, and floating-point numbers are expected")
    wrong = shape_differences(own, state)
    if wrong:
        shown = "; ".join(f"{n}: {list(own[n].shape)} expected, {list(state[n].shape)} found" for n in wrong[:3])
        raise ModelError(f"{source} does not fit {type(network).__name__}: {shown}")
    for name in own:
        if name in state:
            _check_numbers(name, state[name].to(own[name].dtype), source, own[name])
    network.load_state_dict(state, strict=False)


def check_weights(model: nn.Module) -> None:
    """Stop a network whose numbers are none that a heatmap could come from.

    Raises:
        ModelError: naming the first tensor with NaN or infinity, or complex, sparse, quantised or on the meta device.
    """
    network = model.network if isinstance(model, Classifier) else model
    for name, value in network.named_parameters():
        if reason := why_not_plain(value):
            raise ModelError(f"{_named(model)}: the weight {name} {reason}; heatmaps need dense floating-point numbers")
        if not value.is_floating_point():
            raise ModelError(f"{_named(model)}: the weight {name} is of {value.dtype}; heatmaps need floating point")
        _check_numbers(name, value, _named(model))
    for name, value in network.named_buffers():
        # a mask of attention may hold infinities
        if reason := why_not_plain(value):
            raise ModelError(f"{_named(model)}: the buffer {name} {reason}; heatmaps need dense floating-point numbers")
        if value.is_floating_point() and value.numel() and bool(value.isnan().any()):
            raise ModelError(f"{_named(model)}: the buffer {name} holds NaN; give a model whose numbers are finite")


def _named(model: nn.Module) -> str:
    return getattr(model, "name", None) or type(model).__name__


def _check_numbers(name: str, value: Tensor, source: str, own: Tensor | None = None) -> None:
    # what the architecture itself makes infinite (a mask of attention) may be so
    if not is_finite(value) and (own is None or is_finite(own) or bool(value.isnan().any())):
        raise ModelError(f"{source}: the tensor {name} holds NaN or infinite numbers; give weights that are finite")


def shape_differences(own: State, state: State) -> list[str]:
    """Names that both have, with other shapes."""
    return [n for n in own if n in state and own[n].shape != state[n].shape]


def class_count(own: State, state: State) -> int | None:
    """How many classes the checkpoint has, where it differs from ``own`` in nothing but the rows of its last layer."""
    differing = shape_differences(own, state)
    if not differing:
        return None
    if any(own[n].ndim != state[n].ndim or not own[n].ndim for n in differing):
        return None
    rows = {(own[n].shape[0], state[n].shape[0]) for n in differing}
    same_rest = all(own[n].shape[1:] == state[n].shape[1:] for n in differing)
    # Inception's and GoogLeNet's auxiliary heads have as many rows as the main one
    return next(iter(rows))[1] if len(rows) == 1 and same_rest else None


def classes_in(remarks: Mapping[str, str]) -> list[str] | None:
    """Class names that the file carries (metadata ``classes``, a JSON list)."""
    try:
        found = json.loads(remarks.get("classes", "null"))
    except (ValueError, RecursionError):
        return None
    return [str(name) for name in found] if isinstance(found, list) else None


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
