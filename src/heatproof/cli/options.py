"""Options that every command shares, and how ``--set`` is read."""

import functools
import inspect
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heatproof import catalog, spec
from heatproof.cli.console import volume
from heatproof.commands.quick import QUICK_PHOTOS
from heatproof.errors import SpecError, did_you_mean
from heatproof.shard import WHOLE, Shard

if TYPE_CHECKING:  # torch loads slowly
    from heatproof.data.sources import Photos as Photographs
    from heatproof.models.classifier import Classifier
    from heatproof.models.hardware import Hardware
    from heatproof.types import Explainer

LIES = ChainMap(catalog.PENALTIES, catalog.TRIGGERS)
"""What the spec of a penalty may name."""
BY_HAND = ChainMap(catalog.EDITS, catalog.TRIGGERS)
"""What the spec of an edit may name."""
METHODS = ChainMap(catalog.TRAININGS, catalog.ATTACKS)
"""What the spec of a robust training may name."""


def each(check: Callable[[str], object]) -> Callable[[Any], Any]:
    """For ``callback=``: every text given is checked when it is read, before anything that loads slowly."""

    def checked(given: Any) -> Any:
        for text in [given] if isinstance(given, str) else given or []:
            check(text)
        return given

    return checked


def specs(entries: Mapping[str, Callable[..., Any]], kind: str) -> dict[str, Any]:
    """For an option that takes specs: every text given is checked by its names, and the shell completes these."""
    return {
        "callback": each(lambda text: spec.check(text, entries, kind)),
        "autocompletion": completing(entries),
    }


def completing(names: Iterable[str]) -> Callable[[str], list[str]]:
    """For ``autocompletion=``: the names that go on as what was typed.

    >>> completing(["pgd", "fgsm"])("p")
    ['pgd']
    """
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="The run folder that is made.", show_default="runs/VERB-MODEL-N")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Empty a run folder first.")]
Seed = Annotated[int, typer.Option("--seed", help="Of everything random.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[
    str, typer.Option("--precision", help="fp32, bf16 with channels_last, or auto: bf16 where maps bear it.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images in one pass.")]
ShardOf = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="K/N",
        help="The k-th of n shares of the photos, into a folder of its own; heatproof merge joins them.",
        show_default="all",
        callback=lambda text: None if text is None else Shard.read(text),
    ),
]
NoShard = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="K/N", hidden=True, callback=lambda text: None if text is None else Shard.read(text)
    ),
]
"""It is refused with a reason where it is given all the same."""
Json = Annotated[bool, typer.Option("--json", help="The summary on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="The result and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also settings, versions and times.")]
Open = Annotated[bool, typer.Option("--open", help="Open the page at the end; not with -q, nor where CI is set.")]
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
Data = Annotated[str, typer.Argument(help="A folder of class folders, a table, shards, hf:NAME, an address, or demo.")]
Explainers = Annotated[
    list[str] | None,
    typer.Option(
        "--explainer",
        help="A spec such as 'gradcam(relu=False)'; may be repeated.",
        show_default=False,
        **specs(catalog.EXPLAINERS, "explainer"),
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option("--layer", help="For explainers that read one; may be repeated.", show_default=False),
]
Score = Annotated[
    str | None,
    typer.Option(
        "--score",
        help="What is explained, for explainers that name none: log_odds, output(1), likeness('ada.png'), "
        "over_mask('mask.png'), ...; see list scores. Of shift also likeness(threshold=0.4), over a table of pairs.",
        show_default=False,
        **specs(catalog.SCORES, "score"),
    ),
]
MaxAccuracyDrop = Annotated[
    float, typer.Option("--max-accuracy-drop", help="The budget, a share of the held-out images.")
]
HeldOut = Annotated[str | None, typer.Option("--held-out", help="Photos to judge by.", show_default="a tenth of DATA")]
Keep = Annotated[str, typer.Option("--keep", help="What holds the function: labels or outputs.")]
OtherSettings = Annotated[
    list[str] | None, typer.Option("--set", help="Any other setting of FineTune, key=value.", show_default=False)
]
Resume = Annotated[bool, typer.Option("--resume", help="Not needed: the same command always goes on where it stopped.")]
Quick = Annotated[
    bool,
    typer.Option("--quick", help="A first look: 60 photos, evenly spread, unless --limit says; intervals are wider."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many images, evenly spread.")]


def _size(text: str | None) -> int | tuple[int, int] | None:
    """``232`` or ``96x320``.

    >>> _size("96x320"), _size("232")
    ((96, 320), 232)
    """
    if text is None:
        return None
    sides = text.casefold().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise SpecError(f"a size is a number of pixels, or ROWSxCOLS such as 96x320, got {text!r}")
    return int(text) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _range(text: str | None) -> tuple[float, float] | None:
    """``0:4095``.

    >>> _range("-1000:3000")
    (-1000.0, 3000.0)
    """
    if text is None:
        return None
    try:
        black, white = (float(end) for end in text.split(":"))
        return black, white
    except ValueError:
        raise SpecError(f"--range is BLACK:WHITE, such as 0:4095, got {text!r}") from None


@dataclass(frozen=True)
class Photos:
    """How photos come to the models of a command, as far as flags say it; the rest is the models' own."""

    input_size: Annotated[
        str | None, typer.Option("--input-size", help="Of the network: 224, or ROWSxCOLS.", show_default="the model's")
    ] = None
    resize: Annotated[
        str | None, typer.Option("--resize", help="Before the centre crop.", show_default="the model's")
    ] = None
    fit: Annotated[str | None, typer.Option("--fit", help="crop or squash.", show_default="the model's")] = None
    interpolation: Annotated[
        str | None, typer.Option("--interpolation", help="bilinear, bicubic, ...", show_default="the model's")
    ] = None
    channels: Annotated[
        int | None,
        typer.Option("--channels", min=1, help="Of the network; 4: RGB with transparency.", show_default="the model's"),
    ] = None
    range: Annotated[
        str | None,
        typer.Option(
            "--range", help="BLACK:WHITE of photos of over 8 bits, 0:4095.", show_default="that of their type"
        ),
    ] = None

    def __call__(self, model: "Classifier") -> "Classifier":
        """The model, to which photos now come so."""
        if self.channels is not None:
            model.channels = self.channels
        if (size := _size(self.input_size)) is not None:
            model.input_size = size
        if (resize := _size(self.resize)) is not None or self.fit is not None:
            model.resize = resize  # what a model says of it belongs to its own way of fitting
        if (limits := _range(self.range)) is not None:
            model.range = limits
        model.fit = self.fit or model.fit  # type: ignore[assignment]
        model.interpolation = self.interpolation or model.interpolation  # type: ignore[assignment]
        _ = model.preprocessing  # stops what makes no sense
        return model

    def given(self) -> dict[str, Any]:
        """For the settings of a run: nothing where no flag was given."""
        flags = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in flags.items() if value is not None}
        return {"photos": given} if given else {}


@dataclass(frozen=True)
class Work:
    """How a command works and reports, whatever it does."""

    seed: Seed = 0
    device: Device = "auto"
    precision: Precision = "fp32"
    shard: ShardOf = None
    overwrite: Overwrite = False
    json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False
    open: Open = False

    @property
    def job(self) -> Shard:
        """The share of the photos that is this command's; what was typed is read when it is given."""
        return self.shard or WHOLE  # type: ignore[return-value]

    def whole(self, why: str) -> None:
        """Stop a shard of what cannot be shared.

        Args:
            why: what cannot, and what to do.

        Raises:
            SpecError: ``--shard`` is given.
        """
        if self.job.count > 1:
            raise SpecError(f"--shard {self.job} is of no use here: {why}")

    def hardware(self) -> "Hardware":
        """This process's own."""
        from heatproof.models.hardware import Hardware
        from heatproof.processes import own_device

        return Hardware(own_device(self.device), self.precision)  # type: ignore[arg-type]

    def settled(
        self,
        models: "Sequence[Classifier]",
        photos: "Callable[[Classifier], Photographs]",
        explainers: "Sequence[Explainer]",
    ) -> "Hardware":
        """This process's own, where ``--precision auto`` is settled by the maps of the first photos of each model."""
        from heatproof.commands.precision import settle
        from heatproof.processes import own_device

        return settle(own_device(self.device), self.precision, models, photos, explainers)  # type: ignore[arg-type]


@dataclass(frozen=True)
class WholeWork(Work):
    """The same of a command of which no shard can be made: its help does not offer ``--shard``."""

    shard: NoShard = None


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the flags of :class:`Work` and :class:`Photos`, whichever of them it takes, after its own."""
    signature = inspect.signature(verb)
    parameters = signature.parameters.values()
    groups = {
        parameter.name: parameter.annotation
        for parameter in parameters
        if parameter.annotation in (Work, WholeWork, Photos)
    }
    own = [parameter for parameter in parameters if parameter.name not in groups]
    flags = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for group in groups.values()
        for field in fields(group)
    ]

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        made = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        for group in made.values():
            if isinstance(group, Work):
                volume.quiet, volume.verbose = group.quiet, group.verbose
        verb(**made, **given)

    run.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *flags)}
    return run


def opening(names: Sequence[str | None], architecture: str | None) -> "Callable[[str], Classifier]":
    """How the models of a command are loaded: run folders with the architecture that was given.

    Raises:
        SpecError: an architecture is given, and none of the models is a run folder.
    """
    from heatproof.models.loading import is_run, load

    if architecture is not None and not any(name is not None and is_run(name) for name in names):
        raise SpecError("--architecture says how the network of a run folder is built, and none of the models is one")
    return lambda name: load(name, architecture=architecture if is_run(name) else None)


def shorter(photos: int, quick: bool) -> str:
    """What would take less time, where photos are many and it was not asked for."""
    if quick or photos <= QUICK_PHOTOS:
        return ""
    return f"--quick measures {QUICK_PHOTOS} of the {photos:,} photos"


def of_pairs(score: str | None) -> bool:
    """Whether the score compares each photo with a reference photo of its own, and not all with one.

    >>> [of_pairs(text) for text in ("likeness(threshold=0.4)", "likeness", "likeness('ada.png')", "logit", None)]
    [True, True, False, False, False]
    """
    name, _, rest = (score or "").strip().partition("(")
    photo = rest.lstrip().startswith(("'", '"')) or "reference" in rest
    return name.strip() == "likeness" and not photo


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
