"""Options that every command shares, and how ``--set`` is read."""

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heatproof import catalog, spec
from heatproof.errors import SpecError, did_you_mean

if TYPE_CHECKING:  # torch loads slowly
    from heatproof.models.classifier import Classifier

LIES = ChainMap(catalog.PENALTIES, catalog.TRIGGERS)
"""What the spec of a penalty may name."""


def each(check: Callable[[str], object]) -> Callable[[Any], Any]:
    """For ``callback=``: every text given is checked when it is read, before anything that loads slowly."""

    def checked(given: Any) -> Any:
        for text in [given] if isinstance(given, str) else given or []:
            check(text)
        return given

    return checked


def names(entries: Mapping[str, Callable[..., Any]], kind: str) -> Callable[[Any], Any]:
    """For ``callback=``: every text given is a spec whose names are in the catalog."""
    return each(lambda text: spec.check(text, entries, kind))


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
Architecture = Annotated[
    str | None,
    typer.Option(
        "--architecture",
        help="For run folders that name a file of code, which is never run from there: FILE.py:FACTORY of your own.",
        show_default=False,
    ),
]
Data = Annotated[str, typer.Argument(help="A folder of class folders, a manifest, shards, or demo.")]
Explainers = Annotated[
    list[str] | None,
    typer.Option(
        "--explainer",
        help="A spec such as 'gradcam(relu=False)'; may be repeated.",
        show_default=False,
        callback=names(catalog.EXPLAINERS, "explainer"),
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option("--layer", help="For explainers that read one; may be repeated.", show_default=False),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many images, evenly spread.")]


def opening(names: Sequence[str | None], architecture: str | None) -> "Callable[[str], Classifier]":
    """How the models of a command are loaded: run folders with the architecture that was given.

    Raises:
        SpecError: an architecture is given, and none of the models is a run folder.
    """
    from heatproof.models.loading import is_run, load

    if architecture is not None and not any(name is not None and is_run(name) for name in names):
        raise SpecError("--architecture says how the network of a run folder is built, and none of the models is one")
    return lambda name: load(name, architecture=architecture if is_run(name) else None)


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
