"""``heatproof demo``: everything once, offline, in less than a minute."""

from pathlib import Path
from typing import Annotated

import typer

from heatproof.cli import options
from heatproof.cli.console import say, stages
from heatproof.cli.finish import filling, show
from heatproof.commands import columns


@options.grouped
def demo(
    work: options.WholeWork,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder that is made.")] = Path("demo"),
) -> None:
    """Everything once, on a network and scenes that the package carries."""
    work.whole("the demonstration takes a minute in one process; give it without --shard")
    from heatproof.commands.demo import run_demo, totals

    hardware = work.hardware()
    with filling(out, "demo", {"precision": work.precision}, work.seed, work.overwrite) as run:
        if not run.done:
            say("explaining, attacking, fooling, auditing and repairing a small network: a minute or two on two cores")
            with stages(totals(), run=run) as advance:
                run_demo(run, seed=work.seed, hardware=hardware, advance=advance)
    show(run, work, columns.DEMO)
