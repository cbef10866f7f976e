"""Checkpoints are read as tensors only: nothing in a file is ever executed."""

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from heatproof.errors import ModelError, nearest

State = dict[str, Tensor]
# names under which training scripts keep the state_dict, and prefixes that wrappers put before every name
NESTS = ("state_dict", "model_state_dict", "model", "network", "net", "state_dict_ema")
PREFIXES = ("module.", "_orig_mod.", "network.", "model.")


def read_checkpoint(path: Path) -> tuple[State, dict[str, str]]:
    """The tensors by name, and the file's own remarks (safetensors metadata).

    Wrapping dictionaries (``{"state_dict": ...}``) and prefixes (``module.``, ``_orig_mod.``) are taken off.

    Raises:
        ModelError: for a file that is missing, damaged, holds no tensors, or would have to be executed to be read.
    """
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ModelError(f"there is no checkpoint {path}{hint}")
    remarks: dict[str, str] = {}
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as file:
                remarks = file.metadata() or {}
                loaded: Any = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is no whole safetensors file: {error}") from error
    else:
        try:
            with warnings.catch_warnings():
                # torch warns of pickle protocols that it did not write; whether the file can be read is told below
                warnings.simplefilter("ignore", UserWarning)
                loaded = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            wanted = re.search(r"GLOBAL (\S+)", str(error))
            if wanted is None:
                raise ModelError(f"{path} is no checkpoint of tensors, or is damaged") from error
            raise ModelError(
                f"{path} holds more than tensors: reading it would run code ({wanted[1]}), so it is refused. "
                "Save the weights alone: torch.save(model.state_dict(), ...) or safetensors"
            ) from error
        except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
            if "torchscript" in str(error).lower():
                raise ModelError(
                    f"{path} is a TorchScript archive; save the state_dict of the model instead"
                ) from error
            raise ModelError(f"{path} cannot be read as a checkpoint: {str(error).splitlines()[0]}") from error
    state = _tensors(loaded)
    if not state:
        raise ModelError(f"{path} holds no tensors by name; a state_dict was expected, got {type(loaded).__name__}")
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
        ModelError: naming what is missing, unexpected or of another shape.
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
    wrong = shape_differences(own, state)
    if wrong:
        shown = "; ".join(f"{n}: {list(own[n].shape)} expected, {list(state[n].shape)} found" for n in wrong[:3])
        raise ModelError(f"{source} does not fit {type(network).__name__}: {shown}")
    network.load_state_dict(state, strict=False)


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
    rows = {(own[n].shape[0], state[n].shape[0]) for n in differing}
    same_rest = all(own[n].shape[1:] == state[n].shape[1:] for n in differing)
    # Inception's and GoogLeNet's auxiliary heads have as many rows as the main one
    return next(iter(rows))[1] if len(rows) == 1 and same_rest else None


def classes_in(remarks: Mapping[str, str]) -> list[str] | None:
    """Class names that the file carries (metadata ``classes``, a JSON list)."""
    try:
        found = json.loads(remarks.get("classes", "null"))
    except json.JSONDecodeError:
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
