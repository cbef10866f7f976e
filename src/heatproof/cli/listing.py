"""``heatproof list``: what there is to name."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from heatproof import catalog
from heatproof.catalog import Entries
from heatproof.cli.console import write
from heatproof.cli.options import completing
from heatproof.errors import SpecError, did_you_mean

REGISTERED = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)", re.MULTILINE)
"""How torchvision's sources make a network known by the name of its function."""
LISTS = {
    name.lower(): entries for name, entries in vars(catalog).items() if name.isupper() and isinstance(entries, Entries)
}
"""What the catalog holds, as it is asked for."""


def list_(
    what: Annotated[
        str,
        typer.Argument(
            help="explainers, scores, attacks, penalties, repairs, trainings, metrics, models, studies, or layers.",
            autocompletion=completing([*LISTS, "models", "layers"]),
        ),
    ] = "",
    model: Annotated[str, typer.Argument(help="With layers: the model.")] = "",
) -> None:
    """Explainers, scores, attacks, penalties, repairs, trainings, metrics, models, studies; or a model's layers."""
    if what == "layers":
        if not model:
            raise SpecError("list layers needs a model: heatproof list layers squeezenet1_1@FILE")
        _layers(model)
    elif what == "models":
        _models()
    elif what in LISTS:
        _list(what, LISTS[what])
        if what == "metrics":
            _list("similarities (of two maps: stability(by=...), shift, compare)", catalog.SIMILARITIES)
    elif not what:
        for name, entries in LISTS.items():
            _list(name, entries)
    else:
        raise SpecError(f"there is no list of {what!r}; {did_you_mean(what, [*LISTS, 'models', 'layers'])}")


def _list(name: str, entries: Entries) -> None:
    write(name)
    width = max((len(entry) for entry in entries), default=0)
    for entry in entries:
        write(f"  {entry:<{width}}  {_without_markup(entries.meaning(entry))}")


def _without_markup(text: str) -> str:
    """A line of a docstring as it is read.

    >>> _without_markup(":func:`~metrics.box_iou` with ``scale`` * |w\\\\|")
    'box_iou with scale * |w|'
    """
    text = re.sub(r":\w+:`~?([^`]+)`", lambda found: found[1].rsplit(".", 1)[-1], text)
    return re.sub(r"\\(\W)", r"\1", text.replace("``", ""))


def _models() -> None:
    write("torchvision")
    write(", ".join(torchvision_names()))
    write(
        "also: demo · timm:NAME (any of timm's) · NAME@FILE.safetensors or .pth · FILE.py:FACTORY · a run folder",
    )


def torchvision_names() -> list[str]:
    """torchvision's classifiers, as its ``list_models`` names them, from its sources: to import it takes seconds."""
    found = find_spec("torchvision")
    folder = Path(next(iter(found.submodule_search_locations or [])), "models") if found else Path("models")
    names = [name for file in folder.glob("*.py") for name in REGISTERED.findall(file.read_text("utf-8"))]
    if names:
        return sorted(names)
    from heatproof.vision import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def _layers(name: str) -> None:
    from heatproof.models.layers import DEFAULT_REASON, choose_layer, list_layers
    from heatproof.models.loading import load

    model = load(name, pretrained=False)
    named = model.default_layer
    chosen, reason = (named, DEFAULT_REASON) if named else choose_layer(model)
    layers = list_layers(model)
    width = max(len(layer.name) for layer in layers)
    for layer in layers:
        shape = "x".join(map(str, layer.shape))
        field = "whole image" if layer.receptive_field is None else f"{layer.receptive_field} px"
        mark = f"  <- default: {reason}" if layer.name == chosen else ""
        write(f"{layer.name:<{width}}  {layer.kind:<22} {shape:<14} {field}{mark}")
