"""Options that every command shares."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option("--out", help="The run folder that is made.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Empty a run folder first.")]
Seed = Annotated[int, typer.Option("--seed", help="Of everything random.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[str, typer.Option("--precision", help="fp32, or bf16 with channels_last.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images in one pass.")]
Json = Annotated[bool, typer.Option("--json", help="The summary on standard output.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="resnet50, timm:NAME, NAME@FILE.safetensors, FILE.py:FACTORY, demo, or the run folder of a fooled model.",
        show_default=False,
    ),
]
Explainers = Annotated[
    list[str] | None,
    typer.Option("--explainer", help="A spec such as 'gradcam(relu=False)'; may be repeated.", show_default=False),
]
Layers = Annotated[
    list[str] | None,
    typer.Option("--layer", help="For explainers that read one; may be repeated.", show_default=False),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many images, evenly spread.")]
