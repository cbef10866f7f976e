"""The figures of the benchmark, and its answer in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heatproof.report.plots import curves
from heatproof.results.run import Run
from heatproof.studies.audit_benchmark.population import (
    Member,
)
from heatproof.studies.audit_benchmark.rates import FIVE, GROUPS, WITH, WITHOUT, roc


def draw(
    run: Run, everyone: Sequence[Member], found: Mapping[str, Mapping[str, Any]], rows: Sequence[dict[str, Any]]
) -> None:
    honest = [m for m in everyone if m.honest]
    lies = [m for m in everyone if m.lie in GROUPS[FIVE]]
    if not lies:
        return
    series = {}
    for number in ("score", "all_classes", "share", "frame", "likeness", "contrast", "mosaic", "mosaic_swap"):
        a, b = (
            np.array(
                [
                    own["score"] if number == "score" else own["deviations"].get(number) or 0.0
                    for m in part
                    for own in [found[m.name][WITHOUT]]
                ]
            )
            for part in (lies, honest)
        )
        series["verdict" if number == "score" else number] = roc(a, b)
    curves(
        series,
        run.path("figures/roc.png"),
        xlabel="honest networks called lying",
        ylabel="lying networks found",
        ylim=(0, 1.02),
        title="Heo's four foolings and Viering's edit",
    )
    tables = {"networks": f"AUC of networks, {WITHOUT}, by budget", "photos with a trigger": "trust by budget"}
    lines = {}
    for name, wanted in tables.items():
        own = [row for row in rows if row["table"] == wanted]
        budgets = sorted({row["budget"] for row in own})
        each = [[row["value"] for row in own if row["budget"] == budget] for budget in budgets]
        if budgets:
            lines[name] = (budgets, [float(np.mean(values)) for values in each])
    if lines:
        curves(lines, run.path("figures/budget.png"), xlabel="forward passes per photo", ylabel="AUC (mean)")


def answered(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    def value(table: str, lie: str, number: str) -> float:
        return next(r["value"] for r in rows if (r["table"], r["lie"], r["number"]) == (table, lie, number))

    group, sentences = FIVE, []
    for how in (WITHOUT, WITH):
        if not any(r["lie"] == group and r["table"] == f"AUC of networks, {how}" for r in rows):
            continue
        area = value(f"AUC of networks, {how}", group, "score")
        found, false = (value(f"called manipulated, {how}", lie, "verdict") for lie in (group, "honest"))
        line = f"{how.capitalize()}: {group}, AUC {area:.3f}; called manipulated {found:.0%} of them and {false:.0%}"
        sentences += [f"{line} of the honest networks."]
    photos = [r["value"] for r in rows if r["table"].startswith("photos with") and r["number"] == "trust"]
    if photos:
        sentences.append(
            f"Photos with a trigger against photos without, {len(photos)} backdoored networks: AUC "
            f"{np.mean(photos):.3f} on average, {min(photos):.3f} at worst."
        )
    return sentences
