"""``heatproof shift``: how far do the heatmaps move when the pixels are attacked?"""

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heatproof import catalog, spec
from heatproof.cli import options
from heatproof.cli.console import foretell, progress
from heatproof.cli.finish import filling, show
from heatproof.commands import columns
from heatproof.commands.quick import looking

if TYPE_CHECKING:  # torch loads slowly
    from heatproof.data.sources import Source
    from heatproof.models.classifier import Classifier
    from heatproof.preprocessing import Preprocessing
    from heatproof.types import Attack


@options.grouped
def shift(
    data: options.Data,
    model: Annotated[list[str], typer.Option("--model", help="A model; may be repeated.", show_default=False)],
    work: options.Work,
    photos: options.Photos,
    out: options.Out = None,
    architecture: options.Architecture = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            help="A spec such as 'pgd(steps=10)'; may be repeated.",
            show_default="fgsm()",
            **options.specs(catalog.ATTACKS, "attack"),
        ),
    ] = None,
    epsilon: Annotated[
        list[str] | None,
        typer.Option(
            "--epsilon",
            help="Pixel units, such as 8/255; may be repeated.",
            show_default="the attack's own, else 0.01, 0.05, 0.075, 0.1",
            callback=options.each(spec.number),
        ),
    ] = None,
    explainer: options.Explainers = None,
    layer: options.Layers = None,
    score: options.Score = None,
    explain: Annotated[str, typer.Option("--explain", help="The class: clean, adversarial or label.")] = "clean",
    penalty: Annotated[
        str | None,
        typer.Option(
            "--penalty",
            help="Attack the map itself: location(), top_k(), ...",
            **options.specs(catalog.PENALTIES, "penalty"),
        ),
    ] = None,
    wanted: Annotated[
        str | None,
        typer.Option(
            "--wanted",
            help="Reach this class: second, each photo's second most likely, or a name. With --penalty both at once.",
            show_default=False,
        ),
    ] = None,
    draws: Annotated[
        int,
        typer.Option("--draws", min=0, help="With --penalty: draws of a noisy explainer's noise, fresh in every step."),
    ] = 0,
    quick: options.Quick = False,
    limit: options.Limit = None,
    batch_size: options.BatchSize = 16,
) -> None:
    """Attack photos and compare the heatmaps before and after: NISSIM, MOD and VID per model."""
    from heatproof.answers.scored import scored
    from heatproof.commands.explain import at_layers
    from heatproof.commands.photos import open_photos
    from heatproof.commands.shift.run import Shift, effort, run_shift
    from heatproof.commands.shift.verification import Verification, run_verification
    from heatproof.data.photo_pairs import PhotoPairs, open_pairs
    from heatproof.explainers.cam import GradCAM
    from heatproof.processes import Processes

    processes, limit = Processes.here(work.device, work.job), looking(quick, limit)
    load = options.opening(model, architecture)
    explainers = [spec.build(text, catalog.EXPLAINERS, "explainer") for text in explainer or []]
    attacks = [spec.build(text, catalog.ATTACKS, "attack") for text in attack or ["fgsm()"]]
    given = _aim(attacks, epsilon, penalty, wanted)
    pairs = options.of_pairs(score)
    asked_score = "output()" if pairs else score
    explained = scored(asked_score, explainers or [GradCAM()], [photos(load(name)) for name in model])
    models = explained.models
    if explained.lower is not None and not penalty and not pairs:
        given["lower"] = explained.lower
    asked = Shift(
        attacks=tuple(attacks),
        explainers=at_layers(explained.explainers, layer or []),
        explain=explain,  # type: ignore[arg-type]
        draws=draws,
        part=batch_size,
        **given,
    )
    verification = spec.build(str(score), {"likeness": Verification}, "score") if pairs else None

    @cache
    def opened(preprocessing: "Preprocessing") -> PhotoPairs:
        return open_pairs(data, limit=limit, seed=work.seed, preprocessing=preprocessing)

    def of_model(model: "Classifier") -> "Source":
        if pairs:
            return opened(model.preprocessing).photos
        return open_photos(model, data, limit=limit, seed=work.seed)

    hardware = work.hardware() if pairs else work.settled(models, of_model, asked.explainers)
    settings = {"data": data, "models": model, "asked": asked, "limit": limit, "precision": hardware.precision}
    settings["architecture"] = architecture
    settings |= photos.given() | explained.given() | ({"verification": verification} if pairs else {})
    more: dict[str, Any] = {"hardware": hardware, "processes": processes}

    with filling(out, "shift", settings, work.seed, work.overwrite, processes, inputs=[data, *model]) as run:
        if not run.done:
            count = processes.photos(len(of_model(models[0])), batch_size)
            total = count * len(models)
            if not pairs:
                own = count // processes.count
                foretell(run, lambda: effort(asked, models, own, hardware), options.shorter(count, quick))
            with progress("attacking", total, run=run, sharers=processes.count) as advance:
                if verification is not None:
                    run_verification(asked, verification, models, opened, run, advance=advance, **more)
                else:
                    run_shift(asked, models, of_model, run, advance=advance, **more)
    show(run, work, columns.SHIFT)


def _aim(attacks: "list[Attack]", epsilon: list[str] | None, penalty: str | None, wanted: str | None) -> dict[str, Any]:
    """How far attacks go, and what they want as far as flags say it."""
    from heatproof.commands.shift.budgets import of_attacks
    from heatproof.commands.shift.measure import Shift

    budgets = [spec.number(text) for text in epsilon or []]
    given: dict[str, Any] = {"epsilons": of_attacks(attacks, budgets, Shift.epsilons)}
    if penalty:
        given["penalty"] = spec.build(penalty, catalog.PENALTIES, "penalty")
    if wanted is not None:
        given["wanted"] = int(wanted) if wanted.isdecimal() else wanted
    return given
