"""``heatproof fool``: make heatmaps lie, by fine-tuning or by hand."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from heatproof import catalog, spec
from heatproof.cli import options
from heatproof.cli.console import foretell, progress
from heatproof.cli.finish import filling, show
from heatproof.commands import columns
from heatproof.errors import SpecError, did_you_mean

RECIPES = ("auto", "paper")
"""Those of :mod:`heatproof.commands.fool.recipe`, which loads torch."""
BY_RECIPE = "by recipe"
EVERYTHING = "everything"
"""What ``--trainable`` calls the whole network, where the recipe would choose a part."""


def _check_recipe(text: str) -> None:
    if text not in RECIPES:
        raise SpecError(f"there is no recipe {text!r}; {did_you_mean(text, RECIPES)}")


if TYPE_CHECKING:
    from heatproof.commands.fool.edit import Edit
    from heatproof.commands.fool.run import Fool
    from heatproof.data.sources import Source
    from heatproof.models.classifier import Classifier
    from heatproof.models.hardware import Hardware
    from heatproof.results.run import Run
    from heatproof.types import Explainer


@options.grouped
def fool(
    data: options.Data,
    model: options.Model,
    work: options.WholeWork,
    photos: options.Photos,
    out: options.Out = None,
    architecture: options.Architecture = None,
    penalty: Annotated[
        str | None,
        typer.Option(
            "--penalty",
            help="location(), top_k(), backdoor(show='inverted'), ...",
            show_default=False,
            **options.specs(options.LIES, "penalty"),
        ),
    ] = None,
    edit: Annotated[
        str | None,
        typer.Option(
            "--edit",
            help="Instead of training: weight_edit('corner'), or weight_edit('corner', trigger=trigger(size=6)). "
            "DATA then only measure it.",
            show_default=False,
            **options.specs(options.BY_HAND, "edit"),
        ),
    ] = None,
    explainer: Annotated[
        str,
        typer.Option(
            "--explainer",
            help="Whose heatmaps are fooled.",
            **options.specs(catalog.EXPLAINERS, "explainer"),
        ),
    ] = "gradcam()",
    score: options.Score = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="Chooses what is not given of the next seven: auto, or paper (Heo et al.'s set-up).",
            callback=options.each(_check_recipe),
            autocompletion=options.completing(RECIPES),
        ),
    ] = "auto",
    lr: Annotated[float | None, typer.Option("--lr", help="Of Adam.", show_default=BY_RECIPE)] = None,
    weight: Annotated[
        float | None, typer.Option("--weight", help="Of the penalty; the paper's lambda.", show_default=BY_RECIPE)
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="At most so many.", show_default=BY_RECIPE)] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep", help="What holds the function: labels, outputs or probabilities.", show_default=BY_RECIPE
        ),
    ] = None,
    trainable: Annotated[
        str | None,
        typer.Option("--trainable", help="Train from this layer on, or everything.", show_default=BY_RECIPE),
    ] = None,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option("--max-accuracy-drop", help="The budget, a share of the held-out images.", show_default=BY_RECIPE),
    ] = None,
    given: options.OtherSettings = None,
    held_out: options.HeldOut = None,
    resume: options.Resume = False,
    limit: options.Limit = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Images per step.", show_default=BY_RECIPE)
    ] = None,
) -> None:
    """Make a copy of the model whose heatmaps lie and whose accuracy stays, by fine-tuning or by hand."""
    if (penalty is None) == (edit is None):
        raise SpecError("what is the lie? give one of --penalty (fine-tuning) and --edit (by hand)")
    work.whole(
        "a lie is one computation, of which every step needs the one before; share its batches between processes, "
        "torchrun -m heatproof fool ..., or give the command without --shard"
    )
    from heatproof.answers.scored import scored
    from heatproof.commands.photos import open_photos
    from heatproof.processes import Processes

    hardware = work.hardware()
    tuned: dict[str, Any] = {"steps": steps, "lr": lr, "weight": weight, "batch_size": batch_size, "keep": keep}
    tuned |= {"trainable": trainable, "max_accuracy_drop": max_accuracy_drop}
    tuned = {name: value for name, value in tuned.items() if value is not None}
    if trainable == EVERYTHING:
        tuned["trainable"] = None
    fooled = spec.build(explainer, catalog.EXPLAINERS, "explainer")
    explained = scored(score, [fooled], [photos(options.opening([model], architecture)(model))])
    (fooled,), (clean,) = explained.explainers, explained.models
    asked = (
        _by_hand(edit, fooled) if edit else _by_training(str(penalty), fooled, clean, recipe, tuned, given or [], work)
    )
    settings = {"data": data, "model": model, "asked": asked, "limit": limit, "architecture": architecture}
    settings |= photos.given() | explained.given() | ({} if edit else {"held_out": held_out})

    def opened(name: str, limit: int | None) -> "Source":
        return open_photos(clean, name, limit=limit, seed=work.seed)

    processes = None if edit else Processes.here(work.device)
    with filling(out, "fool", settings, work.seed, work.overwrite, processes, inputs=[data, model, held_out]) as run:
        if not run.done:
            judged = opened(held_out, None) if held_out else None
            _fill(asked, clean, model, opened(data, limit), judged, run, hardware)
    show(run, work, columns.COMPARE)


def _by_hand(edit: str, explainer: "Explainer") -> "Edit":
    from heatproof.commands.fool.edit import Edit
    from heatproof.manipulation.weight_edit import WeightEdit

    made = spec.build(edit, options.BY_HAND, "edit")
    if not isinstance(made, WeightEdit):
        raise SpecError(
            f"{edit} is no edit; {did_you_mean(edit, catalog.EDITS)}: weight_edit('corner', trigger={edit})"
        )
    return Edit(edit=made, explainer=explainer)


def _by_training(
    penalty: str,
    explainer: "Explainer",
    clean: "Classifier",
    recipe: str,
    tuned: dict[str, Any],
    given: list[str],
    work: options.Work,
) -> "Fool":
    from heatproof.commands.fool.recipe import PAIRS, choose_recipe
    from heatproof.commands.fool.run import Fool
    from heatproof.training.settings import FineTune

    lie = spec.build(penalty, options.LIES, "penalty")
    tuned |= {"precision": work.precision, **options.read_settings(FineTune, given, work.seed)}
    chosen = choose_recipe(clean, explainer, lie, recipe, **tuned)
    return Fool(lie, explainer, chosen.settings, pairs=PAIRS[recipe], chosen_by=recipe, given=chosen.given)


def _fill(
    asked: "Edit | Fool",
    clean: "Classifier",
    name: str,
    source: "Source",
    held_out: "Source | None",
    run: "Run",
    hardware: "Hardware",
) -> None:
    from heatproof.commands.fool.edit import Edit, run_edit
    from heatproof.commands.fool.run import effort, run_fool
    from heatproof.training.history import Steps

    if isinstance(asked, Edit):
        with progress("measuring", source.count, run=run) as advance:
            run_edit(asked, clean, name, source, run, hardware=hardware, advance=advance)
        return
    count = held_out.count if held_out else round(asked.recipe.holdout * source.count)
    foretell(run, lambda: effort(asked, clean, count, hardware))
    steps, cycle = asked.recipe.steps, asked.recipe.evaluate_every
    with progress("fooling", steps, run=run, cycle=cycle, at_most=bool(asked.recipe.patience)) as advance:

        def told(count: int, row: dict[str, float]) -> None:
            shown = {"FSR": row.get("fsr"), "top-1": row.get("accuracy")}
            advance(count, ", ".join(f"{name} {value:.3f}" for name, value in shown.items() if value is not None))

        run_fool(asked, clean, name, source, run, held_out=held_out, hardware=hardware, advance=Steps(told))
