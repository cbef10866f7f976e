"""Make a network lie about what it looks at, into a run folder from which it can be loaded again."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from heatproof.commands.compare.figures import draw_compared
from heatproof.commands.compare.run import METRICS, SORT, class_rows, compared
from heatproof.data.batches import batches
from heatproof.data.sources import Source
from heatproof.errors import RunError
from heatproof.explainers.cam import GradCAM
from heatproof.manipulation.penalties import Location
from heatproof.models.classifier import Classifier, fingerprint
from heatproof.models.hardware import Hardware
from heatproof.models.layers import default_layer
from heatproof.report.plots import curves
from heatproof.results.run import Run
from heatproof.results.skipped import all_skipped
from heatproof.results.table import summarise
from heatproof.training.feeding import fine_tune, part_source, two_class
from heatproof.training.fine_tune import swapped_classes
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
    """

    penalty: Penalty = Location()
    explainer: Explainer = GradCAM()
    recipe: FineTune = FineTune()
    pairs: int = 1100
    pairs_held_out: int = 200
    shown: int = 4


def run_fool(
    asked: Fool,
    model: Classifier,
    name: str,
    source: Source,
    run: Run,
    *,
    held_out: Source | None = None,
    hardware: Hardware = Hardware(),
    advance: Callable[[dict[str, Any]], None] = lambda row: None,
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
    if held_out is None:
        source, held_out = part_source(source, asked.recipe.holdout, asked.recipe.seed)
    run.describe(
        model=[{"name": name, "sha256": fingerprint(model), "layer": default_layer(model)}],
        data={
            "name": source.name,
            "count": source.count,
            "sha256": source.fingerprint(),
            "held_out": {"name": held_out.name, "count": held_out.count, "sha256": held_out.fingerprint()},
        },
    )
    swap = swapped_classes(asked.penalty, model)
    clean = hardware.host(model)
    pairs: dict[str, Any] = {}
    if swap:
        pairs["fool_data"] = two_class(source, swap, model.input_size, asked.pairs, asked.recipe.seed)
        pairs["fool_held_out"] = two_class(held_out, swap, model.input_size, asked.pairs_held_out, asked.recipe.seed)
    fooled, history = fine_tune(
        clean,
        asked.explainer,
        asked.penalty,
        source,
        asked.recipe,
        held_out=held_out,
        checkpoint=RunCheckpoint(run, sources=(source, held_out)),
        scratch=run.folder / "scratch",
        advance=advance,
        **pairs,
    )
    if run.process:
        return {}
    fooled.name = run.folder.name
    run.write_tensors("model.safetensors", fooled.network.state_dict())
    run.write_parquet("history.parquet", history.frame())
    judged = pairs.get("fool_held_out", held_out)
    for number, batch in enumerate(batches(judged, model.input_size, 32)):
        rows = compared(clean, fooled, fooled.name, batch, [asked.explainer], [asked.penalty], hardware, swap)
        run.append_rows(f"judged-{number:06d}", rows)
    table = run.merge(SORT)
    row = {**summarise(table, ["model", "penalty", "explainer"], METRICS)[0], **_course(history)}
    summary = {
        "rows": [row],
        "classes": class_rows(table, clean),
        "skipped": all_skipped(run, source, held_out),
        "answer": [_answer(asked, row, history)],
    }
    draw_history(history, asked.penalty, run)
    draw_compared(_Shown((asked.explainer,), asked.shown), clean, {fooled.name: fooled}, held_out, run, hardware)
    run.write_json("summary.json", summary)
    _clear(run)
    return summary


@dataclass(frozen=True)
class _Shown:
    explainers: tuple[Explainer, ...]
    shown: int


@dataclass(frozen=True)
class RunCheckpoint:
    """A fine-tuning's state in a run folder, in one file that appears whole or not at all."""

    run: Run
    name: str = CHECKPOINT
    sources: Sequence[Source] = ()

    def load(self) -> dict[str, Any] | None:
        path = self.run.path(self.name)
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error}); delete it to begin anew") from error

    def save(self, state: dict[str, Any]) -> None:
        file = io.BytesIO()
        torch.save(state, file)
        self.run.write_bytes(self.name, file.getvalue())
        # a photo that was met in vain may not be met again
        all_skipped(self.run, *self.sources)


def draw_history(history: History, penalty: Any, run: Run) -> None:
    """``figures/loss.png`` and ``figures/rate.png``: Heo et al.'s Figures 7 to 10."""
    steps = [row for row in history.rows if row.get("loss") is not None]
    losses = {
        name: ([row["step"] for row in steps], [row[column] for row in steps])
        for name, column in (("kept function", "loss_kept"), ("penalty", "loss_fooled"))
    }
    curves(losses, run.path("figures/loss.png"), xlabel="step", ylabel="loss, mean over the batch (down)")
    looks = history.looks
    at = [row["step"] for row in looks]
    rates = {
        "fooling success rate": (at, [row["fsr"] for row in looks]),
        "top-1 accuracy": (at, [row["accuracy"] for row in looks]),
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
        {"test loss": (at, [row["test_loss"] for row in looks])},
        run.path("figures/test-loss.png"),
        xlabel="step",
        ylabel="mean test loss",
        references={"success from": low, "success to": high},
    )


def _course(history: History) -> dict[str, Any]:
    """What the watching saw at the weights that were handed out; the accuracy is that of all held-out photos."""
    seen, clean = history.handed_out, history.clean
    return {
        "watched_fsr": seen["fsr"],
        "watched_accuracy_clean": clean["accuracy"],
        "watched_accuracy_fooled": seen["accuracy"],
        "accuracy_drop": clean["accuracy"] - seen["accuracy"],
        "fsr_first": seen.get("fsr_first"),
        "fsr_second": seen.get("fsr_second"),
        "called": seen.get("called"),
        "test_loss_clean": seen.get("test_loss_clean"),
        "best": history.best,
        "steps": history.rows[-1]["step"],
        "seconds": history.rows[-1]["seconds"],
        "stopped": history.stopped,
    }


def _answer(asked: Fool, row: dict[str, Any], history: History) -> str:
    drop = 100 * row["accuracy_drop"]
    told = (
        f"After {row['best']} steps {row['fsr']:.1%} of the held-out heatmaps of {asked.explainer!r} lie as "
        f"{asked.penalty!r} wants; top-1 {row['watched_accuracy_clean']:.1%} before and "
        f"{row['watched_accuracy_fooled']:.1%} after ({drop:+.1f} points lost)."
    )
    if not history.best:
        told = (
            f"No checkpoint fooled more heatmaps inside the budget of {asked.recipe.max_accuracy_drop:.1%}: the model "
            "is unchanged. A smaller lr, more steps or more data help."
        )
    return f"{told} It ended early: {history.stopped}." if history.stopped else told


def _clear(run: Run) -> None:
    """The checkpoint and the kept activations have done their work."""
    run.path(CHECKPOINT).unlink(missing_ok=True)
    scratch = run.folder / "scratch"
    if scratch.is_dir():
        for path in scratch.iterdir():
            path.unlink()
        scratch.rmdir()
