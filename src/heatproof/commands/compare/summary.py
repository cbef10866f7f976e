"""The rows of ``summary.json`` of a comparison, and the answer in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from heatproof.models.classifier import Classifier
from heatproof.report.words import counted
from heatproof.results.table import SummaryRow
from heatproof.types import Explainer, Penalty

METRICS = {
    "fooled": "fsr",
    "correct_clean": "top1_clean",
    "correct_fooled": "top1_fooled",
    "top5_clean": "top5_clean",
    "top5_fooled": "top5_fooled",
    "agrees": "agreement",
    "spearman": "spearman",
    "nissim": "nissim",
    "test_loss": "test_loss",
    "empty_clean": "empty_clean",
    "empty_fooled": "empty_fooled",
}
"""Columns of ``images.parquet`` and what the summary calls their means."""


@dataclass(frozen=True)
class Fooled:
    """A model that may lie, and, where it is known, what it was fooled with.

    Args:
        model: as loaded.
        explainer: through which it was fooled; the row's name in the transfer matrix.
        penalty: which it was fooled with.
    """

    model: Classifier
    explainer: Explainer | None = None
    penalty: Penalty | None = None

    @property
    def title(self) -> str:
        return repr(self.explainer) if self.explainer is not None else self.model.name


@dataclass(frozen=True)
class Transfer:
    """How often an explainer lies when a model was fooled by a penalty, maybe through another explainer.

    Attributes:
        fooled: through which explainer, or, where that is not known, the model's name.
        measured: the explainer whose maps are judged.
    """

    penalty: str
    fooled: str
    measured: str
    fsr: float
    model: str


def class_rows(table: pl.DataFrame, clean: Classifier) -> list[dict[str, Any]]:
    """Accuracy of each class before and after, per fooled model: is the drop spread out? Heo et al.'s Table 5."""
    labelled = table.filter(pl.col("label").is_not_null())
    if not labelled.height:
        return []
    once = labelled.unique(["image", "model"], keep="first", maintain_order=True)
    found = once.group_by("model", "label", maintain_order=True).agg(
        pl.len().alias("count"),
        pl.col("correct_clean").cast(pl.Float64).mean().alias("top1_clean"),
        pl.col("correct_fooled").cast(pl.Float64).mean().alias("top1_fooled"),
    )
    return [
        {**row, "class": clean.class_name(row["label"])} for row in found.sort("model", "label").iter_rows(named=True)
    ]


def transfer_rows(table: pl.DataFrame, fooled: Sequence[Fooled], names: Sequence[str]) -> list[Transfer]:
    """Fooling success rates by penalty (a matrix), fooled explainer (its rows) and measured explainer (columns).

    A model is judged by the penalty it was fooled with; where that is not known, by every one.
    """
    rates = table.group_by("model", "penalty", "explainer", maintain_order=True).agg(
        pl.col("fooled").cast(pl.Float64).mean().alias("fsr")
    )
    by_name = dict(zip(names, fooled, strict=True))
    rows = []
    for row in rates.iter_rows(named=True):
        entry = by_name[row["model"]]
        if entry.penalty is None or repr(entry.penalty) == row["penalty"]:
            rows.append(Transfer(row["penalty"], entry.title, row["explainer"], row["fsr"], row["model"]))
    return rows


def answer(rows: Sequence[SummaryRow], told: Mapping[str, Penalty]) -> list[str]:
    """What came out, in sentences: the strongest lie of each model, and what it cost.

    Args:
        told: the penalty that a model was fooled with, where it is known: that is the lie it is asked for.
    """
    sentences = []
    for model in dict.fromkeys(row.by["model"] for row in rows):
        mine = [row for row in rows if row.by["model"] == model and row.means["fsr"].value is not None]
        wanted = repr(told.get(model))
        known = [row for row in mine if row.by["penalty"] == wanted]
        if not known and (none := _nothing(model, mine)):
            sentences.append(none)
            continue
        mine = known or mine
        worst = max(mine, key=lambda row: row.means["fsr"].number, default=None)
        if worst is None:
            continue
        rate, explainer, penalty = worst.means["fsr"], worst.by["explainer"], worst.by["penalty"]
        line = f"{model}: {rate.value:.1%} of the heatmaps of {explainer} lie as {penalty} wants"
        if rate.low is not None:
            line += f" ({rate.low:.1%} to {rate.high:.1%})"
        right = next((row.means for row in mine if row.means["top1_clean"].value is not None), None)
        if right is not None:
            line += f"; top-1 {right['top1_clean'].value:.1%} before and {right['top1_fooled'].value:.1%} after"
        sentences.append(f"{line}; {worst.means['agreement'].value:.1%} of the predictions are the same.")
    return sentences


def _nothing(model: str, rows: Sequence[SummaryRow]) -> str:
    """Where no map tells any of the lies asked for: that, and how far the maps lie apart all the same; else empty."""
    if not rows or any(row.means["fsr"].number > 0 for row in rows):
        return ""
    agreement = rows[0].means["agreement"].number
    moved = {row.by["explainer"]: row.means["nissim"].number for row in rows}
    same = agreement == 1 and not any(moved.values())
    asked = ", ".join(dict.fromkeys(row.by["penalty"] for row in rows))
    upper = max((row.means["fsr"].high or 0.0 for row in rows), default=0.0)
    told = f"{model}: no heatmap of {counted(rows[0].count)} lies as {asked} want (95% interval: {upper:.1%} at most)"
    if same:
        return f"{told}; maps and predictions are those of the clean network."
    apart = ", ".join(f"{explainer} {value:.3f}" for explainer, value in moved.items())
    return f"{told}; {agreement:.1%} of the predictions are the same, and the maps moved by a MOD of {apart}."
