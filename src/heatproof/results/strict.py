"""Read a run's file as it must be, or say in one sentence what is wrong with it and what to do.

Numbers and verdicts are made of what is read here, so nothing is left out or mended in silence; the report, which shows
what is whole and lists the rest, reads through :mod:`heatproof.results.reading`.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeGuard

import polars as pl

from heatproof.errors import HeatproofError, RunError
from heatproof.paths import read_file
from heatproof.results.reading import FORMAT, is_record, read_table

if TYPE_CHECKING:  # torch loads slowly, and a report needs none
    from torch import Tensor

LONGEST_JSON = 512 * 2**20
"""Bytes of a JSON file; the table of a million skipped photos takes a fifth of it."""
STATUSES = ("running", "complete", "interrupted", "failed", "shard", "joined", "partial")
ANEW = "give the same command with --overwrite to make the run anew"
KEPT_ANEW = "delete it and the file of the same name in parts, and give the same command again"


def read_object(path: Path, remedy: str, kind: type[HeatproofError] = RunError) -> dict[str, Any]:
    """The object in a JSON file; NaN and infinity are no JSON.

    Args:
        remedy: what to do where the file is not what it should be.

    Raises:
        HeatproofError: of the ``kind``, where the file is missing, damaged or holds something else.
    """
    content = _read_json(path, remedy, kind)
    if not isinstance(content, dict):
        _refuse(path, f"holds no object, but {type(content).__name__}", remedy, kind)
    return content


def read_record(path: Path, remedy: str) -> dict[str, Any]:
    """``run.json``, every field of the type that this version writes.

    Raises:
        RunError: it is damaged, another program's or another version's.
    """
    record = read_object(path, remedy)
    if not is_record(record):
        _refuse(path, "is damaged or was not written by heatproof", remedy)
    if record.get("format") != FORMAT:
        version = _short(record.get("format"))
        _refuse(path, f"was written by another version (format {version}, and this one reads {FORMAT})", remedy)
    wrong = [
        name
        for name, kinds in {
            "command": (str,),
            "settings": (dict,),
            "seed": (int,),
            "status": (str,),
            "options": (dict, type(None)),
            "versions": (dict, type(None)),
            "machine": (dict, type(None)),
            "model": (list, type(None)),
            "data": (dict, type(None)),
            "resumed": (list, type(None)),
            "shard": (str, type(None)),
            "shards": (dict, type(None)),
        }.items()
        if name in record and not isinstance(record[name], kinds)
    ]
    if wrong or record["status"] not in STATUSES:
        name = [*wrong, "status"][0]
        _refuse(path, f"is damaged: {_short(record[name])} is no {name}", remedy)
    return record


def read_summary(folder: Path, *tables: str) -> dict[str, Any]:
    """``summary.json``: ``rows`` and ``skipped`` are lists of objects, ``answer`` is a list of sentences.

    Args:
        tables: further lists of objects in it.

    Raises:
        RunError: it is missing, damaged or holds something else.
    """
    path = folder / "summary.json"
    summary = read_object(path, ANEW)
    for name in ("rows", "skipped", *tables):
        entries = summary.setdefault(name, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            _refuse(path, f"is damaged: its {name} are no list of objects", ANEW)
    _check_skipped(path, summary["skipped"], ANEW)
    answer = summary.setdefault("answer", [])
    summary["answer"] = [answer] if isinstance(answer, str) else answer
    if not isinstance(summary["answer"], list) or not all(isinstance(line, str) for line in summary["answer"]):
        _refuse(path, "is damaged: its answer is no list of sentences", ANEW)
    if not isinstance(summary.get("verdict", ""), str):
        _refuse(path, "is damaged: its verdict is no text", ANEW)
    return summary


def read_skipped(path: Path) -> list[dict[str, Any]]:
    """The skipped images of one part.

    Raises:
        RunError: the file is damaged.
    """
    rows = path.name.replace(".skipped.json", ".parquet")
    remedy = f"delete it and {rows} beside it, and give the same command again"
    entries = _read_json(path, remedy, RunError)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        _refuse(path, "is damaged: it is no list of skipped images", remedy)
    _check_skipped(path, entries, remedy)
    return entries


def read_tensors(path: Path, remedy: str) -> "dict[str, Tensor]":
    """A safetensors file of dense tensors of real numbers.

    Raises:
        RunError: it is missing, damaged, empty, or holds something else.
    """
    from heatproof.tensor_files import DamagedFile, read_safetensors, why_not_plain

    if not path.is_file():
        _refuse(path, "is missing", remedy)
    try:
        tensors = read_safetensors(path)[0]
    except DamagedFile as error:
        _refuse(path, str(error), remedy)
    if not tensors:
        _refuse(path, "holds no tensors", remedy)
    for name, value in tensors.items():
        if reason := why_not_plain(value):
            _refuse(path, f"is damaged: {_short(name)} {reason}", remedy)
    return tensors


def read_maps(path: Path, remedy: str) -> "Mapping[str, Tensor]":
    """Heatmaps by image: finite numbers ``[rows, cols]``; each is checked now, and read again when it is asked for.

    Raises:
        RunError: it is missing, damaged or holds something else.
    """
    from heatproof.tensor_files import DamagedFile, StoredTensors, is_finite

    if not path.is_file():
        _refuse(path, "is missing", remedy)
    try:
        maps = StoredTensors(path)
        if not maps:
            _refuse(path, "holds no tensors", remedy)
        for name, value in maps.items():
            if value.ndim != 2 or not value.is_floating_point() or not value.numel():
                _refuse(path, f"holds no maps [rows, cols]: {_short(name)} is {_shape(value)}", remedy)
            if not is_finite(value):
                _refuse(path, f"holds NaN or infinity in the map of {_short(name)}", remedy)
    except DamagedFile as error:
        _refuse(path, str(error), remedy)
    return maps


def tensors_of_parts(folder: Path, remedy: str = KEPT_ANEW) -> "Iterator[tuple[Path, dict[str, Tensor]]]":
    """Each part in a folder and its tensors, which fit those of the first but for the first dimension.

    Raises:
        RunError: there is no part; one is damaged, or does not fit the first.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise RunError(f"{folder} holds no tensors (*.safetensors); {ANEW}")
    first: dict[str, Tensor] = {}
    for path in paths:
        part = read_tensors(path, remedy)
        # types and shapes alone: the first part must not stay in memory for them
        first = first or {name: value.to("meta") for name, value in part.items()}
        if part.keys() != first.keys():
            odd = sorted(part.keys() ^ first.keys())[0]
            _refuse(path, f"does not fit {paths[0].name}: only one of them has {_short(odd)}", remedy)
        for name, value in part.items():
            if not value.ndim or value.dtype != first[name].dtype or value.shape[1:] != first[name].shape[1:]:
                difference = f"{_short(name)} is {_shape(value)} here and {_shape(first[name])} there"
                _refuse(path, f"does not fit {paths[0].name}: {difference}", remedy)
        yield path, part


def gather_tensor(folder: Path, name: str, remedy: str = KEPT_ANEW) -> "Tensor | None":
    """The tensors of one name of all parts in a folder, one behind the other; the others are read and forgotten.

    Raises:
        RunError: as :func:`tensors_of_parts`.
    """
    import torch

    # what safetensors hands out is the whole file, mapped into memory
    found = [part[name].clone() for _, part in tensors_of_parts(folder, remedy) if name in part]
    return torch.cat(found) if found else None


def read_images(folder: Path, remedy: str = ANEW) -> pl.DataFrame:
    """``images.parquet`` of a complete run.

    Raises:
        RunError: it is missing or damaged.
    """
    path = folder / "images.parquet"
    problems: list[str] = []
    table = read_table(path, problems)
    if table is None:
        raise RunError(f"{path}: {problems[0]}; {remedy}")
    return table


def check_columns(
    path: Path, table: pl.DataFrame, columns: Mapping[str, type[pl.DataType] | None], remedy: str = ANEW
) -> None:
    """Stop a table that lacks a column, or has it of another type.

    Args:
        columns: each with its type, or ``None`` for any that holds numbers.

    Raises:
        RunError: naming the first.
    """
    for name, kind in columns.items():
        if name not in table.columns:
            _refuse(path, f"has no column {name}", remedy)
        found = table.schema[name]
        numeric = found.is_numeric() or found.base_type() in (pl.Boolean, pl.Null)
        if found != kind if kind is not None else not numeric:
            wanted = "number" if kind is None else kind.__name__
            _refuse(path, f"has the column {name} of {found}, and {wanted} is expected", remedy)


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value from JSON is a finite number; true and false are none.

    >>> is_number(0.5), is_number(True), is_number(float("nan")), is_number("1")
    (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _read_json(path: Path, remedy: str, kind: type[HeatproofError]) -> Any:
    def no_number(text: str) -> NoReturn:
        raise ValueError(f"{text} is no number")

    try:
        if path.stat().st_size > LONGEST_JSON:
            raise ValueError(f"it is longer than {LONGEST_JSON} bytes")
        return json.loads(read_file(path), parse_constant=no_number)
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        _refuse(path, f"cannot be read: {reason[:200]}", remedy, kind)


def _check_skipped(path: Path, entries: list[dict[str, Any]], remedy: str) -> None:
    if not all(isinstance(entry.get(name), str) for entry in entries for name in ("image", "reason")):
        _refuse(path, "is damaged: a skipped image has no name or no reason", remedy)


def _refuse(path: Path, what: str, remedy: str, kind: type[HeatproofError] = RunError) -> NoReturn:
    raise kind(f"{path} {what}; {remedy}")


def _shape(value: "Tensor") -> str:
    return f"{list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
