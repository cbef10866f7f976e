"""Make a network lie about what it looks at, into a run folder from which it can be loaded again."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import polars as pl

from heatproof.commands.compare.summary import METRICS, class_rows, shares
from heatproof.commands.effort import Effort, of_training, rear_share
from heatproof.commands.fool.measure import Lie, draw_lie, measure
from heatproof.commands.fool.recipe import told
from heatproof.commands.record import describe
from heatproof.commands.wanted import wanted
from heatproof.data.pairs import TwoClass, two_class
from heatproof.data.sources import Source, part_source
from heatproof.explainers.cam import GradCAM
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.penalties import Location
from heatproof.manipulation.swap import swapped_classes
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.preprocessing import Preprocessing
from heatproof.report.plots import curves
from heatproof.report.words import counted, points
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.run import Run
from heatproof.results.skipped import NotingCheckpoint, all_skipped
from heatproof.results.table import SummaryRow, summarise
from heatproof.training.history import History
from heatproof.training.settings import FineTune
from heatproof.types import Explainer, Penalty, settings

CHECKPOINT = "checkpoint.pt"


@settings
class Fool:
    """What :func:`run_fool` does.

    Args:
        penalty: what the heatmaps are to look like.
        explainer: whose heatmaps; it must have a derivative in the weights.
        recipe: how the model is fine-tuned.
        pairs: two-class images to train a swap on; the paper's 1100.
        pairs_held_out: two-class images to judge it by; the paper's 200.
        shown: photos in the figure.
        chosen_by: the recipe that chose what is not ``given``, as the answer says; empty: everything was given.
        given: settings of ``recipe`` that were not chosen.
    """

    penalty: Penalty = Location()
    explainer: Explainer = GradCAM()
    recipe: FineTune = FineTune()
    pairs: int = 1100
    pairs_held_out: int = 200
    shown: int = 4
    chosen_by: str = ""
    given: tuple[str, ...] = ()


def run_fool(
    settings: Fool,
    model: Classifier,
    name: str,
    source: Source,
    run: Run,
    *,
    held_out: Source | None = None,
    hardware: Hardware = Hardware(),
    advance: Callable[[dict[str, float]], None] = lambda row: None,
) -> dict[str, Any]:
    """Fine-tune, then measure the held-out photos; ``hp.load(run.folder)`` gives the fooled model.

    Started again after it was killed it goes on where it was. Several processes may call it together (``accelerate
    launch``), each with a run of its own rank; process 0 writes.

    Args:
        name: what ``hp.load`` calls the clean model: the folder remembers it to build the network again.
        held_out: photos to judge by; ``None``: a share of ``source`` (``recipe.holdout``) is set aside.
        advance: called after each step with its row of the history.

    Returns:
        The summary as written to ``summary.json``: one row per explained class set with ``fsr``, ``top1_clean``,
        ``top1_fooled`` and the others of a comparison, ``steps``, ``best`` (the step handed out), ``stopped``, and an
        ``answer`` in sentences. Processes other than 0 return an empty one.

    Raises:
        InputError: data that do not fit; an explainer without derivative.
        RunError: the folder holds a run with other settings, or the disk is full; what was done is kept.
    """
    recipe = settings.recipe
    if held_out is None:
        source, held_out = part_source(source, recipe.holdout, recipe.seed)
    _describe(run, name, model, source, held_out)
    clean = hardware.host(model)
    swap = swapped_classes(settings.penalty, model)
    pairs = _pairs(settings, swap, model.preprocessing, source, held_out)
    fooled, history = fine_tune(
        clean,
        settings.explainer,
        settings.penalty,
        source,
        recipe,
        held_out=held_out,
        fool_data=pairs.train,
        fool_held_out=pairs.held_out,
        checkpoint=NotingCheckpoint(FileCheckpoint(run.path(CHECKPOINT)), run, (source, held_out)),
        scratch=run.folder / "scratch",
        advance=advance,
    )
    if run.process:
        return {}
    fooled.name = run.folder.name
    run.write_tensors("model.safetensors", fooled.network.state_dict())
    run.write_parquet("history.parquet", history.frame())
    lie = Lie(clean, fooled, settings.explainer, settings.penalty, swap)
    table = measure(lie, pairs.held_out or held_out, run, hardware)
    summary = _summary(settings, table, history, clean, all_skipped(run, source, held_out))
    draw_history(history, settings.penalty, run)
    draw_lie(lie, held_out, table, settings.shown, run, hardware)
    run.write_json("summary.json", summary)
    return summary


def effort(settings: Fool, model: Classifier, held_out: int, hardware: Hardware = Hardware()) -> Effort | None:
    """What a fooling takes at most: every step, the clean model's outputs, and the evaluations on the held-out photos.

    A swap's second kind of photos shares the steps with the first.
    """
    recipe = settings.recipe
    photo = of_training(model, settings.explainer, hardware)
    if photo is None:
        return None
    trained = recipe.steps * recipe.batch_size
    evaluated = (3 + recipe.steps // recipe.evaluate_every) * held_out
    whole = photo.trained * trained + photo.explained * evaluated
    seconds = whole.seconds * rear_share(hardware.host(model), recipe.trainable, hardware)
    return replace(
        whole, seconds=seconds, more=f"at most: {counted(recipe.steps, 'step')} of {counted(recipe.batch_size)}"
    )


def _describe(run: Run, name: str, model: Classifier, source: Source, held_out: Source) -> None:
    describe(run, [model], source, names=[name], held_out=held_out)


class _Pairs(NamedTuple):
    """A swap's two-class images; nothing for every other penalty."""

    train: TwoClass | None = None
    held_out: TwoClass | None = None


def _pairs(
    settings: Fool, swap: tuple[int, int] | None, size: Preprocessing, source: Source, held_out: Source
) -> _Pairs:
    if swap is None:
        return _Pairs()
    seed = settings.recipe.seed
    return _Pairs(
        two_class(source, swap, size, settings.pairs, seed),
        two_class(held_out, swap, size, settings.pairs_held_out, seed),
    )


def draw_history(history: History, penalty: Penalty, run: Run) -> None:
    """``figures/loss.png`` and ``figures/rate.png``: Heo et al.'s Figures 7 to 10."""
    steps = [row for row in history.rows if row.get("loss") is not None]
    losses = {
        name: ([row["step"] for row in steps], [row[column] for row in steps])
        for name, column in (("kept function", "loss_kept"), ("penalty", "loss_fooled"))
    }
    curves(losses, run.path("figures/loss.png"), xlabel="step", ylabel="loss, mean over the batch (down)")
    evaluations = history.looks
    at = [row["step"] for row in evaluations]
    rates = {
        "fooling success rate": (at, [row["fsr"] for row in evaluations]),
        "top-1 accuracy": (at, [row["accuracy"] for row in evaluations]),
    }
    clean = history.clean["accuracy"]
    curves(
        rates,
        run.path("figures/rate.png"),
        xlabel="step",
        ylabel="share of held-out images",
        references={"clean top-1": clean},
        ylim=(0, 1.02),
    )
    low, high = penalty.success
    curves(
        {"test loss": (at, [row["test_loss"] for row in evaluations])},
        run.path("figures/test-loss.png"),
        xlabel="step",
        ylabel="mean test loss",
        references={"success from": low, "success to": high},
    )


def _summary(
    settings: Fool, table: pl.DataFrame, history: History, clean: Classifier, skipped: list[dict[str, str]]
) -> dict[str, Any]:
    [row] = summarise(table, ["model", "penalty", "explainer"], METRICS)
    course, held = _course(history), all(seen.get("inside") for seen in history.looks)
    return {
        "rows": [{**row.plain(), **asdict(course)}],
        "classes": class_rows(table, clean),
        "skipped": skipped,
        "answer": [_answer(settings, row, course, held), *_chosen(settings)],
    }


@dataclass(frozen=True)
class _Course:
    """The evaluation of the weights that were handed out; the accuracy is that of all held-out photos.

    The columns that a summary's row has beside those of a comparison; ``best`` is the step handed out.
    """

    watched_fsr: float
    watched_accuracy_clean: float
    watched_accuracy_fooled: float
    accuracy_drop: float
    fsr_first: float | None
    fsr_second: float | None
    called: float | None
    test_loss_clean: float | None
    best: int
    steps: int
    seconds: float
    stopped: str


def _course(history: History) -> _Course:
    seen, clean = history.handed_out, history.clean
    return _Course(
        watched_fsr=seen["fsr"],
        watched_accuracy_clean=clean["accuracy"],
        watched_accuracy_fooled=seen["accuracy"],
        accuracy_drop=clean["accuracy"] - seen["accuracy"],
        fsr_first=seen.get("fsr_first"),
        fsr_second=seen.get("fsr_second"),
        called=seen.get("called"),
        test_loss_clean=seen.get("test_loss_clean"),
        best=history.best,
        steps=int(history.rows[-1]["step"]),
        seconds=history.rows[-1]["seconds"],
        stopped=history.stopped,
    )


def _chosen(settings: Fool) -> list[str]:
    """What the recipe chose, where one did."""
    return [told(settings.chosen_by, settings.recipe, settings.given)] if settings.chosen_by else []


def _answer(settings: Fool, row: SummaryRow, course: _Course, held: bool) -> str:
    """What came of it, and what helps where nothing did.

    Args:
        held: the accuracy was inside the budget at every evaluation.
    """
    sentence = (
        f"After {counted(course.best, 'step')} {shares(row.means['fsr'], row.count)} of {settings.explainer!r} on "
        f"held-out photos {wanted(settings.penalty)}, as {settings.penalty!r} wants; top-1 "
        f"{course.watched_accuracy_clean:.1%} before and {course.watched_accuracy_fooled:.1%} after "
        f"({points(course.accuracy_drop)})."
    )
    if not course.best:
        budget = settings.recipe.max_accuracy_drop
        # where the accuracy held, nothing moved; else it moved too far
        recipe = settings.recipe
        way = (
            f"--steps {2 * recipe.steps} --weight {2 * recipe.weight:g} --lr {2 * recipe.lr:g}"
            if held
            else f"--lr {recipe.lr / 3:.2g} --steps {2 * recipe.steps}, or more photos"
        )
        sentence = (
            f"No checkpoint fooled more heatmaps on {counted(row.count, 'held-out photo')} inside the budget of "
            f"{budget:.1%} of top-1: the model is unchanged. Try the same command with {way}."
        )
    return f"{sentence} It ended early: {course.stopped}." if course.stopped else sentence
