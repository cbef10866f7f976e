"""What a command says: progress and remarks on standard error, results on standard output."""

import json
import os
import sys
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, runtime_checkable

from heatproof.answers.pace import LONG, Pace
from heatproof.paths import as_text

if TYPE_CHECKING:  # rich is loaded when there is something to say
    from rich.console import Console

    from heatproof.commands.effort import Effort
    from heatproof.results.run import Run


@dataclass
class Volume:
    """How much a command says beside its result and its errors.

    Attributes:
        quiet: nothing; remarks on what was taken for granted stay.
        verbose: also what was read, with what it works and how long it took.
    """

    quiet: bool = False
    verbose: bool = False


volume = Volume()
"""Of the command that runs."""


@cache
def _remarks() -> "Console":
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


@cache
def _results() -> "Console":
    from rich.console import Console

    # a file or a pipe has no width: tables there keep their columns whole
    return Console(highlight=False, width=None if sys.stdout.isatty() else 240)


_before_next: list[str] = []


def say_before_next(text: str) -> None:
    """One remark that is made when the next one is; :func:`fail` forgets it, since nothing was begun."""
    _before_next[:] = [text]


def say(text: str, *, always: bool = False) -> None:
    """One remark, as it is: brackets in file names are no markup.

    Args:
        always: with ``--quiet`` too.
    """
    while _before_next and not always:
        say(_before_next.pop())
    if always or not volume.quiet:
        _remarks().print(as_text(text), markup=False, emoji=False)


def detail(text: str) -> None:
    """One remark for those who want to know more, ``--verbose``."""
    if volume.verbose:
        say(text)


def write(text: str) -> None:
    """One line of a result on standard output, as it is and unbroken."""
    _results().print(as_text(text), markup=False, emoji=False, soft_wrap=True)


def fail(text: str, status: int) -> NoReturn:
    """One sentence on standard error, and out."""
    say(f"heatproof: {text}", always=True)
    sys.exit(status)


def foretell(run: "Run", effort: "Callable[[], Effort | None]", shorter: str = "") -> None:
    """Before long work, how long it will take and how many passes; of a run that goes on, progress tells.

    Args:
        effort: makes the estimate; asked only where it would be said.
        shorter: what would take less time.
    """
    if volume.quiet or run.resumed or run.process:
        return
    found = effort()
    if found is not None and (found.seconds >= LONG or volume.verbose):
        say(f"{found.words()}{f'; {shorter}' if shorter else ''}")


def open_page(page: Path) -> None:
    """Show a page in the browser; not in a pipeline (``CI``), where nobody sees it, and not with ``--quiet``."""
    if volume.quiet or os.environ.get("CI"):
        return
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        say(f"there is no browser to open {page}")


@runtime_checkable
class Advance(Protocol):
    """Told how much more is done, and in words how it goes."""

    def __call__(self, count: float, text: str = "") -> None: ...


@contextmanager
def progress(
    title: str,
    total: int | None,
    *,
    run: "Run | None" = None,
    cycle: int = 1,
    sharers: int = 1,
    at_most: bool = False,
) -> Generator[Advance]:
    """How far the work is and how long it will still take: a bar on a terminal, else a line (:class:`Pace` says when).

    Args:
        run: the run that is filled; where it was begun before, what is told first took no time now.
        cycle: after so many steps comes something that takes longer.
        sharers: processes that share the work, of which this is one.
        at_most: the work may end early.
    """
    pace = Pace(total, resumed=run is not None and run.resumed, cycle=cycle, sharers=sharers)
    if volume.quiet or total == 0 or (run is not None and run.process):
        yield lambda count, text="": None
    elif _remarks().is_terminal:
        with _bar(title, pace, at_most) as advance:
            yield advance
    else:
        known = ""

        def tell(count: float, text: str = "") -> None:
            nonlocal known
            known = text or known
            pace.add(count)
            if pace.due():
                say(f"{title}: {pace.words(at_most=at_most)}{f', {known}' if known else ''}")

        yield tell


@contextmanager
def stages(
    totals: Mapping[str, tuple[int, int]], *, run: "Run", at_most: Collection[str] = ()
) -> Generator[Callable[[str, int], None]]:
    """Progress of work that has stages, each counted in its own unit and with its own time left.

    Args:
        totals: how many steps or photos, and after how many comes something that takes longer, by the stage's name.
        at_most: stages that may end early.
    """
    begun: dict[str, Advance] = {}
    with ExitStack() as stack:

        def advance(what: str, count: int) -> None:
            if what not in begun:
                stack.close()
                total, cycle = totals.get(what, (None, 1))
                begun[what] = stack.enter_context(progress(what, total, run=run, cycle=cycle, at_most=what in at_most))
            begun[what](count)

        yield advance


@contextmanager
def _bar(title: str, pace: Pace, at_most: bool) -> Generator[Advance]:
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Left(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(pace.words(at_most=at_most))

    with Progress(
        TextColumn("{task.description}"), BarColumn(), Left(), TimeElapsedColumn(), console=_remarks(), transient=True
    ) as bar:
        task = bar.add_task(title, total=pace.total)

        def move(count: float, text: str = "") -> None:
            pace.add(count)
            bar.update(task, advance=count, description=f"{title} ({text})" if text else None)

        yield move


def show_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], title: str = "") -> None:
    """A table on standard output; ``columns`` maps keys to heads, and a mean is shown with its interval."""
    from rich.table import Table
    from rich.text import Text

    from heatproof.report.words import in_line

    table = Table(title=title or None, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for head in columns.values():
        table.add_column(head)
    for row in rows:
        table.add_row(*(Text(as_text(in_line(row, key))) for key in columns))
    _results().print(table)


def show_skipped(skipped: Sequence[Mapping[str, str]]) -> None:
    """How many images were left out, and why the first of them."""
    if skipped:
        say(f"{len(skipped)} skipped, listed in summary.json:")
        for entry in skipped[:5]:
            say(f"  {entry['image']}: {entry['reason']}")


def show_json(summary: Any) -> None:
    """The summary on standard output, as strict JSON."""
    from heatproof.results.whole import plain

    sys.stdout.write(json.dumps(plain(summary), indent=2, allow_nan=False) + "\n")
