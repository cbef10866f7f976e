"""``heatproof demo``: everything once, offline, in less than a minute."""

from pathlib import Path
from typing import Annotated

import typer

from heatproof.audits.demo import run_demo
from heatproof.cli import options
from heatproof.cli.console import say, show_json
from heatproof.models.hardware import Hardware
from heatproof.results.run import Run


def demo(
    out: Annotated[Path, typer.Option("--out", help="The run folder that is made.")] = Path("demo"),
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Everything once, on a network and scenes that the package carries."""
    hardware = Hardware(device, precision)  # type: ignore[arg-type]
    with Run.start(out, command="demo", settings={"precision": precision}, seed=seed, overwrite=overwrite) as run:
        if run.done:
            say(f"{out} is complete already; --overwrite makes it anew")
            return
        summary = run_demo(run, seed=seed, hardware=hardware, say=say)
    if json:
        show_json(summary)
    say(f"open {out / 'figures' / 'two-digits-0.png'}")
