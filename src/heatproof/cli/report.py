"""``heatproof report``: the page of runs, made from their files alone."""

from pathlib import Path
from typing import Annotated

import typer

from heatproof.cli import options
from heatproof.cli.console import open_page, volume, write


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several stand side by side.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page (.html), or its folder.", show_default="report.html")
    ] = None,
    quiet: options.Quiet = False,
    show: options.Open = False,
) -> None:
    """Make the page of a run again, or one page of several runs."""
    volume.quiet = quiet
    from heatproof.report.page import write_report

    page = write_report(runs, out)
    write(str(page))
    if show:
        open_page(page)
