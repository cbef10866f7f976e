"""Audit, shift, compare and evaluate from Python, each the verb of the command line with the same settings."""

import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import polars as pl

from heatproof import catalog
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
)
from heatproof.answers.pace import Pace
from heatproof.answers.result import Result
from heatproof.answers.scored import Asked, scored
from heatproof.commands import columns
from heatproof.commands.audit.own_reference import SELF
from heatproof.commands.audit.run import Audit, run_audit
from heatproof.commands.audit.verdict import Thresholds
from heatproof.commands.compare.run import Compare, run_compare
from heatproof.commands.evaluate.run import STANDARD, Evaluate, run_evaluate
from heatproof.commands.precision import settle
from heatproof.commands.shift.run import Shift, run_shift
from heatproof.data.boxes import Boxes
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.explainers.random_map import RandomMap
from heatproof.metrics.evaluation import Metric
from heatproof.metrics.localisation import BoxIoU, PointingGame
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Precision
from heatproof.models.record import with_bases
from heatproof.processes import Processes
from heatproof.report.page import write_report
from heatproof.results.reading import gather_parts
from heatproof.results.run import Run
from heatproof.results.strict import read_summary
from heatproof.shard import WHOLE, Shard
from heatproof.types import Attack, Explainer, Penalty


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
        thresholds: of a calibration, or the file that holds them; ``None``: the package's.
        baseline: the run folder of an earlier audit of the same photos.
        budget: forward passes per photo.
        limit: at most so many photos, evenly spread.
        out: the run folder, with its page; without it nothing is left on the disk.
        shard: ``"2/8"``: the second of eight shares of the photos, into a folder that :func:`merge` joins.

    Returns:
        A result whose ``verdict`` is honest, doubtful, manipulated or cannot tell.

    Raises:
        HeatproofError: a model, data or settings that do not fit; the text says the way out.
    """
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
    known = Thresholds.read(Path(thresholds)) if isinstance(thresholds, str | Path) else thresholds
    known = known or Thresholds.shipped()
    asked = Audit(explainer=chosen, budget=budget, part=batch_size, seed=seed)
    source = as_source(data, audited, limit=limit, seed=seed)
    hardware = settle(device, precision, explained.models, lambda one: source, [chosen])
    settings = {"model": _name(model), "data": named(data), "asked": asked, "limit": limit}
    settings |= {"precision": hardware.precision}
    settings |= {"reference": None if reference is None else SELF if own else _name(reference)}
    settings |= {"thresholds": known.plain()}
    settings |= {"baseline": str(baseline) if baseline else None} | explained.given()
    read = [model, data, None if own else reference, thresholds, baseline]
    job = _job(shard, out)
    shared = Processes(job=job)
    total = shared.photos(len(source), batch_size)
    with filled(out, "audit", settings, seed, overwrite, read, job) as run, progress("auditing", total) as advance:
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
        return _result("audit", run, columns.AUDIT, out)


def shift(
    model: Model | Sequence[Model],
    data: Data,
    *,
    attack: str | Attack | Sequence[str | Attack] = "fgsm()",
    epsilon: float | Sequence[float] | None = None,
    explainer: str | Explainer | Sequence[str | Explainer] = "gradcam()",
    score: Asked | None = None,
    explain: Literal["clean", "adversarial", "label"] = "clean",
    penalty: str | Penalty | None = None,
    draws: int = 0,
    limit: int | None = None,
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
        epsilon: of [0, 1] pixels; ``None``: 0.01, 0.05, 0.075 and 0.1.
        score: what is explained: a name, a spec or an object, for explainers that name none.
            Of one that is no class's (an output, a likeness) attacks lower it.
        explain: the class that is explained.
        penalty: attack the map itself.
        draws: with a penalty, for an attacker who knows a noisy explainer: draws of its noise, fresh in every step.
        limit: at most so many photos, evenly spread.
        out: the run folder, with its page; without it nothing is left on the disk.
        shard: ``"2/8"``: the second of eight shares of the photos, into a folder that :func:`merge` joins.

    Raises:
        HeatproofError: a model, data or settings that do not fit; the text says the way out.
    """
    explainers = built(explainer, catalog.EXPLAINERS, "explainer")
    explained = scored(score, explainers, [as_classifier(one) for one in several(model)])
    models = explained.models
    more: dict[str, Any] = {} if epsilon is None else {"epsilons": tuple(float(e) for e in several(epsilon))}
    if penalty is not None:
        (more["penalty"],) = built(penalty, catalog.PENALTIES, "penalty")
    elif explained.lower is not None:
        more["lower"] = explained.lower
    asked = Shift(
        attacks=built(attack, catalog.ATTACKS, "attack"),
        explainers=at_named_layers(explained.explainers, models[0]),
        explain=explain,
        draws=draws,
        part=batch_size,
        **more,
    )
    settings = {"data": named(data), "models": [_name(one) for one in several(model)], "asked": asked}

    def photos(one: Classifier) -> Any:
        return as_source(data, one, limit=limit, seed=seed)

    hardware = settle(device, precision, models, photos, asked.explainers)
    settings |= {"limit": limit, "precision": hardware.precision} | explained.given()
    job = _job(shard, out)
    shared = Processes(job=job)
    total = shared.photos(len(photos(models[0])), batch_size) * len(models)
    read = [*several(model), data]
    with filled(out, "shift", settings, seed, overwrite, read, job) as run, progress("attacking", total) as advance:
        if not run.done:
            how: dict[str, Any] = {"hardware": hardware, "processes": shared, "draw": out is not None}
            run_shift(asked, models, photos, run, advance=advance, **how)
        return _result("shift", run, columns.SHIFT, out)


def compare(
    clean: Model,
    fooled: Model | Sequence[Model],
    data: Data,
    *,
    explainer: str | Explainer | Sequence[str | Explainer] | None = None,
    score: Asked | None = None,
    penalty: str | Penalty | Sequence[str | Penalty] | None = None,
    limit: int | None = None,
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
        out: the run folder, with its page; without it nothing is left on the disk.
        shard: ``"2/8"``: the second of eight shares of the photos, into a folder that :func:`merge` joins.

    Raises:
        HeatproofError: a model, data or settings that do not fit; the text says the way out.
    """
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
    settings = {"clean": _name(clean), "fooled": [_name(one) for one in several(fooled)], "data": named(data)}
    hardware = settle(device, precision, explained.models, lambda one: source, asked.explainers)
    settings |= {"asked": asked, "limit": limit, "precision": hardware.precision} | explained.given()
    read = [clean, *several(fooled), data]
    job = _job(shard, out)
    shared = Processes(job=job)
    with (
        filled(out, "compare", settings, seed, overwrite, read, job) as run,
        progress("comparing", shared.photos(len(source), batch_size)) as advance,
    ):
        if not run.done:
            run_compare(asked, base, suspects, source, run, hardware=hardware, processes=shared, advance=advance)
        return _result("compare", run, columns.COMPARE, out)


def evaluate(
    model: Model,
    data: Data,
    *,
    explainer: str | Explainer | Sequence[str | Explainer] = (GradCAM(), SimpleGrad(), RandomMap()),
    score: Asked | None = None,
    metric: str | Metric | Sequence[str | Metric] | None = None,
    boxes: Boxes | None = None,
    limit: int | None = None,
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
        boxes: of the objects by the image's id, as shares of what the network sees.
        limit: at most so many photos, evenly spread.
        out: the run folder, with its page; without it nothing is left on the disk.
        shard: ``"2/8"``: the second of eight shares of the photos, into a folder that :func:`merge` joins.

    Raises:
        HeatproofError: a model, data or settings that do not fit; the text says the way out.
    """
    explained = scored(score, built(explainer, MEASURED, "explainer"), [as_classifier(model)])
    (evaluated,) = explained.models
    explainers = at_named_layers(explained.explainers, evaluated)
    usual = (*STANDARD, *((PointingGame(), BoxIoU()) if boxes else ()))
    asked = Evaluate(
        explainers=explainers,
        metrics=seeded(built(metric, catalog.METRICS, "metric") or usual, seed),
        part=batch_size,
    )
    asked.check(evaluated, boxes)
    source = as_source(data, evaluated, limit=limit, seed=seed)
    hardware = settle(device, precision, [evaluated], lambda one: source, explainers)
    settings = {"model": _name(model), "data": named(data), "asked": asked, "limit": limit}
    settings |= {"precision": hardware.precision} | explained.given()
    shown = columns.EVALUATE | {repr(e): repr(e) for e in explainers}
    read = [model, data]
    job = _job(shard, out)
    shared = Processes(job=job)
    with (
        filled(out, "evaluate", settings, seed, overwrite, read, job) as run,
        progress("evaluating", shared.photos(len(source), batch_size)) as advance,
    ):
        if not run.done:
            run_evaluate(
                asked,
                evaluated,
                source,
                run,
                boxes=boxes,
                hardware=hardware,
                processes=shared,
                draw=out is not None,
                advance=advance,
            )
        return _result("evaluate", run, shown, out, shown="side_by_side")


def _job(shard: str | None, out: Path | str | None) -> Shard:
    """The share that is asked for.

    Raises:
        InputError: there is no folder to keep it in.
    """
    if shard is not None and out is None:
        raise InputError(f"shard={shard!r} is joined with others later: give it a folder of its own, out=...")
    return WHOLE if shard is None else Shard.read(shard)


def _name(model: Model) -> str:
    return model.name if isinstance(model, Classifier) else str(model)


def _result(verb: str, run: Run, heads: dict[str, str], out: Path | str | None, shown: str = "rows") -> Result:
    """What stands in the run folder, which may go away then; of a shard its rows, for nothing is answered yet."""
    if run.shard.is_share:
        images, _ = gather_parts(run.folder)
        told = f"shard {run.shard} is done; when all are, hp.merge joins their folders"
        return Result(verb, {"rows": [], "side_by_side": [], "answer": [told]}, images, heads, run.folder, shown)
    summary = read_summary(run.folder)
    images = pl.read_parquet(run.folder / "images.parquet")
    return Result(verb, summary, images, heads, None if out is None else run.folder, shown)


def make_page(folder: Path, record: dict[str, Any]) -> None:
    """The page of a run folder, whose run is complete when it is there."""
    write_report([folder], record=record)


@contextmanager
def filled(
    out: Path | str | None,
    command: str,
    settings: dict[str, Any],
    seed: int,
    overwrite: bool,
    inputs: Sequence[object],
    job: Shard = WHOLE,
) -> Generator[Run]:
    """The run folder that was asked for, with its page at the end, or one that goes away.

    Args:
        inputs: what the verb reads; ``overwrite`` never empties the files and folders among it.
        job: the share of the photos that the folder is to hold.
    """
    if out is None:
        with (
            tempfile.TemporaryDirectory(prefix="heatproof-") as folder,
            Run.start(Path(folder) / command, command=command, settings=settings, seed=seed) as run,
        ):
            yield run
        return
    asked: dict[str, Any] = {"command": command, "settings": settings, "seed": seed, "overwrite": overwrite}
    paths = [given for given in inputs if isinstance(given, str | Path)]
    with Run.start(out, **asked, inputs=with_bases(paths), page=make_page, shard=job) as run:
        yield run
    if not job.is_share and not (run.folder / "report.html").is_file():
        write_report([run.folder])


@contextmanager
def progress(title: str, total: int) -> Generator[Callable[[float], None]]:
    """A line that says once a second how far it is, on a terminal and in a notebook; silent elsewhere."""
    shown = sys.stderr.isatty() or "ipykernel" in sys.modules
    pace, longest = Pace(total), 0

    def advance(count: float) -> None:
        nonlocal longest
        pace.add(count)
        if shown and pace.due():
            line = f"{title}: {pace.words()}"
            longest = max(longest, len(line))
            sys.stderr.write(f"\r{line:<{longest}}")
            sys.stderr.flush()

    yield advance
    if longest:
        sys.stderr.write("\r" + " " * longest + "\r")
        sys.stderr.flush()
