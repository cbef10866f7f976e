"""What ``run.json`` says of the model that a run was made from; it may be a stranger's, so every text is checked."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heatproof.errors import InputError, ModelError
from heatproof.models.altered import Alteration
from heatproof.models.planted import Planting
from heatproof.paths import read_file

LONGEST_RECORD = 64 * 2**20
"""Bytes of a ``run.json``."""
ALTERED = "altered.json"
"""Beside ``model.safetensors``, where the network was altered in more than its weights."""


FETCHING = {"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "pretrained"}
"""Arguments of timm's that name files or addresses."""
MOST_CLASSES = 100_000
"""The largest number that a run folder may give a network to be built with."""


def check_options(options: Mapping[str, Any], record: Path) -> None:
    """Stop arguments of a stranger's that name further files, or numbers that no network needs.

    Raises:
        ModelError: naming the argument.
    """
    for name, value in options.items():
        plain = value is None or isinstance(value, bool | float | str) or (type(value) is int and value <= MOST_CLASSES)
        if name in FETCHING or not plain:
            raise ModelError(
                f"{record} names the argument {name}={str(value)[:100]} of a network, which a run folder may not; "
                "give the architecture yourself: --architecture NAME"
            )


def base_of(record: Path) -> tuple[str, Planting | None]:
    """The name of the model that a run was made from, and where a filter was planted.

    Raises:
        ModelError: ``run.json`` does not say it as texts and numbers.
    """
    try:
        models = _read(record)["model"]
        entry = models[0] if isinstance(models, list) else models
        base, planting = entry["name"], entry.get("planted")
        if not isinstance(base, str) or not base:
            raise ValueError(f"the name of a model is a text, and this is {type(base).__name__}")
        if len(base) > 4096:
            raise ValueError(f"a name of {len(base)} letters is none")
        return base, _planting(planting) if planting else None
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{record} does not say which model was fooled ({type(error).__name__}: {str(error)[:200]}); "
            "give the folder as `heatproof fool` wrote it"
        ) from error


def alteration_of(folder: Path) -> Alteration | None:
    """What was altered in the network beside its weights, as ``altered.json`` says; ``None``: there is no such file.

    Raises:
        ModelError: it says something that cannot be.
    """
    file = folder / ALTERED
    if not file.is_file():
        return None
    try:
        altered = _read(file)
        softplus, blur, layer = altered["softplus"], altered["blur"], altered["layer"]
        if not all(type(value) in (int, float) for value in (softplus, blur) if value is not None):
            raise ValueError("beta and blur are numbers")
        if layer is not None and (not isinstance(layer, str) or len(layer) > 4096):
            raise ValueError("a layer is named")
        return Alteration(softplus, blur, layer)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, InputError) as error:
        raise ModelError(
            f"{file} does not say how the network was altered ({type(error).__name__}: {str(error)[:200]}); "
            "give the folder as `heatproof defend` wrote it"
        ) from error


def _read(file: Path) -> Any:
    if file.stat().st_size > LONGEST_RECORD:
        raise ValueError(f"it is longer than {LONGEST_RECORD} bytes")
    return json.loads(read_file(file))


def bases(name: str) -> list[str]:
    """The models that a run folder was made from, and these from; none where ``name`` is no run folder."""
    found: list[str] = []
    while name not in found and (Path(name) / "run.json").is_file() and (Path(name) / "model.safetensors").is_file():
        try:
            name = base_of(Path(name) / "run.json")[0]
        except ModelError:
            break
        found.append(name)
    return found


def _planting(entry: dict[str, Any]) -> Planting:
    planting = Planting(**entry)
    sizes = (planting.channels, planting.rows, planting.cols)
    if not all(type(size) is int and 0 < size <= 2**16 for size in sizes) or planting.rows * planting.cols > 2**24:
        raise ValueError(f"a planting has channels, rows and columns, got {sizes}")
    seen = (planting.trigger, planting.inputs)
    if (
        not all(type(size) is int and 0 <= size <= 2**12 for size in seen)
        or planting.trigger**2 * planting.inputs > 2**24
    ):
        raise ValueError(f"a trigger has a side and channels, got {seen}")
    head: Any = planting.head
    if not isinstance(head, list) or not all(isinstance(name, str) for name in (planting.layer, *head)):
        raise ValueError("a planting names a layer and the layers of the head")
    return planting


def with_bases(inputs: Sequence[Path | str | None]) -> list[Path | str]:
    """What a verb reads, with what the runs among it were made from: ``--overwrite`` never empties any of it."""
    return [name for given in inputs if given for name in (given, *bases(str(given)))]
