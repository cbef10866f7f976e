"""How every command that fills a run folder begins and ends."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heatproof.cli import typed_command
from heatproof.cli.console import detail, open_page, say, say_before_next, show_json, show_rows, show_skipped, write
from heatproof.errors import HeatproofError, SpecError

if TYPE_CHECKING:  # torch and polars load slowly
    from heatproof.cli.options import Work
    from heatproof.processes import Processes
    from heatproof.results.run import Run


@contextmanager
def filling(
    out: Path | None,
    command: str,
    settings: Mapping[str, Any],
    seed: int,
    overwrite: bool,
    processes: "Processes | None" = None,
    *,
    inputs: Sequence[Path | str | None] = (),
) -> Generator["Run"]:
    """The run folder of a command; when the work is done, its page ``report.html``, and only then it is complete.

    A folder in which the same command is complete is handed out with ``run.done``: nothing is to be done.

    Args:
        out: the folder; ``None``: one of its own (:func:`~heatproof.results.folder.own_folder`), which is said.
        processes: that share the work; ``None``: the command works in one process only.
        inputs: paths and names of models that the command reads; ``--overwrite`` never empties these.

    Raises:
        SpecError: several processes were launched for a command that works in one.
    """
    from heatproof.models.record import with_bases
    from heatproof.processes import Processes, launched
    from heatproof.report.page import write_report
    from heatproof.report.words import span_of
    from heatproof.results.folder import own_folder
    from heatproof.results.run import start_together

    if processes is None and launched()[1] > 1:
        raise SpecError(
            f"heatproof {command} works in one process and was launched in {launched()[1]}: "
            "give the same command without torchrun or accelerate launch"
        )
    processes = processes or Processes()
    if out is None:
        if processes.count > 1:
            raise SpecError("several processes must agree on one folder: give --out")
        out = own_folder(command, settings, seed, shard=processes.job)
        say_before_next(f"into {out}")
    wanted = {"command": command, "settings": settings, "seed": seed, "overwrite": overwrite}
    typed = typed_command()

    def make_page(folder: Path, record: dict[str, Any]) -> None:
        write_report([folder], record=record)

    begun = False
    try:
        with start_together(
            out,
            processes,
            **wanted,
            options={"typed": typed} if typed else {},
            inputs=with_bases(inputs),
            page=make_page,
            shard=processes.job,
        ) as run:
            if run.process == 0:
                _tell(run)
            begun = True
            yield run
    except HeatproofError as error:
        # where nothing was kept the folder is gone again, and the command itself is at fault
        if error.usage is None and begun and out.exists():
            error.usage = False
        raise
    except KeyboardInterrupt:
        if processes.index == 0:
            say(f"interrupted; the same command goes on from what {out} holds")
        raise
    if run.process == 0 and not run.done:
        detail(f"it took {span_of(run.record)}")
    if processes.ends and run.done and not (out / "report.html").is_file():
        write_report([out])


def _tell(run: "Run") -> None:
    """With ``--verbose``: what is asked, and by which program on which machine."""
    record = run.record
    for name, value in {
        **record["settings"],
        "seed": record["seed"],
        **record["versions"],
        **record["machine"],
    }.items():
        if value is not None:
            detail(f"{name}: {value}")


def show(run: "Run", work: "Work", columns: Mapping[str, str], rows: str = "rows") -> None:
    """The summary: the table and the answer in words on standard output; what was skipped, and what to open.

    Args:
        rows: which table of the summary.
    """
    if run.process != 0:
        return
    if run.shard.is_share:
        say(
            f"shard {run.shard} is done in {run.folder}; "
            f"when all {run.shard.count} are, heatproof merge RUN... joins their folders"
        )
        return
    if run.done:
        say(f"{run.folder} is complete already; --overwrite makes it anew")
    from heatproof.results.strict import read_summary

    summary = read_summary(run.folder, rows)
    if work.json:
        show_json(summary)
    else:
        show_rows(summary[rows], columns)
        for sentence in summary["answer"]:
            write(sentence)
    show_skipped(summary["skipped"])
    say(f"open {run.folder / 'report.html'}")
    if work.open:
        open_page(run.folder / "report.html")
