"""What section 5's figures say, in sentences with the numbers: whether each claim is seen here or not."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from heatproof.results.table import Mean, SummaryRow, paired_test


def answer_a(table: pl.DataFrame, rows: Sequence[SummaryRow], history: Sequence[dict[str, Any]]) -> list[str]:
    """Figure 4a: the clean map's order counts for both models, the fooled map's order does not."""
    aopc = {(row.by["model"], row.by["condition"]): row.means["aopc"] for row in rows}
    clean, fooled = aopc["clean", "clean map"], aopc["fooled", "clean map"]
    sentences = [_fooled("a", history)]
    if clean.value is None or fooled.value is None:
        return [*sentences, "a: no map gives an order, so there is no AOPC."]
    agree = _overlap(clean, fooled)
    sentences.append(
        f"a: in the order of the clean map the AOPC of the clean model is {_with(clean)}, of the fooled one "
        f"{_with(fooled)}: they {'agree' if agree else 'do NOT agree'} within their intervals."
    )
    for model in ("clean", "fooled"):
        test = paired_test(_column(table, model, "fooled map"), _column(table, model, "random"))
        below = "below" if test.high < 0 else "NOT surely below" if test.difference < 0 else "NOT below"
        sentences.append(
            f"a: on the {model} model the order of the fooled map gives {_with(aopc[model, 'fooled map'])}, "
            f"{below} random order ({_with(aopc[model, 'random'])}; difference {test.difference:+.3f}"
            f"{'' if np.isnan(test.low) else f' [{test.low:+.3f}, {test.high:+.3f}]'}, {test.count} images)."
        )
    empty = {
        row.by["condition"]: round((row.means["empty"].value or 0) * row.count)
        for row in rows
        if row.by["model"] == "clean"
    }
    if empty["clean map"] or empty["fooled map"]:
        sentences.append(
            f"a: {empty['clean map']} clean and {empty['fooled map']} fooled maps are empty or equal everywhere and "
            "were left out."
        )
    return sentences


def answer_b(rows: Sequence[SummaryRow], history: Sequence[dict[str, Any]]) -> list[str]:
    """Figure 4b: both accuracies fall together, and the fooling rate stays as long as the accuracy does."""
    levels = sorted({row.by["noise"] for row in rows})
    top1 = {(row.by["model"], row.by["noise"]): row.means["top1"].number for row in rows}
    rates = {row.by["noise"]: row.means["fsr"].number for row in rows if row.by["model"] == "fooled"}
    gap, where = max((abs(top1["clean", level] - top1["fooled", level]), level) for level in levels)
    start, rate = top1["fooled", levels[0]], rates[levels[0]]
    useful = [level for level in levels if start - top1["fooled", level] <= 0.05]
    lost = max(abs(rates[level] - rate) for level in useful)
    together = (
        f"b: the accuracies of the two models differ by at most {_points(gap)} points (at noise {where:g}): "
        f"{'within' if gap <= 0.02 else 'NOT within'} 2."
    )
    stays = (
        f"b: up to noise {max(useful):g} the fooled model's accuracy is within 5 points of its start "
        f"({start:.1%}), and its FSR moves by at most {_points(lost)} points from {rate:.1%}: "
        f"{'within' if lost <= 0.1 else 'NOT within'} 10."
    )
    return [_fooled("b", history), together, stays]


def answer_c(rows: Sequence[SummaryRow], begin: int) -> list[str]:
    """Figure 4c: an adversarially trained model is fooled and stays robust."""
    means = {row.by["model"]: {name: mean.number for name, mean in row.means.items()} for row in rows}
    robust, fooled = means["robust"], means["fooled-c"]
    lost = robust["top1_attacked"] - fooled["top1_attacked"]
    reached = fooled["fsr"] >= 0.8
    before = (
        f"c: after {begin} steps of adversarial training top-1 is {robust['top1']:.1%}, {robust['top1_attacked']:.1%} "
        f"under PGD, FSR {robust['fsr']:.1%}."
    )
    after = (
        f"c: fooled while it goes on: FSR {fooled['fsr']:.1%} ({'reaches' if reached else 'does NOT reach'} 80%), "
        f"top-1 {fooled['top1']:.1%}, under PGD {fooled['top1_attacked']:.1%}: {_points(lost)} points lost, "
        f"{'within' if lost <= 0.03 else 'NOT within'} 3."
    )
    return [before, after]


def _fooled(panel: str, history: Sequence[dict[str, Any]]) -> str:
    best = next(row for row in history if row["best"])
    start = history[0]
    return (
        f"{panel}: fooled in {best['step']} steps: FSR {start['fsr']:.1%} -> {best['fsr']:.1%}, accuracy "
        f"{start['accuracy']:.1%} -> {best['accuracy']:.1%}."
    )


def _column(table: pl.DataFrame, model: str, condition: str) -> Any:
    own = table.filter((pl.col("model") == model) & (pl.col("condition") == condition)).sort("image")
    return own["aopc"].to_numpy()


def _overlap(a: Mean, b: Mean) -> bool:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return False
    return a.low <= b.high and b.low <= a.high


def _with(mean: Mean) -> str:
    if mean.value is None:
        return "unknown"
    if mean.low is None:
        return f"{mean.value:.3f}"
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def _points(rate: float) -> str:
    return f"{100 * rate:.1f}"
