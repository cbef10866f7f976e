"""``heatproof report``: the page of runs, made from their files alone."""

from pathlib import Path
from typing import Annotated

import typer

from heatproof.cli.console import say


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several stand side by side.")],
    out: Annotated[Path | None, typer.Option("--out", help="The page's name.", show_default="report.html")] = None,
) -> None:
    """Make the page of a run again, or one page of several runs."""
    from heatproof.report.page import write_report

    say(f"open {write_report(runs, out)}")
