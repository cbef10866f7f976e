"""A folder that somebody hands in to the board, read and checked: ``board.json`` and a checkpoint beside it.

Nothing in the folder is run: weights are a safetensors file, and the explainer is a spec of the catalog.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heatproof import catalog, spec
from heatproof.errors import InputError, SpecError, did_you_mean
from heatproof.studies.board.submission import KEYS, Submission, hash_of

FILE = "board.json"
LARGEST = 100_000
"""Bytes of it."""


def read_submission(folder: Path | str) -> Submission:
    """What ``heatproof study board --add FOLDER`` measures.

    ``board.json`` holds ``name``, ``network`` (of the board), ``checkpoint`` (a safetensors file in the folder),
    ``explainer`` (a spec), ``adaptive`` (specs of attacks that know the defence, with the board's epsilon) and
    ``claims`` (columns of the board and numbers).

    Raises:
        InputError: saying what is missing or does not fit, and what would.
        SpecError: an explainer or an attack that is not in the catalog.
    """
    folder = Path(folder)
    file = folder / FILE
    if not file.is_file():
        raise InputError(
            f"{folder} holds no {FILE}; it says what is handed in: {', '.join(KEYS)} (docs: Submit to the board)"
        )
    given = _read(file)
    for key in KEYS:
        if key not in given:
            raise InputError(f"{file} has no {key!r}; it needs {', '.join(KEYS)}")
    for key in given:
        if key not in KEYS:
            raise InputError(f"{file} has {key!r}, which means nothing; {did_you_mean(key, KEYS)}")
    name, network, explainer = (_text(given, key, file) for key in ("name", "network", "explainer"))
    checkpoint = _checkpoint(folder, _text(given, "checkpoint", file), file)
    return Submission(
        name,
        network,
        str(checkpoint),
        _built(explainer, catalog.EXPLAINERS, "explainer", file),
        tuple(_built(text, catalog.ATTACKS, "attack", file) for text in _attacks(given["adaptive"], file)),
        tuple(_claims(given["claims"], file)),
        hash_of(checkpoint),
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > LARGEST:
            raise InputError(f"{file} has over {LARGEST:,} bytes, and needs some hundred")
        given = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} is no JSON that can be read ({error})") from error
    if not isinstance(given, dict):
        raise InputError(f"{file} holds no object; it needs {', '.join(KEYS)}")
    return given


def _text(given: Mapping[str, Any], key: str, file: Path) -> str:
    text = given[key]
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{key!r} of {file} is a text, got {text!r}")
    return text.strip()


def _checkpoint(folder: Path, name: str, file: Path) -> Path:
    found = (folder / name).resolve()
    if not found.is_relative_to(folder.resolve()):
        raise InputError(f"the checkpoint of {file} lies in the same folder, got {name!r}")
    if found.suffix != ".safetensors":
        raise InputError(
            f"the checkpoint of {file} is a safetensors file, which runs nothing when it is read; got {name!r}"
        )
    if not found.is_file():
        raise InputError(f"{file} names the checkpoint {name!r}, which is not in {folder}")
    return found


def _built(text: str, entries: Mapping[str, Any], kind: str, file: Path) -> Any:
    try:
        return spec.build(text, entries, kind)
    except (SpecError, InputError) as error:
        raise type(error)(f"{file}: {error}") from error


def _attacks(given: Any, file: Path) -> list[str]:
    attacks = [given] if isinstance(given, str) else given
    if not isinstance(attacks, list) or not all(isinstance(text, str) for text in attacks):
        raise InputError(
            f"'adaptive' of {file} is a list of attacks such as pgd(epsilon=4/255, steps=50), got {given!r}"
        )
    return attacks


def _claims(given: Any, file: Path) -> list[tuple[str, float]]:
    if not isinstance(given, dict):
        raise InputError(f"'claims' of {file} is an object of columns and numbers, got {given!r}")
    for name, value in given.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or value != value
            or abs(value) == float("inf")
        ):
            raise InputError(f"the claim {name!r} of {file} is a number, got {value!r}")
    return [(str(name), float(value)) for name, value in given.items()]
