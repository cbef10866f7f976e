"""``heatproof list``: what there is to name."""

from typing import Annotated

import typer

from heatproof import catalog
from heatproof.cli.console import write
from heatproof.errors import SpecError, did_you_mean
from heatproof.models.layers import DEFAULT_REASON, default_layer, list_layers
from heatproof.models.loading import load
from heatproof.vision import torchvision


def list_(
    what: Annotated[
        str, typer.Argument(help="explainers, attacks, penalties, metrics, models, studies, or layers.")
    ] = "",
    model: Annotated[str, typer.Argument(help="With layers: the model.")] = "",
) -> None:
    """Explainers, attacks, penalties, metrics, models, studies; or the layers of a model."""
    shelves = {
        name.lower(): shelf for name, shelf in vars(catalog).items() if name.isupper() and isinstance(shelf, dict)
    }
    if what == "layers":
        if not model:
            raise SpecError("list layers needs a model: heatproof list layers squeezenet1_1@FILE")
        _layers(model)
    elif what == "models":
        _models()
    elif what in shelves:
        _shelf(what, shelves[what])
        if what == "metrics":
            _shelf("similarities (of two maps: stability(by=...), shift, compare)", catalog.SIMILARITIES)
    elif not what:
        for name, shelf in shelves.items():
            _shelf(name, shelf)
    else:
        raise SpecError(f"there is no list of {what!r}; {did_you_mean(what, [*shelves, 'models', 'layers'])}")


def _shelf(name: str, shelf: dict) -> None:
    write(name)
    width = max((len(entry) for entry in shelf), default=0)
    for entry, make in shelf.items():
        first = (make.__doc__ or "").strip().splitlines()
        write(f"  {entry:<{width}}  {first[0] if first else ''}")


def _models() -> None:
    names = torchvision.models.list_models(module=torchvision.models)
    write("torchvision")
    write(", ".join(names))
    write(
        "also: demo · timm:NAME (any of timm's) · NAME@FILE.safetensors or .pth · FILE.py:FACTORY · a run folder",
    )


def _layers(name: str) -> None:
    model = load(name, pretrained=False)
    chosen = default_layer(model)
    layers = list_layers(model)
    width = max(len(layer.name) for layer in layers)
    for layer in layers:
        shape = "x".join(map(str, layer.shape))
        field = "whole image" if layer.receptive_field is None else f"{layer.receptive_field} px"
        mark = f"  <- default: {DEFAULT_REASON}" if layer.name == chosen else ""
        write(f"{layer.name:<{width}}  {layer.kind:<22} {shape:<14} {field}{mark}")
