"""Audit, shift, compare and evaluate from Python, each the verb of the command line with the same settings."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from torch import Tensor

from heatproof import catalog, spec
from heatproof.answers.filling import filled, job_of, named_model, progress, result, same_photos
from heatproof.answers.given import (
    LIES,
    MEASURED,
    Data,
    Model,
    as_classifier,
    as_fooled,
    as_source,
    at_named_layers,
    built,
    named,
    seeded,
    several,
    shape_of,
)
from heatproof.answers.result import Result
from heatproof.answers.scored import Asked, scored
from heatproof.commands import columns
from heatproof.commands.audit.own_reference import SELF, passes
from heatproof.commands.audit.plan import least_budget
from heatproof.commands.audit.run import Audit, run_audit
from heatproof.commands.audit.shipped import thresholds_for
from heatproof.commands.audit.verdict import Thresholds
from heatproof.commands.compare.run import Compare, run_compare
from heatproof.commands.compare.run import effort as compare_effort
from heatproof.commands.effort import Effort, planned
from heatproof.commands.evaluate.run import STANDARD, Evaluate, run_evaluate
from heatproof.commands.evaluate.run import effort as evaluate_effort
from heatproof.commands.precision import settle
from heatproof.commands.quick import looking
from heatproof.commands.shift.budgets import of_attacks
from heatproof.commands.shift.run import Shift, run_shift
from heatproof.commands.shift.run import effort as shift_effort
from heatproof.data.boxes import Boxes, given_boxes
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.explainers.random_map import RandomMap
from heatproof.habits import checked_verb
from heatproof.metrics.evaluation import Metric
from heatproof.metrics.localisation import BoxIoU, PointingGame
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Precision
from heatproof.processes import Processes
from heatproof.types import Attack, Explainer, Penalty


@checked_verb
def audit(
    model: Model,
    data: Data,
    *,
    explainer: str | Explainer = "gradcam()",
    score: Asked | None = None,
    reference: Model | None = None,
    thresholds: Thresholds | Path | str | None = None,
    baseline: Path | str | None = None,
    budget: int = 180,
    limit: int | None = None,
    quick: bool = False,
    batch_size: int = 20,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "fp32",
    out: Path | str | None = None,
    shard: str | None = None,
    overwrite: bool = False,
) -> Result:
    """Can this model's heatmaps be trusted? Eight checks and a verdict.

    Args:
        explainer: whose maps are audited.
        score: what is explained: a name, a spec or an object, for explainers that name none.
        reference: the model that it claims to be; ``"self"``: the model itself, repaired on these photos.
        thresholds: of a calibration, or the file that holds them; ``None``: the package's for this explainer.
        baseline: the run folder of an earlier audit of the same photos.
        budget: forward passes per photo.
        limit: at most so many photos, evenly spread.
        quick: a first look: the smallest budget that can tell, often 37, and 60 photos, unless ``limit`` says.
        out: the run folder, with its page; without it nothing is left on the disk.
        shard: ``"2/8"``: the second of eight shares of the photos, into a folder that :func:`merge` joins.

    Returns:
        A result whose ``verdict`` is honest, doubtful, manipulated or cannot tell.

    Raises:
        HeatproofError: a model, data or settings that do not fit; the text says the way out.
    """
    if quick and budget != Audit.budget:
        raise InputError("quick=True chooses the budget: give one of quick and budget")
    limit = looking(quick, limit)
    own = isinstance(reference, str) and reference == SELF
    claims = [] if reference is None or own else [reference]
    explained = scored(
        score,
        built(explainer, catalog.EXPLAINERS, "explainer"),
        [as_classifier(one) for one in (model, *claims)],
        alike=True,
    )
    audited, *others = explained.models
    (chosen,) = at_named_layers(explained.explainers, audited)
    budget = least_budget(chosen, audited) if quick else budget
    known = Thresholds.read(Path(thresholds)) if isinstance(thresholds, str | Path) else thresholds
    known = known or thresholds_for(chosen, audited)
    asked = Audit(explainer=chosen, budget=budget, part=batch_size, seed=seed)
    source = as_source(data, audited, limit=limit, seed=seed)
    hardware = settle(device, precision, explained.models, lambda one: source, [chosen])
    settings = {"model": named_model(model), "data": named(data), "asked": asked, "limit": limit}
    settings |= {"precision": hardware.precision}
    settings |= {"reference": None if reference is None else SELF if own else named_model(reference)}
    settings |= {"thresholds": known.plain()}
    settings |= {"baseline": str(baseline) if baseline else None} | explained.given()
    read = [model, data, None if own else reference, thresholds, baseline]
    job = job_of(shard, out)
    shared = Processes(job=job)
    total = shared.photos(len(source), batch_size)

    def effort() -> Effort:
        further = passes(len(source)) if own else 0
        return planned(audited, total * budget + further, hardware, f"{budget} for each photo")

    with (
        filled(out, "audit", settings, seed, overwrite, read, job) as run,
        progress("auditing", total, run, effort) as advance,
    ):
        same_photos(run, source)
        if not run.done:
            run_audit(
                asked,
                audited,
                source,
                run,
                reference=SELF if own else others[0] if others else None,
                thresholds=known,
                baseline=baseline,
                draw=out is not None,
                hardware=hardware,
                processes=shared,
                advance=advance,
            )
        return result("audit", run, columns.AUDIT, out)


@checked_verb
def shift(
    model: Model | Sequence[Model],
    data: Data,
    *,
    attack: str | Attack | Sequence[str | Attack] = "fgsm()",
    epsilon: float | str | Sequence[float | str] | None = None,
    explainer: str | Explainer | Sequence[str | Explainer] = "gradcam()",
    score: Asked | None = None,
    explain: Literal["clean", "adversarial", "label"] = "clean",
    penalty: str | Penalty | None = None,
    wanted: int | str | None = None,
    draws: int = 0,
    limit: int | None = None,
    quick: bool = False,
    batch_size: int = 16,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "fp32",
    out: Path | str | None = None,
    shard: str | None = None,
    overwrite: bool = False,
) -> Result:
    """How far do the heatmaps move when the pixels are attacked? MOD and VID per model, attack and epsilon.

    Args:
        model: one, or several that are compared.
        epsilon: of [0, 1] pixels, also as text, ``"8/255"``; ``None``: each attack's own where it was given one, else
            0.01, 0.05, 0.075 and 0.1.
        score: what is explained: a name, a spec or an object, for explainers that name none.
            Of one that is no class's (an output, a likeness) attacks lower it.
        explain: the class that is explained.
        penalty: attack the map itself.
        wanted: reach this class (``"second"``, each photo's second most likely; a name; a number), with a penalty both.
        draws: with a penalty, for an attacker who knows a noisy explainer: draws of its noise, fresh in every step.
        limit: at most so many photos, evenly spread.
        quick: a first look: 60 photos, unless ``limit`` says.
        out: the run folder, with its page; without it nothing is left on the disk.
        shard: ``"2/8"``: the second of eight shares of the photos, into a folder that :func:`merge` joins.

    Raises:
        HeatproofError: a model, data or settings that do not fit; the text says the way out.
    """
    limit = looking(quick, limit)
    explainers = built(explainer, catalog.EXPLAINERS, "explainer")
    explained = scored(score, explainers, [as_classifier(one) for one in several(model)])
    models = explained.models
    attacks = built(attack, catalog.ATTACKS, "attack")
    more: dict[str, Any] = {
        "epsilons": of_attacks(attacks, None if epsilon is None else _budgets(epsilon), Shift.epsilons)
    }
    if penalty is not None:
        (more["penalty"],) = built(penalty, catalog.PENALTIES, "penalty")
    elif explained.lower is not None:
        more["lower"] = explained.lower
    asked = Shift(
        attacks=attacks,
        explainers=at_named_layers(explained.explainers, models[0]),
        explain=explain,
        wanted=wanted,
        draws=draws,
        part=batch_size,
        **more,
    )
    settings = {"data": named(data), "models": [named_model(one) for one in several(model)], "asked": asked}

    def photos(one: Classifier) -> Any:
        return as_source(data, one, limit=limit, seed=seed)

    hardware = settle(device, precision, models, photos, asked.explainers)
    settings |= {"limit": limit, "precision": hardware.precision} | explained.given()
    job = job_of(shard, out)
    shared = Processes(job=job)
    count = shared.photos(len(photos(models[0])), batch_size)
    read = [*several(model), data]
    with (
        filled(out, "shift", settings, seed, overwrite, read, job) as run,
        progress(
            "attacking", count * len(models), run, lambda: shift_effort(asked, models, count, hardware)
        ) as advance,
    ):
        same_photos(run, photos(models[0]))
        if not run.done:
            how: dict[str, Any] = {"hardware": hardware, "processes": shared, "draw": out is not None}
            run_shift(asked, models, photos, run, advance=advance, **how)
        return result("shift", run, columns.SHIFT, out)


@checked_verb
def compare(
    clean: Model,
    fooled: Model | Sequence[Model],
    data: Data,
    *,
    explainer: str | Explainer | Sequence[str | Explainer] | None = None,
    score: Asked | None = None,
    penalty: str | Penalty | Sequence[str | Penalty] | None = None,
    limit: int | None = None,
    quick: bool = False,
    batch_size: int = 32,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "fp32",
    out: Path | str | None = None,
    shard: str | None = None,
    overwrite: bool = False,
) -> Result:
    """What a lie cost, and whom it deceives: accuracy, agreement and fooling success rates of fooled models.

    Args:
        fooled: one or several; of a run folder of ``fool`` it is known what it was fooled with.
        explainer, penalty: what is measured; ``None``: the usual ones, and those of the run folders.
        score: what is explained: a name, a spec or an object, for explainers that name none.
        limit: at most so many photos, evenly spread.
        quick: a first look: 60 photos, unless ``limit`` says.
        out: the run folder, with its page; without it nothing is left on the disk.
        shard: ``"2/8"``: the second of eight shares of the photos, into a folder that :func:`merge` joins.

    Raises:
        HeatproofError: a model, data or settings that do not fit; the text says the way out.
    """
    limit = looking(quick, limit)
    suspects = [as_fooled(one) for one in several(fooled)]
    explainers = built(explainer, catalog.EXPLAINERS, "explainer") or Compare.explainers
    explained = scored(score, explainers, [as_classifier(clean), *(suspect.model for suspect in suspects)], alike=True)
    base, *others = explained.models
    suspects = [replace(suspect, model=one) for suspect, one in zip(suspects, others, strict=True)]
    own = [suspect.penalty for suspect in suspects if suspect.penalty is not None]
    asked = Compare(
        explainers=at_named_layers(explained.explainers, base),
        penalties=built(penalty, LIES, "penalty") or tuple(dict.fromkeys((*Compare.penalties, *own))),
        part=batch_size,
    )
    source = as_source(data, base, limit=limit, seed=seed)
    settings = {
        "clean": named_model(clean),
        "fooled": [named_model(one) for one in several(fooled)],
        "data": named(data),
    }
    hardware = settle(device, precision, explained.models, lambda one: source, asked.explainers)
    settings |= {"asked": asked, "limit": limit, "precision": hardware.precision} | explained.given()
    read = [clean, *several(fooled), data]
    job = job_of(shard, out)
    shared = Processes(job=job)
    total = shared.photos(len(source), batch_size)
    with (
        filled(out, "compare", settings, seed, overwrite, read, job) as run,
        progress("comparing", total, run, lambda: compare_effort(asked, base, suspects, total, hardware)) as advance,
    ):
        same_photos(run, source)
        if not run.done:
            run_compare(asked, base, suspects, source, run, hardware=hardware, processes=shared, advance=advance)
        return result("compare", run, columns.COMPARE, out)


@checked_verb
def evaluate(
    model: Model,
    data: Data,
    *,
    explainer: str | Explainer | Sequence[str | Explainer] = (GradCAM(), SimpleGrad(), RandomMap()),
    score: Asked | None = None,
    metric: str | Metric | Sequence[str | Metric] | None = None,
    boxes: Boxes | Tensor | NDArray[Any] | Sequence[Any] | None = None,
    limit: int | None = None,
    quick: bool = False,
    batch_size: int = 16,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "fp32",
    out: Path | str | None = None,
    shard: str | None = None,
    overwrite: bool = False,
) -> Result:
    """Can an explainer be relied on? Faithfulness, robustness, localisation and randomisation, side by side.

    Args:
        score: what is explained: a name, a spec or an object, for explainers that name none.
        metric: ``None``: the standard ones, and with ``boxes`` the pointing game and the box's IoU.
        boxes: of the objects by the image's id, as shares of what the network sees; or an array ``[images, 4]`` or
            ``[images, boxes, 4]``, of whole numbers in pixels of images in memory, else of shares.
        limit: at most so many photos, evenly spread.
        quick: a first look: 60 photos, unless ``limit`` says.
        out: the run folder, with its page; without it nothing is left on the disk.
        shard: ``"2/8"``: the second of eight shares of the photos, into a folder that :func:`merge` joins.

    Raises:
        HeatproofError: a model, data or settings that do not fit; the text says the way out.
    """
    limit = looking(quick, limit)
    explained = scored(score, built(explainer, MEASURED, "explainer"), [as_classifier(model)])
    (evaluated,) = explained.models
    explainers = at_named_layers(explained.explainers, evaluated)
    source = as_source(data, evaluated, limit=limit, seed=seed)
    known = None if boxes is None else given_boxes(boxes, source.ids, shape_of(data), evaluated.preprocessing)
    usual = (*STANDARD, *((PointingGame(), BoxIoU()) if known else ()))
    asked = Evaluate(
        explainers=explainers,
        metrics=seeded(built(metric, catalog.METRICS, "metric") or usual, seed),
        part=batch_size,
    )
    asked.check(evaluated, known)
    hardware = settle(device, precision, [evaluated], lambda one: source, explainers)
    settings = {"model": named_model(model), "data": named(data), "asked": asked, "limit": limit}
    settings |= {"precision": hardware.precision} | explained.given()
    if known is not None:
        settings["boxes"] = f"sha256 {hashlib.sha256(repr(sorted(known.items())).encode()).hexdigest()}"
    shown = columns.EVALUATE | {repr(e): repr(e) for e in explainers}
    read = [model, data]
    job = job_of(shard, out)
    shared = Processes(job=job)
    total = shared.photos(len(source), batch_size)
    with (
        filled(out, "evaluate", settings, seed, overwrite, read, job) as run,
        progress(
            "evaluating", total, run, lambda: evaluate_effort(asked, evaluated, total, hardware, known)
        ) as advance,
    ):
        same_photos(run, source)
        if not run.done:
            run_evaluate(
                asked,
                evaluated,
                source,
                run,
                boxes=known,
                hardware=hardware,
                processes=shared,
                draw=out is not None,
                advance=advance,
            )
        return result("evaluate", run, shown, out, shown="side_by_side")


def _budgets(epsilon: float | str | Sequence[float | str]) -> tuple[float, ...]:
    """As the command line reads them."""
    found = tuple(spec.number(one) if isinstance(one, str) else float(one) for one in several(epsilon))
    if not found:
        raise InputError("epsilon= names no budget; leave it out for the usual four")
    return found
