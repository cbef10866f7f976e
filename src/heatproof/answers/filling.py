"""The frame of every verb from Python: its run folder or one that goes away, progress, and the result at the end."""

import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from heatproof.answers.given import Model
from heatproof.answers.pace import LONG, Pace
from heatproof.answers.result import Result
from heatproof.commands.effort import Effort
from heatproof.commands.record import data_record
from heatproof.data.sources import Source
from heatproof.errors import InputError, RunError
from heatproof.models.classifier import Classifier
from heatproof.models.record import with_bases
from heatproof.report.page import write_report
from heatproof.results.reading import gather_parts
from heatproof.results.run import Run
from heatproof.results.strict import read_summary
from heatproof.shard import WHOLE, Shard


def job_of(shard: str | None, out: Path | str | None) -> Shard:
    """The share that is asked for.

    Raises:
        InputError: there is no folder to keep it in.
    """
    if shard is not None and out is None:
        raise InputError(f"shard={shard!r} is joined with others later: give it a folder of its own, out=...")
    return WHOLE if shard is None else Shard.read(shard)


def named_model(model: Model) -> str:
    """What the run calls the model."""
    return model.name if isinstance(model, Classifier) else str(model)


def result(
    verb: str,
    run: Run,
    heads: dict[str, str],
    out: Path | str | None,
    shown: str = "rows",
    model: Classifier | None = None,
) -> Result:
    """What stands in the run folder, which may go away then; of a shard its rows, for nothing is answered yet."""
    if run.shard.is_share:
        images, _ = gather_parts(run.folder)
        told = f"shard {run.shard} is done; when all are, hp.merge joins their folders"
        return Result(verb, {"rows": [], "side_by_side": [], "answer": [told]}, images, heads, run.folder, shown)
    summary = read_summary(run.folder)
    images = pl.read_parquet(run.folder / "images.parquet")
    return Result(verb, summary, images, heads, None if out is None else run.folder, shown, model)


def same_photos(run: Run, source: Source) -> None:
    """Stop where the folder holds the answer for other photos: those in memory have no name that would tell.

    Raises:
        RunError: it does.
    """
    if not run.done or run.shard.is_share:
        return
    known, given = run.record.get("data"), data_record(source)
    if isinstance(known, dict) and known.get("sha256") not in (None, given["sha256"]):
        raise RunError(
            f"{run.folder} holds the answer for other photos ({known.get('count')} of {known.get('name')}; now "
            f"{given['count']} are given): choose another out=, or overwrite=True to begin anew"
        )


def make_page(folder: Path, record: dict[str, Any]) -> None:
    """The page of a run folder, whose run is complete when it is there."""
    write_report([folder], record=record)


@contextmanager
def filled(
    out: Path | str | None,
    command: str,
    settings: dict[str, Any],
    seed: int,
    overwrite: bool,
    inputs: Sequence[object],
    job: Shard = WHOLE,
) -> Generator[Run]:
    """The run folder that was asked for, with its page at the end, or one that goes away.

    Args:
        inputs: what the verb reads; ``overwrite`` never empties the files and folders among it.
        job: the share of the photos that the folder is to hold.
    """
    if out is None:
        with (
            tempfile.TemporaryDirectory(prefix="heatproof-") as folder,
            Run.start(Path(folder) / command, command=command, settings=settings, seed=seed) as run,
        ):
            yield run
        return
    asked: dict[str, Any] = {"command": command, "settings": settings, "seed": seed, "overwrite": overwrite}
    paths = [given for given in inputs if isinstance(given, str | Path)]
    with Run.start(out, **asked, inputs=with_bases(paths), page=make_page, shard=job) as run:
        yield run
    if not job.is_share and not (run.folder / "report.html").is_file():
        write_report([run.folder])


@contextmanager
def progress(
    title: str, total: int, run: Run | None = None, effort: Callable[[], Effort | None] | None = None
) -> Generator[Callable[[float], None]]:
    """A line that says once a second how far it is, on a terminal and in a notebook; silent elsewhere.

    Args:
        run: that is filled; of one that goes on, or is there already, nothing is said beforehand.
        effort: estimates what the work takes, which is said before it begins where that is long.
    """
    shown = sys.stderr.isatty() or "ipykernel" in sys.modules
    begins = run is None or not (run.done or run.resumed)
    found = effort() if shown and begins and effort is not None else None
    if found is not None and found.seconds >= LONG:
        sys.stderr.write(f"{title}: {found.words()}\n")
    pace, longest = Pace(total), 0

    def advance(count: float) -> None:
        nonlocal longest
        pace.add(count)
        if shown and pace.due():
            line = f"{title}: {pace.words()}"
            longest = max(longest, len(line))
            sys.stderr.write(f"\r{line:<{longest}}")
            sys.stderr.flush()

    yield advance
    if longest:
        sys.stderr.write("\r" + " " * longest + "\r")
        sys.stderr.flush()
