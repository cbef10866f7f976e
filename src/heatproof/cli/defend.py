"""``heatproof defend``: train a network so that its heatmaps hold still."""

from typing import Annotated

import typer

from heatproof import catalog, spec
from heatproof.cli import options
from heatproof.cli.console import foretell, stages
from heatproof.cli.finish import filling, show
from heatproof.commands import columns


@options.grouped
def defend(
    data: options.Data,
    model: options.Model,
    work: options.WholeWork,
    photos: options.Photos,
    out: options.Out = None,
    architecture: options.Architecture = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="alignment(), hessian(), thickness(), ssr(), adversarial(attack=pgd(...)), weight_decay(), "
            "softplus(), plain().",
            **options.specs(options.METHODS, "method"),
        ),
    ] = "alignment()",
    explainer: Annotated[
        str,
        typer.Option(
            "--explainer",
            help="Whose maps are to hold still.",
            **options.specs(catalog.EXPLAINERS, "explainer"),
        ),
    ] = "simple_grad()",
    epsilon: Annotated[
        list[str] | None,
        typer.Option(
            "--epsilon",
            help="Of the attack that judges, in pixel units; may be repeated.",
            show_default="4/255",
            callback=options.each(spec.number),
        ),
    ] = None,
    judged: Annotated[int, typer.Option("--judged", min=1, help="Held-out photos that are attacked.")] = 64,
    attack_steps: Annotated[int, typer.Option("--attack-steps", min=1, help="Of the attack that judges.")] = 10,
    control: Annotated[bool, typer.Option("--control", help="Also train plain() for as long, and judge it.")] = False,
    # the numbers are RECIPE's own, which a test holds them to: to import it would load torch
    steps: Annotated[int, typer.Option("--steps", help="Of the training.")] = 1000,
    lr: Annotated[float, typer.Option("--lr", help="Of Adam; falls to 0 as a cosine.")] = 1e-3,
    keep: options.Keep = "labels",
    max_accuracy_drop: options.MaxAccuracyDrop = 0.02,
    given: options.OtherSettings = None,
    held_out: options.HeldOut = None,
    resume: options.Resume = False,
    limit: options.Limit = None,
    batch_size: options.BatchSize = 64,
) -> None:
    """Train a copy of the model so that its heatmaps hold still under attack, within a budget of accuracy."""
    work.whole(
        "a training is one computation, of which every step needs the one before; share its batches between processes, "
        "torchrun -m heatproof defend ..., or give the command without --shard"
    )
    from dataclasses import replace

    from heatproof.commands.defend.run import Defend, effort, run_defend
    from heatproof.commands.photos import open_photos
    from heatproof.processes import Processes
    from heatproof.robust.attack import MapAttack
    from heatproof.robust.train import RECIPE
    from heatproof.training.settings import FineTune

    hardware = work.hardware()
    tuned = {"steps": steps, "lr": lr, "keep": keep, "max_accuracy_drop": max_accuracy_drop, "batch_size": batch_size}
    tuned |= {"seed": work.seed, "precision": work.precision, "evaluate_every": max(1, steps // 8)}
    asked = Defend(
        method=spec.build(method, options.METHODS, "method"),
        explainer=spec.build(explainer, catalog.EXPLAINERS, "explainer"),
        recipe=replace(RECIPE, **{**tuned, **options.read_settings(FineTune, given or [], work.seed)}),
        attack=MapAttack(steps=attack_steps, seed=work.seed),
        epsilons=tuple(spec.number(text) for text in epsilon or ["4/255"]),
        judged=judged,
        control=control,
    )
    clean = photos(options.opening([model], architecture)(model))
    settings = {"data": data, "model": model, "asked": asked, "limit": limit, "architecture": architecture}
    settings |= {"held_out": held_out, **photos.given()}
    processes, labels = Processes.here(work.device), asked.recipe.keep == "labels"
    with filling(out, "defend", settings, work.seed, work.overwrite, processes, inputs=[data, model, held_out]) as run:
        if not run.done:
            source = open_photos(clean, data, limit=limit, seed=work.seed, labels_needed=labels)
            apart = open_photos(clean, held_out, seed=work.seed, labels_needed=labels) if held_out else None
            count = len(apart) if apart else round(asked.recipe.holdout * len(source))
            foretell(run, lambda: effort(asked, clean, len(source) - (0 if apart else count), count, hardware))
            trained = asked.recipe.steps, asked.recipe.evaluate_every
            attacked = (2 + control) * len(asked.epsilons) * min(judged, count)
            totals = {"training": trained, "control": trained, "attacking": (attacked, 1)}
            with stages(totals, run=run) as advance:
                run_defend(
                    asked,
                    clean,
                    model,
                    source,
                    run,
                    held_out=apart,
                    hardware=hardware,
                    advance=advance,
                )
    show(run, work, columns.DEFEND)
