"""``heatproof study``: the published experiments as recipes."""

from dataclasses import fields
from typing import Annotated, Any

import typer

from heatproof import catalog, spec
from heatproof.cli import options
from heatproof.cli.console import say
from heatproof.cli.finish import filling, show
from heatproof.errors import SpecError, did_you_mean
from heatproof.models.hardware import Hardware


def study(
    name: Annotated[str, typer.Argument(help="A study: heatproof list studies.")],
    out: options.Out,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value; lists as key=a --set key=b.", show_default=False),
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="The study's own set of settings.")] = "",
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Repeat a published experiment, with its own settings or yours."""
    if name not in catalog.STUDIES:
        raise SpecError(f"there is no study {name!r}; {did_you_mean(name, catalog.STUDIES)}")
    kind = catalog.STUDIES[name]
    asked = kind(**{**_preset(kind, preset, name), **read_settings(kind, given or [], seed)})
    hardware = Hardware(device, precision)  # type: ignore[arg-type]
    settings = {"study": name, "asked": asked, "precision": precision}
    with filling(out, "study", settings, seed, overwrite) as run:
        if not run.done:
            asked(run, hardware=hardware, say=say)
    show(run, json, getattr(kind, "columns", {"model": "model"}))


def _preset(kind: Any, preset: str, name: str) -> dict[str, Any]:
    presets = getattr(kind, "presets", {})
    if preset and preset not in presets:
        raise SpecError(f"study {name} has no preset {preset!r}; {did_you_mean(preset, presets)}")
    return presets.get(preset, {})


def read_settings(kind: Any, given: list[str], seed: int = 0) -> dict[str, Any]:
    """``["models=a", "models=b", "epsilon=8/255"]`` -> keyword arguments of a study.

    Texts need no quotes; numbers may be computed; a key that holds several values is given several times.

    Raises:
        SpecError: for a key that the study does not have.
    """
    known = {field.name: field for field in fields(kind)}
    read: dict[str, Any] = {"seed": seed} if "seed" in known else {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key not in known:
            raise SpecError(f"--set {text!r}: expected key=value; {did_you_mean(key, known)}")
        if isinstance(known[key].default, tuple):
            read[key] = (*read.get(key, ()), _value(value))
        else:
            read[key] = _value(value)
    return read


def _value(text: str) -> Any:
    if text in ("True", "False", "None", "true", "false"):
        return {"true": True, "false": False, "none": None}[text.casefold()]
    try:
        return spec.number(text)
    except SpecError:
        return text
