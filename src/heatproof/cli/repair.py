"""``heatproof repair``: take the lie out of a checkpoint."""

from typing import Annotated

import typer

from heatproof import catalog, spec
from heatproof.cli import options
from heatproof.cli.console import foretell, stages
from heatproof.cli.finish import filling, show
from heatproof.commands import columns


@options.grouped
def repair(
    data: options.Data,
    model: options.Model,
    work: options.WholeWork,
    photos: options.Photos,
    out: options.Out = None,
    architecture: options.Architecture = None,
    remedy: Annotated[
        str,
        typer.Option(
            "--remedy",
            help="truth(), finetune(), rebn(), prune(), relearn().",
            **options.specs(catalog.REPAIRS, "remedy"),
        ),
    ] = "truth()",
    explainer: Annotated[
        str,
        typer.Option(
            "--explainer",
            help="Whose maps are repaired.",
            **options.specs(catalog.EXPLAINERS, "explainer"),
        ),
    ] = "gradcam()",
    max_accuracy_drop: options.MaxAccuracyDrop = 0.02,
    held_out: options.HeldOut = None,
    always: Annotated[
        bool, typer.Option("--always", help="Hand out the pulled weights also where no lie was found.")
    ] = False,
    resume: options.Resume = False,
    limit: options.Limit = 2000,
) -> None:
    """Take the lie out of a checkpoint, without the original and without labels."""
    work.whole(
        "a repair is one computation, of which every step needs the one before; give the command without it, and "
        "with --limit where the photos are many"
    )
    from heatproof.commands.photos import open_photos
    from heatproof.commands.repair.run import Repair, effort, run_repair
    from heatproof.repairs.repair import EVALUATIONS, trial_steps

    hardware = work.hardware()
    asked = Repair(
        remedy=spec.build(remedy, catalog.REPAIRS, "remedy"),
        explainer=spec.build(explainer, catalog.EXPLAINERS, "explainer"),
        max_accuracy_drop=max_accuracy_drop,
        seed=work.seed,
        always=always,
    )
    given = photos(options.opening([model], architecture)(model))
    settings = {"data": data, "model": model, "asked": asked, "limit": limit, "architecture": architecture}
    settings |= {"held_out": held_out, **photos.given()}
    with filling(out, "repair", settings, work.seed, work.overwrite, inputs=[data, model, held_out]) as run:
        if not run.done:
            source = open_photos(given, data, limit=limit, seed=work.seed, labels_needed=False)
            judged = open_photos(given, held_out, seed=work.seed, labels_needed=False) if held_out else None
            aside = len(judged) if judged else round(asked.holdout * len(source))
            count = len(source) - (0 if judged else aside)
            foretell(run, lambda: effort(asked, given, count, aside, hardware))
            steps = asked.remedy.course.steps
            totals = {"asking": (aside + count * bool(asked.remedy.course.pull), 1)}
            totals["training"] = steps, max(1, steps // EVALUATIONS)
            if asked.remedy.layer is None and asked.remedy.course.thirds:
                tried = trial_steps(asked.remedy)
                totals["trying"] = tried * asked.remedy.course.thirds, tried
            with stages(totals, run=run, at_most=("trying",)) as advance:
                run_repair(
                    asked,
                    given,
                    model,
                    source,
                    run,
                    held_out=judged,
                    hardware=hardware,
                    advance=advance,
                )
    show(run, work, columns.REPAIR)
