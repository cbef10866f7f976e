"""Checkpoints are read as tensors only: nothing in a file is ever executed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from heatproof.errors import ModelError, nearest
from heatproof.models.classifier import Classifier
from heatproof.tensor_files import DamagedFile, is_finite, read_pickled, read_safetensors, why_not_plain

State = dict[str, Tensor]
# names under which training scripts keep the state_dict, and prefixes that wrappers put before every name
NESTS = ("state_dict", "model_state_dict", "model", "network", "net", "state_dict_ema")
PREFIXES = ("module.", "_orig_mod.", "network.", "model.")


def read_checkpoint(path: Path) -> tuple[State, dict[str, str]]:
    """The tensors by name, and the file's own remarks (safetensors metadata).

    Wrapping dictionaries (``{"state_dict": ...}``) and prefixes (``module.``, ``_orig_mod.``) are taken off.

    Raises:
        ModelError: for a file that is missing, damaged, holds no tensors or none of a network's, or would have to be
            executed to be read.
    """
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ModelError(f"there is no checkpoint {path}{hint}")
    try:
        loaded, remarks = read_safetensors(path) if path.suffix == ".safetensors" else (read_pickled(path), {})
    except DamagedFile as error:
        raise ModelError(f"{path} {error}") from error
    state = _tensors(loaded)
    if not state:
        raise ModelError(f"{path} holds no tensors by name; a state_dict was expected, got {type(loaded).__name__}")
    for name, value in state.items():
        if reason := why_not_plain(value):
            raise ModelError(f"{path}: the tensor {name} {reason}; give the weights as dense floating-point numbers")
    return state, remarks


def _tensors(loaded: Any) -> State:
    for nest in NESTS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(nest), Mapping):
            loaded = loaded[nest]
    if not isinstance(loaded, Mapping):
        return {}
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}


def load_state(network: nn.Module, state: State, source: str) -> None:
    """Put ``state`` into ``network``; every name must fit.

    Raises:
        ModelError: naming what is missing, unexpected, of another shape or type, or holds NaN or infinity.
    """
    own = network.state_dict()
    state = _stripped(state, own)
    # counts of batches are kept by some torch versions only, and nothing reads them in eval mode
    missing = [n for n in own if n not in state and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in state if n not in own and not n.endswith("num_batches_tracked")]
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
    state = _stripped(state, own)
    return [n for n in own if n in state and own[n].shape != state[n].shape]


def class_count(own: State, state: State) -> int | None:
    """How many classes the checkpoint has, where it differs from ``own`` in nothing but the rows of its last layer."""
    differing = shape_differences(own, state)
    if not differing:
        return None
    state = _stripped(state, own)
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


def _stripped(state: State, own: State) -> State:
    """Without wrappers' prefixes, as long as that brings the names nearer to the network's own."""
    for _ in range(len(PREFIXES)):
        for prefix in PREFIXES:
            if state and all(n.startswith(prefix) for n in state) and not any(n in own for n in state):
                state = {n.removeprefix(prefix): value for n, value in state.items()}
    return state


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
