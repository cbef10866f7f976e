"""All verbs of ``heatproof``, a file each, named as in ``commands/``."""

from typing import Annotated

import typer

import heatproof
from heatproof.cli import audit, compare, demo, explain, fool, listing, report, shift, study

app = typer.Typer(
    name="heatproof",
    help="Can this network's heatmaps be trusted? Explain, attack, fool and audit convolutional networks.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("list")(listing.list_)
app.command("demo")(demo.demo)
app.command("explain")(explain.explain)
app.command("shift")(shift.shift)
app.command("fool")(fool.fool)
app.command("compare")(compare.compare)
app.command("audit")(audit.audit)
app.command("report")(report.report)
app.command("study")(study.study)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"heatproof {heatproof.__version__}")
        raise typer.Exit


@app.callback()
def _all(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None: ...
