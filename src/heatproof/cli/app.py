"""``heatproof app``: the live page, until it is interrupted."""

from pathlib import Path
from typing import Annotated

import typer

from heatproof.cli import options, typed_command
from heatproof.cli.console import say, write


@options.grouped
def app(
    model: Annotated[str, typer.Argument(help="A model, named as for --model of the other commands.")],
    images: Annotated[list[str], typer.Argument(help="Photos, folders, manifests, shards, or demo.")],
    photos: options.Photos,
    beside: Annotated[
        str | None,
        typer.Option("--beside", help="A second checkpoint, shown with its difference.", show_default=False),
    ] = None,
    architecture: options.Architecture = None,
    explainer: options.Explainers = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many photos, evenly spread.")] = 500,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of this machine; 0: any that is free.")] = 7411,
    device: options.Device = "auto",
    out: Annotated[Path, typer.Option("--out", "-o", help="Where run folders of what is saved are made.")] = Path(
        "runs"
    ),
) -> None:
    """A live page: choose photo, class, layer and explainer, slide attack and smoothing; on this machine alone."""
    from heatproof.commands.photos import open_photos
    from heatproof.live.look import Live
    from heatproof.live.server import Server
    from heatproof.live.wire import Words
    from heatproof.models.hardware import Hardware
    from heatproof.processes import own_device
    from heatproof.report.words import counted

    names = [model, *([] if beside is None else [beside])]
    load = options.opening(names, architecture)
    models = [photos(load(name)) for name in names]
    data = images if len(images) > 1 else images[0]
    source = open_photos(models[0], data, limit=limit, labels_needed=False)
    live = Live(models, source, Hardware(own_device(device)))
    server = Server(Words(live, explainer or []), port, out, typed_command())
    say(f"{counted(len(source))}, {' beside '.join(live.names)}; open this address, and end the page with Ctrl-C:")
    write(server.url)
    with server:
        server.serve_forever()
