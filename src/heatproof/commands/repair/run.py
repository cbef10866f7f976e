"""Take the lie out of a checkpoint, into a run folder from which the repaired network can be loaded."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from heatproof.commands.effort import Effort, noise, of_training, rear_share
from heatproof.commands.record import describe
from heatproof.commands.repair.figures import draw_course, draw_maps
from heatproof.commands.repair.measure import TURNED, Found, found_in, measured
from heatproof.data.sources import Source, part_source
from heatproof.explainers.cam import GradCAM
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.repairs.layers import SHARES, beginnings
from heatproof.repairs.remedies import Remedy, Truth
from heatproof.repairs.repair import BATCH, EVALUATIONS, FEWEST_PHOTOS, TRIAL, Means, Repaired, repair
from heatproof.repairs.witness import questions
from heatproof.report.words import counted, points
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.run import Run
from heatproof.results.skipped import all_skipped
from heatproof.results.table import SummaryRow, summarise
from heatproof.types import Explainer, settings

METRICS = {
    "correct_before": "top1_before",
    "correct_after": "top1_after",
    "agrees": "agreement",
    "likeness_before": "likeness_before",
    "likeness_after": "likeness_after",
    "kept": "kept",
    "spearman": "spearman",
    "nissim": "nissim",
}
"""Columns of ``images.parquet`` and what the summary calls their means."""


@settings
class Repair:
    """What :func:`run_repair` does.

    Args:
        remedy: what is done to the weights.
        explainer: whose maps are repaired and judged.
        max_accuracy_drop: the budget: of the accuracy on the held-out photos where they have labels, else of what it is
            by the checkpoint's own probabilities.
        holdout: share of the photos that is set aside to judge by, where no held-out photos are given.
        seed: of everything random.
        always: hand out the pulled weights also where no lie was found; otherwise the checkpoint is then handed out as
            it came, so that honest maps are not changed for nothing.
        shown: photos in the figure.
    """

    remedy: Remedy = Truth()
    explainer: Explainer = GradCAM()
    max_accuracy_drop: float = 0.02
    holdout: float = 0.1
    seed: int = 0
    always: bool = False
    shown: int = 4


@dataclass(frozen=True)
class _Numbers:
    """The columns that a summary's row has beside the means over photos."""

    accuracy_before: float
    accuracy_after: float
    turned: float
    turned_low: float
    turned_high: float
    lie: bool
    changed: bool
    handed_out: str
    layer: str | None
    best: int
    steps: int
    seconds: float | None


def effort(
    settings: Repair, model: Classifier, photos: int, held_out: int, hardware: Hardware = Hardware()
) -> Effort | None:
    """What a repair takes at most: the witness of the photos, every step, and the evaluations.

    Args:
        photos: to train on.
    """
    course = settings.remedy.course
    photo = of_training(model, settings.explainer, hardware) if photos + held_out >= FEWEST_PHOTOS else None
    if photo is None:
        return None
    hosted, begun = hardware.host(model), [settings.remedy.layer]
    if course.thirds and settings.remedy.layer is None:
        example = hardware.bring(noise(hosted, 1).images)
        begun = [*beginnings(hosted, settings.explainer, example, SHARES[: course.thirds])] or begun
    shares = [rear_share(hosted, layer, hardware) for layer in begun]
    asked = held_out + (photos if course.pull else 0)
    # from each layer a short training, and the whole one from whichever takes longest
    trials = max(shares) + (TRIAL * sum(shares) if len(shares) > 1 else 0.0)
    trained = trials * course.steps * BATCH * (2 if course.views else 1)
    evaluated = trials * EVALUATIONS * held_out + photos
    whole = photo.asked * (asked * questions())
    whole += photo.trained * trained + photo.explained * evaluated
    return replace(whole, more=f"at most: {asked:,} photos are asked about, {counted(course.steps, 'step')} of {BATCH}")


def run_repair(
    settings: Repair,
    model: Classifier,
    name: str,
    source: Source,
    run: Run,
    *,
    held_out: Source | None = None,
    hardware: Hardware = Hardware(),
    advance: Callable[[str, int], None] = lambda what, count: None,
) -> Classifier:
    """Repair, then measure the held-out photos; ``hp.load(run.folder)`` gives the repaired model.

    Started again after it was killed it goes on where it was.

    Args:
        name: what ``hp.load`` calls the checkpoint: the folder remembers it to build the network again.
        held_out: photos to judge by; ``None``: a share of ``source`` is set aside.
        advance: called with what is done, and how many of it.

    Returns:
        The repaired network; what was found stands in ``summary.json``.

    Raises:
        InputError: photos or settings that do not fit.
        RunError: the folder holds a run with other settings, or the disk is full; what was done is kept.
    """
    if held_out is None:
        source, held_out = part_source(source, settings.holdout, settings.seed)
    describe(run, [model], source, names=[name], held_out=held_out)
    given = hardware.host(model)
    means = Means(lambda part: FileCheckpoint(run.path(f"scratch/{part}.pt")), run.folder / "scratch", advance)
    found = repair(
        given,
        settings.explainer,
        source,
        settings.remedy,
        held_out=held_out,
        max_accuracy_drop=settings.max_accuracy_drop,
        seed=settings.seed,
        means=means,
    )
    found.model.name = run.folder.name
    if found.history.rows:
        run.write_parquet("history.parquet", found.history.frame())
    run.append_rows("measured", measured(given, found, settings.explainer, hardware))
    table = run.merge()
    finding = found_in(table, given)
    # honest maps are not changed for nothing
    as_it_came = bool(settings.remedy.course.pull) and not finding.lie and not settings.always
    made = copy.deepcopy(given).eval() if as_it_came else found.model
    made.name = run.folder.name
    run.write_tensors("model.safetensors", made.network.state_dict())
    summary = _summary(settings, table, found, finding, as_it_came, all_skipped(run, source, held_out))
    draw_course(found, run)
    draw_maps(settings.explainer, settings.shown, given, found, table, run, hardware)
    run.write_json("summary.json", summary)
    return made


def _summary(
    settings: Repair,
    table: pl.DataFrame,
    found: Repaired[Classifier],
    finding: Found,
    as_it_came: bool,
    skipped: list[dict[str, str]],
) -> dict[str, Any]:
    [row] = summarise(table, ["model", "explainer"], METRICS)
    last = found.history.rows[-1] if found.history.rows else {}
    numbers = _Numbers(
        accuracy_before=found.before.accuracy,
        accuracy_after=found.after.accuracy,
        turned=finding.turned,
        turned_low=finding.low,
        turned_high=finding.high,
        lie=finding.lie,
        changed=found.changed and not as_it_came,
        handed_out="as it came" if as_it_came or not found.changed else "repaired",
        layer=found.layer,
        best=found.history.best,
        steps=int(last.get("step", 0)),
        seconds=last.get("seconds"),
    )
    return {
        "rows": [{**row.plain(), "remedy": repr(settings.remedy), **vars(numbers)}],
        "worst": {"column": "kept", "descending": False},
        "skipped": skipped,
        "answer": answer(settings, row, found, finding, as_it_came),
    }


def answer(
    settings: Repair, row: SummaryRow, found: Repaired[Classifier], finding: Found, as_it_came: bool
) -> list[str]:
    """What was found and what it cost, in sentences."""
    if not found.changed:
        sentence = (
            f"No checkpoint of {settings.remedy!r} came closer to the witness inside the budget of "
            f"{settings.max_accuracy_drop:.1%}: the model is unchanged. More photos, a larger budget, or another "
            "remedy help."
        )
        return [sentence]
    means = row.means
    known = means["top1_before"].value is not None
    first = (
        f"{settings.remedy!r} brought the maps of {settings.explainer!r} from a likeness of "
        f"{means['likeness_before'].number:.2f} to {means['likeness_after'].number:.2f} to the checkpoint's own "
        f"black-box witness; {means['agreement'].number:.1%} of its predictions stay, and the accuracy "
        f"{'' if known else '(by its own probabilities) '}goes from {found.before.accuracy:.1%} to "
        f"{found.after.accuracy:.1%} ({points(found.before.accuracy - found.after.accuracy)})."
    )
    as_before = (
        "The checkpoint is handed out as it came: maps that are not known to lie are left alone (--always hands out "
        "the pulled weights)."
    )
    return (
        [_lie(finding, row.count), as_before, f"The pulled weights: {first}"]
        if as_it_came
        else [_lie(finding, row.count), first]
    )


def _lie(finding: Found, photos: int) -> str:
    most = f", most among {finding.worst[0]} ({finding.worst[1]:.0%})" if finding.worst and finding.worst[1] else ""
    turned = (
        f"{finding.turned:.0%} [{finding.low:.0%}, {finding.high:.0%}] of the maps of "
        f"{counted(photos, 'held-out photo')} turned when they were pulled to the truth{most}"
    )
    if finding.lie:
        return f"There was a lie: {turned}."
    if finding.unclear:
        return f"Whether there was a lie cannot be told of so few photos: {turned}; a lie is told from {TURNED:.0%} on."
    return f"Nothing was found: {turned}, as of an honest network."
