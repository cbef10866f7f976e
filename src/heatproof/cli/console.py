"""What a command says: progress and remarks on standard error, results on standard output."""

import json
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, runtime_checkable

from heatproof.paths import as_text

if TYPE_CHECKING:  # rich is loaded when there is something to say
    from rich.console import Console


@cache
def _remarks() -> "Console":
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


@cache
def _results() -> "Console":
    from rich.console import Console

    # a file or a pipe has no width: tables there keep their columns whole
    return Console(highlight=False, width=None if sys.stdout.isatty() else 240)


def say(text: str) -> None:
    """One remark, as it is: brackets in file names are no markup."""
    _remarks().print(as_text(text), markup=False, emoji=False)


def write(text: str) -> None:
    """One line of a result on standard output, as it is and unbroken."""
    _results().print(as_text(text), markup=False, emoji=False, soft_wrap=True)


def fail(text: str, status: int) -> NoReturn:
    """One sentence on standard error, and out."""
    say(f"heatproof: {text}")
    sys.exit(status)


@runtime_checkable
class Advance(Protocol):
    """Told how much more is done, and in words how it goes."""

    def __call__(self, count: int, text: str = "") -> None: ...


@contextmanager
def progress(title: str, total: int | None) -> Generator[Advance]:
    """A bar with the time left on a terminal, a plain line every ten seconds elsewhere."""
    if _remarks().is_terminal:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=_remarks(), transient=True) as bar:
            task = bar.add_task(title, total=total)

            def move(count: int, text: str = "") -> None:
                bar.update(task, advance=count, description=f"{title} ({text})" if text else None)

            yield move
        return
    done, begun, said = 0, time.monotonic(), ""
    last = begun

    def advance(count: int, text: str = "") -> None:
        nonlocal done, last, said
        done, said, now = done + count, text or said, time.monotonic()
        if now - last >= 10:
            last = now
            left = f", about {(now - begun) / done * (total - done):.0f} s left" if total and done else ""
            say(f"{title}: {done}{f' of {total}' if total else ''}{left}{f', {said}' if said else ''}")

    yield advance


def show_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], title: str = "") -> None:
    """A table on standard output; ``columns`` maps keys to heads, and a mean is shown with its interval."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for head in columns.values():
        table.add_column(head)
    for row in rows:
        table.add_row(*(Text(_cell(row, key)) for key in columns))
    _results().print(table)


def _cell(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return "-"
    if not isinstance(value, float):
        return as_text(str(value))
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    # an integer beyond every float comes from a file that somebody changed
    if isinstance(low, int | float) and isinstance(high, int | float) and max(abs(low), abs(high)) < 1e300:
        return f"{value:.4g} [{low:.4g}, {high:.4g}]"
    return f"{value:.4g}"


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
