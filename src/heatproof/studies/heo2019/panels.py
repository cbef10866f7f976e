"""The three panels of Heo et al.'s Figure 4: what each measures, part by part, and what is drawn of it.

Every measuring function returns the history of its fooling; every finishing one the summary's rows and sentences.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from safetensors.torch import load_file

from heatproof.attacks.gradient import PGD
from heatproof.data.batches import batches
from heatproof.data.sources import Source, part_source
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.lrp.propagation import LRP
from heatproof.manipulation.adversarial import train_adversarially
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.penalties import Location, TopK, for_relevance
from heatproof.metrics.faithfulness import AOPC
from heatproof.metrics.weight_noise import WeightNoise
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.report.plots import Curve, curve_of, curves, mean_curve
from heatproof.results.run import Run
from heatproof.results.table import SummaryRow, summarise
from heatproof.studies.heo2019.answers import answer_a, answer_b, answer_c
from heatproof.studies.heo2019.section5 import ORDERS, attacked_rows, made_once, removed, shaken_rows
from heatproof.training.adversarial import FreeTraining
from heatproof.training.data import feed_photos
from heatproof.training.settings import FineTune


def removal(study: Any, run: Run, clean: Classifier, train: Source, data: Source, hardware: Hardware, say: Any) -> Any:
    """Panel a: Top-k fooling through Grad-CAM, then six AOPC curves."""

    def tune(checkpoint: Any) -> Any:
        say(f"a: fooling {clean.name}, top-k through Grad-CAM")
        recipe = study.recipe("a")
        return fine_tune(clean, GradCAM(), TopK(), train, recipe, checkpoint=checkpoint)

    fooled, history = made_once(run, "fooled-a", clean, tune)
    metric = AOPC(study.region, study.regions, fill=study.fill, ragged=study.ragged, seed=study.seed)
    for number, batch in enumerate(batches(data, clean.preprocessing, study.part)):
        if run.has_part(f"a-{number:06d}"):
            continue
        rows, found = removed({"clean": clean, "fooled": fooled}, GradCAM(), batch, metric, hardware)
        run.write_tensors(f"curves/a-{number:06d}.safetensors", found)
        run.append_rows(f"a-{number:06d}", [{"panel": "a", "explainer": "GradCAM()", **row} for row in rows])
        say(f"a: {(number + 1) * study.part} images")
    return history


def noise(study: Any, run: Run, clean: Classifier, train: Source, data: Source, hardware: Hardware, say: Any) -> Any:
    """Panel b: Location fooling through LRP_T, then both models with noise on their weights."""
    explainer, penalty = LRP(layer="default"), for_relevance(Location())

    def tune(checkpoint: Any) -> Any:
        say(f"b: fooling {clean.name}, location through LRP_T")
        return fine_tune(clean, explainer, penalty, train, study.recipe("b"), checkpoint=checkpoint)

    fooled, history = made_once(run, "fooled-b", clean, tune)
    for name, model in (("clean", clean), ("fooled", fooled)):
        for shaken in WeightNoise(study.noise, study.draws, study.seed).shaken(model):
            part = f"b-{name}-{study.noise.index(shaken.level):03d}-{shaken.draw:03d}"
            if not run.has_part(part):
                photos = batches(data, clean.preprocessing, study.part)
                rows = shaken_rows(shaken, name, explainer, penalty, photos, hardware)
                run.append_rows(part, [{"panel": "b", "explainer": repr(explainer), **row} for row in rows])
        say(f"b: {name} model shaken")
    return history


def robustness(
    study: Any, run: Run, clean: Classifier, train: Source, data: Source, hardware: Hardware, say: Any
) -> Any:
    """Panel c: free adversarial training, then Location fooling through Grad-CAM while it goes on."""
    how = FreeTraining(study.epsilon, study.replays)
    judge = PGD(study.epsilon, study.judge_steps, keep="last", seed=study.seed)
    rest, aside = part_source(train, FineTune().holdout, study.seed)
    feed = feed_photos(rest, clean.preprocessing)
    # every look attacks them all, so they are few
    watched = feed_photos(replace(aside, positions=aside.positions[: study.judged]), clean.preprocessing)
    first = FineTune(
        steps=study.robust_steps,
        lr=study.robust_lr,
        weight=0.0,
        batch_size=study.batch_size,
        evaluate_every=study.evaluate_every,
        max_accuracy_drop=1.0,
        patience=0,
        seed=study.seed,
    )
    made, histories = clean, []
    for name in ("robust", "fooled-c"):
        recipe = first if name == "robust" else study.recipe("c")

        def tune(checkpoint: Any, model: Any = made, recipe: FineTune = recipe, name: str = name) -> Any:
            say(f"c: {name} model")
            return train_adversarially(
                model,
                GradCAM(),
                Location(),
                feed,
                how,
                recipe,
                judge=judge,
                held_out=watched,
                checkpoint=checkpoint,
            )

        made, rows = made_once(run, name, clean, tune)
        histories.append(rows)
        for number, batch in enumerate(batches(data, clean.preprocessing, study.part)):
            if not run.has_part(f"c-{name}-{number:06d}"):
                found = attacked_rows(made, name, GradCAM(), Location(), judge, batch, hardware)
                run.append_rows(
                    f"c-{name}-{number:06d}", [{"panel": "c", "explainer": "GradCAM()", **r} for r in found]
                )
    return histories


def finish_removal(table: pl.DataFrame, history: Any, run: Run) -> tuple[list[SummaryRow], list[str]]:
    """Panel a's rows, figure and sentences."""
    rows = summarise(table, ["panel", "model", "condition"], ["aopc", "empty"])
    parts = [load_file(path) for path in sorted(run.path("curves").glob("a-*.safetensors"))]
    series = {
        f"{model} model, {order}" + (" order" if order == "random" else " first"): mean_curve(
            np.concatenate([part[f"{model}|{order}"].numpy() for part in parts])
        )
        for order in ORDERS
        for model in ("clean", "fooled")
    }
    curves(
        series,
        run.path("figures/4a.png"),
        xlabel="regions removed",
        ylabel="fall of the class's probability",
        title="Heo et al. Figure 4a: regions removed by one map or the other",
    )
    return rows, answer_a(table, rows, history)


def finish_noise(table: pl.DataFrame, history: Any, run: Run) -> tuple[list[SummaryRow], list[str]]:
    """Panel b's rows, figure and sentences."""
    rows = summarise(table, ["panel", "model", "noise"], {"correct": "top1", "fooled": "fsr"})
    series, references = {}, {}
    for metric, label in (("top1", "top-1"), ("fsr", "FSR")):
        for model in ("clean", "fooled"):
            own = [row for row in rows if row.by["model"] == model]
            shaken = sorted((row for row in own if row.by["noise"] > 0), key=lambda row: row.by["noise"])
            series[f"{model} model, {label}"] = curve_of(
                [row.by["noise"] for row in shaken], [row.means[metric] for row in shaken]
            )
            references |= {
                f"fooled, no noise: {label}": row.means[metric].value
                for row in own
                if not row.by["noise"] and model == "fooled"
            }
    curves(
        series,
        run.path("figures/4b.png"),
        xlabel="noise on the weights, in deviations of each tensor",
        ylabel="rate",
        title="Heo et al. Figure 4b: noise on the weights",
        references=references,
        ylim=(0, 1.02),
        xlog=True,
    )
    return rows, answer_b(rows, history)


def finish_robustness(table: pl.DataFrame, histories: Sequence[Any], run: Run) -> tuple[list[SummaryRow], list[str]]:
    """Panel c's rows, figure and sentences."""
    names = {"correct": "top1", "correct_attacked": "top1_attacked", "fooled": "fsr"}
    rows = summarise(table, ["panel", "model"], names)
    first, second = ([row for row in rows_ if row.get("fsr_watched") is not None] for rows_ in histories)
    begin = first[-1]["step"]
    # the fooling starts from the best look of the training before it
    looks = [(row["step"], row) for row in first] + [(begin + row["step"], row) for row in second]
    series = {
        label: Curve([step for step, _ in looks], [row[key] for _, row in looks])
        for label, key in (
            ("top-1", "accuracy_clean"),
            ("top-1 under PGD", "accuracy_attacked"),
            ("FSR", "fsr_watched"),
        )
    }
    curves(
        series,
        run.path("figures/4c.png"),
        xlabel=f"step (fooled from step {begin} on)",
        ylabel="rate over the held-out images",
        title="Heo et al. Figure 4c: fooling under adversarial training",
        ylim=(0, 1.02),
    )
    return rows, answer_c(rows, begin)


PANELS: dict[str, Callable[..., Any]] = {"a": removal, "b": noise, "c": robustness}
FINISH: dict[str, Callable[..., Any]] = {"a": finish_removal, "b": finish_noise, "c": finish_robustness}
