"""How every command that fills a run folder begins and ends."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heatproof.cli.console import say, show_json, show_rows, show_skipped
from heatproof.models.record import bases
from heatproof.report.page import write_report
from heatproof.results.run import Run
from heatproof.results.strict import read_summary


@contextmanager
def filling(
    out: Path,
    command: str,
    settings: Mapping[str, Any],
    seed: int,
    overwrite: bool,
    inputs: Sequence[Path | str | None] = (),
) -> Iterator[Run]:
    """The run folder of a command; when the work is done, its page ``report.html``, and only then it is complete.

    A folder in which the same command is complete is handed out with ``run.done``: nothing is to be done.

    Args:
        inputs: paths and names of models that the command reads; ``--overwrite`` never empties these.
    """
    process = int(os.environ.get("RANK", "0"))
    try:
        with Run.start(
            out,
            command=command,
            settings=settings,
            seed=seed,
            overwrite=overwrite,
            process=process,
            inputs=[name for given in inputs if given for name in (given, *bases(str(given)))],
            page=lambda folder, record: write_report([folder], record=record),
        ) as run:
            yield run
    except KeyboardInterrupt:
        say(f"interrupted; the same command goes on from what {out} holds")
        raise
    if process == 0 and run.done and not (out / "report.html").is_file():
        write_report([out])


def show(run: Run, as_json: bool, columns: Mapping[str, str]) -> None:
    """The summary on the screen: the answer in words, the table, what was skipped, and what to open."""
    if run.process != 0:
        return
    if run.done:
        say(f"{run.folder} is complete already; --overwrite makes it anew")
    summary = read_summary(run.folder)
    if as_json:
        show_json(summary)
    else:
        show_rows(summary["rows"], columns)
        for sentence in summary["answer"]:
            say(sentence)
    show_skipped(summary["skipped"])
    say(f"open {run.folder / 'report.html'}")
