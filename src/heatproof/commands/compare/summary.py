"""The rows of ``summary.json`` of a comparison, and the answer in words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from heatproof.commands.wanted import wanted
from heatproof.models.classifier import Classifier
from heatproof.report.payload import MOVED
from heatproof.report.words import counted, measured
from heatproof.results.table import Mean, SummaryRow
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
    "flat_clean": "flat_clean",
    "flat_fooled": "flat_fooled",
}
"""Columns of ``images.parquet`` and what the summary calls their means."""
UNKNOWN = Mean(None, None, None, 0)


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
        fsr: NaN where no map shows a place.
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
        pl.col("fooled").cast(pl.Float64).mean().fill_null(float("nan")).alias("fsr")
    )
    by_name = dict(zip(names, fooled, strict=True))
    rows = []
    for row in rates.iter_rows(named=True):
        entry = by_name[row["model"]]
        if entry.penalty is None or repr(entry.penalty) == row["penalty"]:
            rows.append(Transfer(row["penalty"], entry.title, row["explainer"], row["fsr"], row["model"]))
    return rows


def answer(rows: Sequence[SummaryRow], told: Mapping[str, Penalty], asked: Sequence[Penalty] = ()) -> list[str]:
    """Whether the heatmaps still show the same, in sentences: the strongest lie of each model, and what it cost.

    Args:
        told: the penalty that a model was fooled with, where it is known: that is the lie it is asked for.
        asked: the penalties, for words.
    """
    words = {repr(penalty): wanted(penalty) for penalty in (*asked, *told.values())}
    sentences = []
    for model in dict.fromkeys(row.by["model"] for row in rows):
        every = [row for row in rows if row.by["model"] == model]
        blank = list(dict.fromkeys(row.by["explainer"] for row in every if _is_flat(row) or _is_unseen(row)))
        # of an explainer that shows no place nothing can be said, unless there is no other
        rated = [row for row in every if row.means["fsr"].value is not None]
        mine = [row for row in rated if row.by["explainer"] not in blank] or rated
        known = [row for row in mine if row.by["penalty"] == repr(told.get(model))]
        if mine:
            sentences.append(_compared(model, known or mine, words) if known or _lied(mine) else _nothing(model, mine))
        elif blank:
            sentences.append(f"{model}: whether the heatmaps still show the same cannot be told. {kept(*every)}")
        flat = [row for row in every if row.by["explainer"] in blank]
        sentences += [_blank(model, next(row for row in flat if row.by["explainer"] == name)) for name in blank]
    return sentences


def _compared(model: str, rows: Sequence[SummaryRow], words: Mapping[str, str]) -> str:
    worst = max(rows, key=lambda row: row.means["fsr"].number)
    rate, explainer, penalty = worst.means["fsr"], worst.by["explainer"], worst.by["penalty"]
    moved = worst.means.get("nissim", UNKNOWN)
    same = rate.number < 0.5 and not moved.number > MOVED
    lies = words.get(penalty, f"are as {penalty} wants them")
    verdict = "yes, they nearly do" if same else "no"
    line = f"{model}: do the heatmaps still show the same? {verdict}: {shares(rate, worst.count)} of {explainer} {lies}"
    if penalty in words:
        line += f", as {penalty} wants"
    if moved.value is not None:
        line += f", and they moved by {measured(moved)} on average (0 is the same map, 0.5 an unrelated one)"
    return f"{line}. {kept(*rows)}"


def shares(rate: Mean, count: int, thing: str = "heatmap") -> str:
    """A rate as a count, which needs no decimals, with its interval in whole per cents.

    >>> shares(Mean(1.0, 0.862, 1.0, 0), 24), shares(Mean(1.0, None, None, 0), 1)
    ('24 of 24 heatmaps (86% to 100%)', '1 of 1 heatmap')
    """
    known = count - rate.missing
    if rate.value is None:
        return f"none that can be told of {counted(count, thing)}"
    said = f"{round(rate.number * known)} of {counted(known, thing)}"
    return said if rate.low is None or rate.high is None else f"{said} ({rate.low:.0%} to {rate.high:.0%})"


def kept(*rows: SummaryRow) -> str:
    """Whether the predictions of these rows stayed, and the accuracy."""
    first = rows[0]
    agreement = first.means["agreement"]
    known = round(agreement.number * (first.count - agreement.missing)), first.count - agreement.missing
    line = f"The predictions are the same on {known[0]} of {counted(known[1])}"
    right = next((row.means for row in rows if row.means["top1_clean"].value is not None), None)
    if right is not None:
        line += f"; top-1 {right['top1_clean'].value:.1%} before and {right['top1_fooled'].value:.1%} after"
    return f"{line}."


def _lied(rows: Sequence[SummaryRow]) -> bool:
    return any(row.means["fsr"].number > 0 for row in rows)


def _nothing(model: str, rows: Sequence[SummaryRow]) -> str:
    """Where no map tells any of the lies asked for: that, and how far the maps lie apart all the same."""
    agreement = rows[0].means["agreement"].number
    moved = {row.by["explainer"]: row.means["nissim"] for row in rows}
    asked = ", ".join(dict.fromkeys(row.by["penalty"] for row in rows))
    upper = max((row.means["fsr"].high or 0.0 for row in rows), default=0.0)
    known = counted(rows[0].count - rows[0].means["fsr"].missing)
    said = f"no heatmap of {known} lies as {asked} want (95% interval: {upper:.0%} at most)"
    verdict = "no, though of the lies asked for none is told" if _any_moved(moved.values(), MOVED) else "yes"
    verdict = verdict if any(mean.value is not None for mean in moved.values()) else "cannot be told"
    told = f"{model}: do the heatmaps still show the same? {verdict}: {said}"
    if agreement == 1 and verdict == "yes" and not _any_moved(moved.values(), 0) and all(map(_same_order, rows)):
        return f"{told}; maps and predictions are those of the clean network."
    apart = ", ".join(f"{explainer} {measured(mean)}" for explainer, mean in moved.items() if mean.value is not None)
    far = f"the maps moved by a mean NISSIM of {apart}" if apart else "how far the maps moved is not known"
    return f"{told}; {far}. {kept(*rows)}"


def _any_moved(means: Iterable[Mean], above: float) -> bool:
    return any(mean.number > above for mean in means)


def _is_flat(row: SummaryRow) -> bool:
    """Whether the clean and the other model's maps are the same in every cell on most photos."""
    flat = [row.means.get(name, UNKNOWN).number for name in ("flat_clean", "flat_fooled")]
    return min(flat) > 0.5


def _is_unseen(row: SummaryRow) -> bool:
    """Whether on most photos NISSIM, which drops what lies below zero, sees nothing of either map."""
    return 2 * row.means.get("nissim", UNKNOWN).missing > row.rows


def _same_order(row: SummaryRow) -> bool:
    """Whether no rank correlation says that the maps differ: it also sees what lies below zero."""
    likeness = row.means.get("spearman", UNKNOWN).value
    return likeness is None or likeness > 1 - 1e-6


def _blank(model: str, row: SummaryRow) -> str:
    if not _is_flat(row):
        likeness, missing = row.means.get("spearman", UNKNOWN), row.means["nissim"].missing
        order = "" if likeness.value is None else f"; their rank correlation is {measured(likeness)}"
        return (
            f"{model}: nothing in the maps of {row.by['explainer']} is positive on {missing} of {counted(row.rows)}, "
            "before and after: how far they moved cannot be told by NISSIM, which drops what lies below zero, and "
            f"whether they lie cannot be told either{order}."
        )
    flat = shares(replace(row.means["flat_clean"], low=None), row.count, "photo")
    return (
        f"{model}: {row.by['explainer']} has one value in all cells on {flat}, before and after: it shows no place "
        "there, and whether it lies cannot be told. Give it an earlier layer (--layer)."
    )
