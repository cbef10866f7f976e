"""``heatproof fool`` and ``heatproof compare``: make heatmaps lie, and measure what it cost."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from heatproof import catalog, spec
from heatproof.cli import options
from heatproof.cli.console import progress
from heatproof.cli.finish import filling, show
from heatproof.commands.compare.run import Compare, Fooled, run_compare
from heatproof.commands.explain import at_layers
from heatproof.commands.fool.edit import Edit, run_edit
from heatproof.commands.fool.run import Fool, run_fool
from heatproof.data.sources import Source, open_data
from heatproof.errors import HeatproofError, RunError, SpecError
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.processes import Processes, own_device
from heatproof.results.reading import read_run
from heatproof.training.settings import FineTune

Data = Annotated[str, typer.Argument(help="A folder of class folders, a manifest, shards, or demo.")]
LIES = {**catalog.PENALTIES, **catalog.TRIGGERS}
"""What the spec of a penalty may name."""
COLUMNS = {
    "model": "model",
    "penalty": "penalty",
    "explainer": "explainer",
    "fsr": "FSR",
    "top1_clean": "top-1 clean",
    "top1_fooled": "top-1 fooled",
    "agreement": "agreement",
    "spearman": "rank correlation",
    "nissim": "NISSIM",
}


def fool(
    data: Data,
    model: options.Model,
    out: options.Out,
    architecture: options.Architecture = None,
    penalty: Annotated[
        str | None,
        typer.Option("--penalty", help="location(), top_k(), backdoor(show='inverted'), ...", show_default=False),
    ] = None,
    edit: Annotated[
        str | None,
        typer.Option(
            "--edit",
            help="Instead of training: weight_edit(target='corner'). DATA then only measure it.",
            show_default=False,
        ),
    ] = None,
    explainer: Annotated[str, typer.Option("--explainer", help="Whose heatmaps are fooled.")] = "gradcam()",
    lr: Annotated[float, typer.Option("--lr", help="Of Adam.")] = FineTune.lr,
    weight: Annotated[float, typer.Option("--weight", help="Of the penalty; the paper's lambda.")] = FineTune.weight,
    steps: Annotated[int, typer.Option("--steps", help="At most so many.")] = FineTune.steps,
    keep: Annotated[str, typer.Option("--keep", help="What holds the function: labels or outputs.")] = FineTune.keep,
    trainable: Annotated[
        str | None, typer.Option("--trainable", help="Train from this layer on.", show_default="everything")
    ] = None,
    max_accuracy_drop: Annotated[
        float, typer.Option("--max-accuracy-drop", help="The budget, a share of the held-out images.")
    ] = FineTune.max_accuracy_drop,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting of FineTune, key=value.", show_default=False),
    ] = None,
    held_out: Annotated[
        str | None, typer.Option("--held-out", help="Photos to judge by.", show_default="a tenth of DATA")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="As without it: the same command always goes on.")] = False,
    limit: options.Limit = None,
    batch_size: options.BatchSize = FineTune.batch_size,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Make a copy of the model whose heatmaps lie and whose accuracy stays, by fine-tuning or by hand."""
    if (penalty is None) == (edit is None):
        raise SpecError("what is the lie? give one of --penalty (fine-tuning) and --edit (by hand)")
    hardware = Hardware(own_device(device), precision)  # type: ignore[arg-type]
    load = options.opening([model], architecture)
    if edit is not None:
        planned = Edit(
            edit=spec.build(edit, catalog.EDITS, "edit"),
            explainer=spec.build(explainer, catalog.EXPLAINERS, "explainer"),
        )
        clean = load(model)
        settings = {"data": data, "model": model, "asked": planned, "limit": limit, "architecture": architecture}
        with filling(out, "fool", settings, seed, overwrite, [data, model, held_out]) as run:
            if not run.done:
                source = _photos(data, clean, limit, seed)
                with progress("measuring", source.count) as advance:
                    run_edit(planned, clean, model, source, run, hardware=hardware, advance=advance)
        show(run, json, COLUMNS)
        return
    recipe = FineTune(
        steps=steps,
        lr=lr,
        weight=weight,
        batch_size=batch_size,
        keep=keep,  # type: ignore[arg-type]
        trainable=trainable,
        max_accuracy_drop=max_accuracy_drop,
        precision=precision,  # type: ignore[arg-type]
        seed=seed,
    )
    asked = Fool(
        penalty=spec.build(str(penalty), LIES, "penalty"),
        explainer=spec.build(explainer, catalog.EXPLAINERS, "explainer"),
        recipe=replace(recipe, **options.read_settings(FineTune, given or [])),
    )
    clean = load(model)
    settings = {"data": data, "model": model, "asked": asked, "held_out": held_out, "limit": limit}
    settings["architecture"] = architecture
    with filling(out, "fool", settings, seed, overwrite, [data, model, held_out]) as run:
        if not run.done:
            source = _photos(data, clean, limit, seed)
            with progress("fooling", steps) as advance:

                def tell(row: dict[str, Any]) -> None:
                    shown = {"FSR": row.get("fsr"), "top-1": row.get("top1")}
                    text = ", ".join(f"{name} {value:.3f}" for name, value in shown.items() if value is not None)
                    advance(1, text)

                run_fool(
                    asked,
                    clean,
                    model,
                    source,
                    run,
                    held_out=_photos(held_out, clean, None, seed) if held_out else None,
                    hardware=hardware,
                    advance=tell,
                )
    show(run, json, COLUMNS)


def compare(
    clean: Annotated[str, typer.Argument(help="The model as it was.")],
    fooled: Annotated[str, typer.Argument(help="The model that may lie: a run folder of fool, or any other.")],
    data: Data,
    out: options.Out,
    architecture: options.Architecture = None,
    explainer: options.Explainers = None,
    layer: options.Layers = None,
    penalty: Annotated[
        list[str] | None,
        typer.Option("--penalty", help="May be repeated.", show_default="location, top_k, center_mass"),
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Option("--with", help="Further fooled models, rows of the transfer matrix.", show_default=False),
    ] = None,
    limit: options.Limit = None,
    batch_size: options.BatchSize = 32,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Accuracy, agreement, fooling success rates and the likeness of heatmaps, of a clean and a fooled model."""
    processes = Processes.here(device)
    hardware = Hardware(own_device(device), precision)  # type: ignore[arg-type]
    names = [fooled, *(more or [])]
    load = options.opening([clean, *names], architecture)
    suspects = [_fooled(name, load(name)) for name in names]
    asked = Compare(
        explainers=at_layers(
            [spec.build(text, catalog.EXPLAINERS, "explainer") for text in explainer or []], layer or []
        )
        or Compare.explainers,
        penalties=tuple(spec.build(text, LIES, "penalty") for text in penalty or [])
        or tuple(dict.fromkeys((*Compare.penalties, *(s.penalty for s in suspects if s.penalty is not None)))),
        part=batch_size,
    )
    base = load(clean)
    settings = {"clean": clean, "fooled": names, "data": data, "asked": asked, "limit": limit, "precision": precision}
    settings["architecture"] = architecture
    with filling(out, "compare", settings, seed, overwrite, [clean, *names, data]) as run:
        if not run.done:
            source = _photos(data, base, limit, seed)
            with progress("comparing", source.count) as advance:
                run_compare(asked, base, suspects, source, run, hardware=hardware, processes=processes, advance=advance)
    show(run, json, COLUMNS)


def _photos(data: str, model: Classifier, limit: int | None, seed: int) -> Source:
    return open_data(data, classes=model.classes, limit=limit, seed=seed)


def _fooled(name: str, model: Classifier) -> Fooled:
    """A model with what its run folder says it was fooled with."""
    if not (Path(name) / "run.json").is_file():
        return Fooled(model)
    settings = read_run(name).record.get("settings", {})
    known = settings.get("asked") if isinstance(settings, dict) else None
    if not isinstance(known, str):
        return Fooled(model)
    named = {"fool": Fool, "edit": Edit, "fine_tune": FineTune, **LIES, **catalog.EDITS, **catalog.EXPLAINERS}
    try:
        told = spec.build(known, named, "run")
    except HeatproofError as error:
        raise RunError(f"{name}/run.json does not say what was asked of the fooling: {str(error)[:300]}") from error
    if not isinstance(told, Fool | Edit) or not callable(told.explainer) or not callable(told.penalty):
        raise RunError(f"{name}/run.json does not say what was asked of the fooling, but {known[:200]!r}")
    return Fooled(model, told.explainer, told.penalty)
