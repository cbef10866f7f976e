"""``heatproof demo``: everything once, offline, in less than a minute."""

from pathlib import Path
from typing import Annotated

import typer

from heatproof.cli import options
from heatproof.cli.finish import filling, show


def demo(
    out: Annotated[Path, typer.Option("--out", help="The run folder that is made.")] = Path("demo"),
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Everything once, on a network and scenes that the package carries."""
    from heatproof.commands.demo import run_demo
    from heatproof.models.hardware import Hardware

    hardware = Hardware(device, precision)  # type: ignore[arg-type]
    with filling(out, "demo", {"precision": precision}, seed, overwrite) as run:
        if not run.done:
            run_demo(run, seed=seed, hardware=hardware)
    show(run, json, {"step": "step", "count": "images", "top1": "top-1", "value": "result"})
