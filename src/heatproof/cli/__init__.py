"""The command line: ``heatproof VERB``. A user sees sentences, never a traceback.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 an audit's gate is shut, 130 interrupted.
"""

import os
import sys
import warnings

import typer

from heatproof.cli import audit, demo, evaluate, explain, fool, listing, report, shift, study
from heatproof.cli.console import fail
from heatproof.errors import HeatproofError, LayerError, SpecError

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
app.command("compare")(fool.compare)
app.command("audit")(audit.audit)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("study")(study.study)


def main() -> None:
    """The entry point: runs a command and turns what went wrong into one sentence and an exit status."""
    # photos of odd sizes make the decoder warn on the screen; what matters of that is in the list of skipped images
    warnings.filterwarnings("ignore", module="PIL")
    try:
        app()
    except HeatproofError as error:
        fail(str(error), 2 if isinstance(error, SpecError | LayerError) else 1)
    except BrokenPipeError:
        # the reader (head, less) has gone; Python must not complain about it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 1)


if __name__ == "__main__":
    main()
