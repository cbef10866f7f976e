"""Read a run folder as far as it is whole: an interrupted, damaged or older run still tells what it can."""

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from heatproof.errors import RunError
from heatproof.paths import read_file

FORMAT = 1
"""The version of the run folder's layout, in ``run.json``."""


@dataclass(frozen=True)
class RunFiles:
    """What a run folder holds.

    Attributes:
        folder: where it was read.
        record: ``run.json``; empty where missing or damaged.
        summary: ``summary.json``; empty where missing or damaged.
        images: ``images.parquet``, or what an unfinished run has of it; None where there is nothing.
        history: ``history.parquet`` of a fine-tuning; None where there is none.
        figures: the pictures under ``figures/``, sorted.
        views: the viewer's files under ``viewer/``, sorted.
        problems: what is missing, damaged or of another version, in sentences.
    """

    folder: Path
    record: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    images: pl.DataFrame | None = None
    history: pl.DataFrame | None = None
    figures: list[Path] = field(default_factory=list)
    views: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def command(self) -> str:
        """The command's name, or a question mark."""
        return str(self.record.get("command", "?"))

    @property
    def status(self) -> str:
        """``running``, ``complete``, ``interrupted``, ``failed``, or ``unknown``."""
        return str(self.record.get("status", "unknown"))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the summary table."""
        return [row for row in _list(self.summary.get("rows")) if isinstance(row, dict)]

    @property
    def skipped(self) -> list[dict[str, Any]]:
        """The images that could not be used, each with its reason."""
        return [entry for entry in _list(self.summary.get("skipped")) if isinstance(entry, dict)]

    @property
    def measured(self) -> int | None:
        """Where shards are missing, of how many images there are rows."""
        if not missing_shards(self.record) or self.images is None or "image" not in self.images.columns:
            return None
        return self.images["image"].n_unique()

    @property
    def answer(self) -> list[str]:
        """What came out, in sentences."""
        answer = self.summary.get("answer")
        return [answer] if isinstance(answer, str) else [str(line) for line in _list(answer)]


def read_run(folder: Path | str, record: dict[str, Any] | None = None) -> RunFiles:
    """Read all that is whole in a run folder, and list what is not.

    Args:
        record: what ``run.json`` is about to hold; ``None``: what it holds.

    Raises:
        RunError: the folder does not exist, or holds no run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"expected a run folder, and {folder} does not exist or is no folder")
    if not any((folder / name).exists() for name in ("run.json", "summary.json", "images.parquet")):
        raise RunError(
            f"expected a run folder with run.json, and {folder} has none; name the folder that was given as --out"
        )
    problems: list[str] = []
    within = partial(_within, folder, problems)
    record = record or (_read_part(folder / "run.json", problems) if within(folder / "run.json") else {})
    if record:
        problems += _judge(record)
    summary = _read_part(folder / "summary.json", problems) if within(folder / "summary.json") else {}
    table, history = folder / "images.parquet", folder / "history.parquet"
    images = read_table(table, problems, missing=False) if within(table) else None
    if images is None and within(folder / "parts"):
        images = _unfinished(folder, problems)
    return RunFiles(
        folder=folder,
        record=record,
        summary=summary,
        images=images,
        history=read_table(history, problems, missing=False) if within(history) else None,
        figures=[path for path in _listed(folder / "figures", "*.png") if within(path)],
        views=[path for path in _listed(folder / "viewer", "*.json") if within(path)],
        problems=problems,
    )


def _listed(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def _within(folder: Path, problems: list[str], path: Path) -> bool:
    """Whether a file, links followed, lies in the run folder: a stranger's folder must not bring in files of ours."""
    root = os.path.realpath(folder)
    if os.path.commonpath([root, os.path.realpath(path)]) == root:
        return True
    problems.append(f"{path.relative_to(folder).as_posix()} leads out of the run folder and was left out")
    return False


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None where it is damaged or cannot be read."""
    try:
        return json.loads(read_file(path))
    except (OSError, ValueError, RecursionError):
        return None


def missing_shards(record: dict[str, Any]) -> list[int]:
    """The shards that were missing or not done when a job was joined without them, by their numbers."""
    shards = record.get("shards")
    missing = shards.get("missing") if isinstance(shards, dict) else None
    return [number for number in _list(missing) if isinstance(number, int)]


def missing_sentence(record: dict[str, Any]) -> str:
    """Which shards a joined run lacks."""
    shards = record.get("shards")
    count = shards.get("count") if isinstance(shards, dict) else None
    lacking = numbers(missing_shards(record))
    return f"the job was joined without all of its shards (--partial): missing or not done {lacking} of {count}"


def numbers(found: Sequence[int]) -> str:
    """Ascending numbers in few words.

    >>> numbers([2, 5, 6, 7, 9])
    '2, 5-7, 9'
    """
    runs: list[list[int]] = []
    for number in found:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def is_record(content: Any) -> bool:
    """Whether this is the content of one of our ``run.json`` and not of some other program's."""
    return isinstance(content, dict) and "command" in content and "settings" in content and "status" in content


def gather_parts(folder: Path) -> tuple[pl.DataFrame, list[str]]:
    """All rows that wait in ``parts/``, in the order of the parts' names, and a sentence per damaged part."""
    problems: list[str] = []
    tables = [read_table(path, problems) for path in sorted((folder / "parts").glob("*.parquet"))]
    whole = [table for table in tables if table is not None and table.width]
    try:
        return (pl.concat(whole, how="diagonal_relaxed") if whole else pl.DataFrame()), problems
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0][:200]
        return pl.DataFrame(), [*problems, f"the files in {folder / 'parts'} do not fit each other ({reason})"]


def _unfinished(folder: Path, problems: list[str]) -> pl.DataFrame | None:
    table, damaged = gather_parts(folder)
    problems += damaged
    if table.height:
        problems.append(f"images.parquet is not there yet; {table.height} rows come from the parts that were done")
        return table
    problems.append("images.parquet is missing or damaged: there is no table of images")
    return None


def _judge(record: dict[str, Any]) -> list[str]:
    """What the record itself says against trusting this folder as a whole."""
    problems = []
    if not is_record(record):
        problems.append("run.json lacks the command, its settings or the status")
    version = record.get("format")
    if version != FORMAT:
        problems.append(f"run.json has format {version!r} and this version reads {FORMAT}: parts may be missing here")
    status = record.get("status")
    if status == "running":
        problems.append("the run has not ended: it is still going, or was killed; the same command resumes it")
    elif status == "interrupted":
        problems.append("the run was interrupted; the same command resumes it")
    elif status == "shard":
        problems.append(f"this is shard {record.get('shard')} of a job; heatproof merge joins it with the others")
    elif status == "joined":
        problems.append("the shards are joined, and the end of the run is to come; the same heatproof merge goes on")
    elif status == "partial":
        problems.append(missing_sentence(record))
    elif status == "failed":
        problems.append(f"the run failed: {record.get('error')}")
    elif status != "complete":
        problems.append(f"run.json has the status {status!r}, which is unknown here")
    return problems


def _read_part(path: Path, problems: list[str]) -> dict[str, Any]:
    if not path.exists():
        problems.append(f"{path.name} is missing")
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        problems.append(f"{path.name} is damaged and was left out")
        return {}
    return content


def read_table(path: Path, problems: list[str], missing: bool = True) -> pl.DataFrame | None:
    """A Parquet file, or None and a sentence among the ``problems``: it is damaged, or (if ``missing``) not there."""
    if not path.exists():
        if missing:
            problems.append(f"{path.name} is missing")
        return None
    try:
        # bytes, since polars takes brackets and stars in a path for patterns
        return pl.read_parquet(io.BytesIO(read_file(path)))
    # polars raises a kind of its own for each way in which a file can be broken
    except (Exception, pl.exceptions.PanicException) as error:
        problems.append(f"{path.name} is damaged and was left out ({type(error).__name__})")
        return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
