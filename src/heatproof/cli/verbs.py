"""All verbs of ``heatproof``, a file each, named as in ``commands/``."""

from typing import Annotated

import typer

import heatproof
from heatproof.cli import (
    STATUS,
    audit,
    compare,
    defend,
    demo,
    evaluate,
    explain,
    fool,
    listing,
    merge,
    repair,
    report,
    shift,
    study,
)
from heatproof.cli import app as live

app = typer.Typer(
    name="heatproof",
    help="Can this network's heatmaps be trusted? Explain, attack, fool, audit, repair and defend classifiers.",
    epilog="Exit status: "
    + ", ".join(f"{status} {meaning.partition(':')[0]}" for status, meaning in STATUS.items())
    + ". A run that was stopped goes on by the same command.",
    no_args_is_help=True,
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
app.command("evaluate")(evaluate.evaluate)
app.command("repair")(repair.repair)
app.command("merge")(merge.merge)
app.command("defend")(defend.defend)
app.command("app")(live.app)
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
