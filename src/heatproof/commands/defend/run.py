"""Train a network so that its heatmaps hold still, into a run folder from which it can be loaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from heatproof.commands.defend.figures import draw_course, draw_maps, draw_trade
from heatproof.commands.defend.measure import METRICS, SORT, Judged, measure
from heatproof.commands.effort import Effort, of_training
from heatproof.commands.record import describe
from heatproof.data.sources import Source, limited, part_source
from heatproof.errors import InputError
from heatproof.explainers.gradient import SimpleGrad
from heatproof.models.altered import Alteration
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.record import ALTERED
from heatproof.report.words import counted, measured, points
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.run import Run
from heatproof.results.skipped import NotingCheckpoint, all_skipped
from heatproof.results.table import Mean, PairedTest, SummaryRow, paired_test, summarise, wilson
from heatproof.robust.attack import MapAttack
from heatproof.robust.methods import Alignment, Method, Plain
from heatproof.robust.train import FEWEST_PHOTOS, RECIPE, WATCHED, WATCHING, Defended, train_robustly
from heatproof.training.history import Steps
from heatproof.training.settings import FineTune
from heatproof.types import Explainer, settings

GIVEN, PLAIN, DEFENDED = "given", "plain", "defended"


@settings
class Defend:
    """What :func:`run_defend` does.

    Args:
        method: what is paid for, and what is altered in the network.
        explainer: whose maps are defended and judged.
        recipe: how the network is trained.
        attack: that judges, on the maps themselves.
        epsilons: of the attack, each in turn, in pixel units of [0, 1].
        judged: held-out photos that are attacked, evenly spread.
        control: also train ``plain()`` for as long, and judge it alike.
        shown: photos in the figure.

    Raises:
        InputError: something that is no training, no epsilon, or no photo to judge by.
    """

    method: Method = Alignment()
    explainer: Explainer = SimpleGrad()
    recipe: FineTune = RECIPE
    attack: MapAttack = MapAttack()
    epsilons: tuple[float, ...] = (4 / 255,)
    judged: int = 64
    control: bool = False
    shown: int = 4

    def __post_init__(self) -> None:
        if not isinstance(self.method, Method):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"{self.method!r} trains nothing; adversarial(attack=...) trains against an attack")
        if not self.epsilons or self.judged < 1:
            raise InputError("at least one epsilon and one photo are needed to judge by")
        for epsilon in self.epsilons:
            MapAttack(epsilon)


def run_defend(
    settings: Defend,
    model: Classifier,
    name: str,
    source: Source,
    run: Run,
    *,
    held_out: Source | None = None,
    hardware: Hardware = Hardware(),
    advance: Callable[[str, int], None] = lambda what, count: None,
) -> Classifier | None:
    """Train, then attack the held-out photos; ``hp.load(run.folder)`` gives the defended model.

    Started again after it was killed it goes on where it was. Several processes may call it together (``accelerate
    launch``), each with a run of its own rank; process 0 judges and writes.

    Args:
        name: what ``hp.load`` calls the given network: the folder remembers it to build the network again.
        held_out: photos to judge by; ``None``: a share of ``source`` (``recipe.holdout``) is set aside.
        advance: called with what is done, and how many of it.

    Returns:
        The defended network; what was found stands in ``summary.json``. ``None`` for processes other than 0.

    Raises:
        InputError: photos, a method or settings that do not fit.
        RunError: the folder holds a run with other settings, or the disk is full; what was done is kept.
    """
    recipe = settings.recipe
    if held_out is None:
        source, held_out = part_source(source, recipe.holdout, recipe.seed)
    given = hardware.host(model)
    describe(run, [model], source, names=[name], held_out=held_out)

    def trained(method: Method, what: str) -> Defended:
        return train_robustly(
            given,
            settings.explainer,
            source,
            method,
            recipe,
            held_out=held_out,
            checkpoint=NotingCheckpoint(FileCheckpoint(run.path(f"scratch/{what}.pt")), run, (source, held_out)),
            scratch=run.folder / "scratch",
            advance=Steps(lambda count, row: advance(what, count)),
        )

    found = trained(settings.method, "training")
    control = trained(Plain(), "control") if settings.control else None
    if run.process:
        return None
    found.model.name = run.folder.name
    if found.alteration != Alteration():
        run.write_json(ALTERED, found.alteration.plain())
    run.write_tensors("model.safetensors", found.model.network.state_dict())
    run.write_parquet("history.parquet", found.history.frame())
    networks = [Judged(GIVEN, given, found.accuracy_before)]
    if control is not None:
        networks.append(Judged(PLAIN, control.model, control.accuracy_after, repr(Plain())))
    networks.append(Judged(DEFENDED, found.model, found.accuracy_after, repr(settings.method)))
    judged = limited(held_out, settings.judged, recipe.seed)
    measure(
        networks,
        settings.explainer,
        settings.attack,
        settings.epsilons,
        judged,
        run,
        hardware,
        lambda count: advance("attacking", count),
    )
    table = run.merge(SORT)
    rows = summarise(table, ["network", "epsilon"], METRICS)
    order = [network.name for network in networks]
    rows = sorted(rows, key=lambda row: (row.by["epsilon"], order.index(row.by["network"])))
    draw_course(found.history, found.accuracy_before, run)
    draw_trade(networks, rows, run)
    strongest = replace(settings.attack, epsilon=max(settings.epsilons))
    draw_maps(settings.explainer, settings.shown, networks, strongest, judged, run, hardware)
    skipped = all_skipped(run, source, held_out)
    unread = {entry.get("image") for entry in skipped} & set(held_out.ids)
    summary = _summary(settings, networks, rows, found, len(held_out) - len(unread), gained(table)) | {
        "skipped": skipped
    }
    run.write_json("summary.json", summary)
    return found.model


EXPLAINED = 2
"""Maps of a photo in a step: of the photo, and of the photo moved."""


ATTACKED = 2.5
"""A step of an attack on the map of a photo, in maps of a step of training, as measured on the demo network."""


def effort(
    settings: Defend, model: Classifier, photos: int, held_out: int, hardware: Hardware = Hardware()
) -> Effort | None:
    """What a defence takes, roughly: every step, and the attacks that watch and that judge.

    Args:
        photos: to train on.
    """
    recipe, judged = settings.recipe, min(settings.judged, held_out)
    photo = of_training(model, settings.explainer, hardware) if photos + held_out >= FEWEST_PHOTOS else None
    if photo is None:
        return None
    trainings = 2 if settings.control else 1
    trained = trainings * recipe.steps * recipe.batch_size * EXPLAINED
    evaluations = trainings * (1 + recipe.steps // recipe.evaluate_every)
    watched = evaluations * min(WATCHED, held_out) * WATCHING.steps
    attacked = (1 + trainings) * len(settings.epsilons) * judged * settings.attack.steps
    whole = photo.trained * (trained + ATTACKED * (watched + attacked)) + photo.explained * (evaluations * held_out)
    return replace(whole, more=f"roughly: {counted(trainings * recipe.steps, 'step')} of {counted(recipe.batch_size)}")


@dataclass(frozen=True)
class _Numbers:
    """The columns that a summary's row has beside the means over photos."""

    method: str
    explainer: str
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    changed: bool
    best: int
    steps: int
    seconds: float | None


def _summary(
    settings: Defend,
    networks: Sequence[Judged],
    rows: Sequence[SummaryRow],
    found: Defended,
    held_out: int,
    gains: Mapping[float, PairedTest],
) -> dict[str, Any]:
    """What was found; the accuracies are of so many held-out photos."""
    of = {network.name: network for network in networks}
    last, changed = found.history.rows[-1], found.changed

    def numbers(row: SummaryRow) -> _Numbers:
        network = of[row.by["network"]]
        own = network.name == DEFENDED
        low, high = wilson(round(network.accuracy * held_out), held_out)
        return _Numbers(
            method=network.method,
            explainer=repr(settings.explainer),
            accuracy=network.accuracy,
            accuracy_low=low,
            accuracy_high=high,
            changed=changed if own else network.name == PLAIN,
            best=found.history.best if own else 0,
            steps=int(last["step"]) if network.method else 0,
            seconds=last["seconds"] if own else None,
        )

    return {
        "rows": [{**row.plain(), **vars(numbers(row))} for row in rows],
        "worst": {"column": "topk_intersection", "descending": False},
        "answer": answer(settings, of, rows, found, held_out, gains),
    }


def gained(table: pl.DataFrame) -> dict[float, PairedTest]:
    """By epsilon, how much more overlap the defended network has than the given one on the same photos."""
    found = {}
    for (epsilon,), own in table.group_by("epsilon", maintain_order=True):
        wide = own.sort("image").pivot("network", index="image", values="topk_intersection")
        if {GIVEN, DEFENDED} <= set(wide.columns):
            found[epsilon] = paired_test(wide[DEFENDED].to_numpy(), wide[GIVEN].to_numpy())
    return found


def answer(
    settings: Defend,
    networks: Mapping[str, Judged],
    rows: Sequence[SummaryRow],
    found: Defended,
    held_out: int,
    gains: Mapping[float, PairedTest],
) -> list[str]:
    """What was gained and what it cost, in sentences.

    Args:
        held_out: photos that the accuracies are of.
        gains: of overlap, by epsilon (:func:`gained`).
    """
    if not found.changed:
        budget = settings.recipe.max_accuracy_drop
        sentence = (
            f"No checkpoint of {settings.method!r} was inside the budget of {budget:.1%}: the network is unchanged. A "
            "smaller weight or lr, more steps, more photos, or a larger budget (--max-accuracy-drop) help."
        )
        return [sentence]
    sentences = []
    for epsilon in settings.epsilons:
        own = {row.by["network"]: row for row in rows if row.by["epsilon"] == epsilon}
        overlaps = {name: row.means["overlap"].number for name, row in own.items()}
        beside = f" ({overlaps[PLAIN]:.0%} after plain training of the same length)" if PLAIN in overlaps else ""
        sentences.append(
            f"{_verdict(gains.get(epsilon))} Under PGD of {255 * epsilon:.3g}/255 on the map of {settings.explainer!r} "
            f"of {counted(own[DEFENDED].count, 'held-out photo')}, {overlaps[DEFENDED]:.0%} of its highest cells stay "
            f"the highest after {settings.method!r}, {overlaps[GIVEN]:.0%} before{beside}."
        )
    last = int(found.history.rows[-1]["step"]) if found.history.rows else found.history.best
    sentences.append(
        f"The weights handed out are those after step {found.history.best} of {last}, the last at which the accuracy "
        "was seen to be inside the budget."
    )
    control = f", {networks[PLAIN].accuracy:.1%} after plain training" if PLAIN in networks else ""
    sentences.append(
        f"The accuracy on {counted(held_out, 'held-out photo')} goes from {found.accuracy_before:.1%} to "
        f"{found.accuracy_after:.1%} ({points(found.accuracy_before - found.accuracy_after)}{control})."
    )
    if found.alteration.softplus is not None:
        sentences.append(f"Softplus of beta {found.alteration.softplus:g} took the place of ReLU, and stays.")
    if found.alteration.layer is not None:
        blur = f"{found.alteration.blur:g} cells"
        sentences.append(f"The maps of {found.alteration.layer} are blurred by {blur}, and stay so.")
    if found.history.stopped:
        sentences.append(f"It ended early: {found.history.stopped}.")
    return sentences


def _verdict(gain: PairedTest | None) -> str:
    """Whether the maps hold still better, as far as the same photos can tell."""
    if gain is None or np.isnan(gain.low):
        few = "" if gain is None else f" ({counted(gain.count)})"
        return f"Too few photos to tell whether the maps hold still better{few}."
    apart = measured(Mean(100 * gain.difference, 100 * gain.low, 100 * gain.high, 0))
    told = f"the share of highest cells that stay changed by {apart} points on the same {counted(gain.count)}"
    if gain.low > 0:
        return f"The maps hold still better: {told}."
    if gain.high < 0:
        return f"The maps hold still worse: {told}."
    return f"No difference that can be told: {told}."
