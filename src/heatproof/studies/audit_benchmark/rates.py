"""How often the verdict is right, and how well each number parts lying networks from honest ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heatproof.commands.audit.questions import NUMBERS
from heatproof.commands.audit.verdict import HONEST, MANIPULATED, Thresholds, calibrate, conclude, judge, score
from heatproof.results.table import interval
from heatproof.studies.audit_benchmark.population import (
    BACKDOORS,
    EDITS,
    HEO,
    Member,
)

WITHOUT, WITH = "without a reference", "with a reference"
FIVE = "Heo's four and Viering's edit"
GROUPS = {FIVE: (*HEO, *EDITS)} | {lie: (lie,) for lie in (*HEO, *EDITS, *BACKDOORS)}
"""The lies whose networks are counted together."""


def calibrated(
    honest: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any], known: Mapping[str, float] = {}
) -> Thresholds:
    photos = [value for own in honest for value in own["trust"]]
    return calibrate([own["numbers"] for own in honest], photos, provenance, known)


def _judged(found: Mapping[str, Any], thresholds: Thresholds, *, reference: bool) -> tuple[str, float, list[str], Any]:
    checks = [
        judge(name, interval(found["values"].get(name) or [float("nan")]), thresholds)
        for name, about in NUMBERS.items()
        if reference or about.check != "reference"
    ]
    verdict, speaks = conclude(checks)
    deviations = {check.number: check.deviations for check in checks}
    return verdict, score(checks), [check.number for check in speaks], deviations


def _origin(member: Member) -> str:
    """Whose training a network comes of; the residual networks come trained, whatever the seed."""
    return member.family if member.family.startswith("resnet") else member.origin.name


def verdict_rates(
    everyone: Sequence[Member], found: dict[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Per number and for the verdict: AUC and rates, each network judged by thresholds of other origin."""
    table = _verdicts(everyone, found)
    honest = [m for m in everyone if m.honest]
    rows: list[dict[str, Any]] = []
    for how in (WITHOUT, WITH):
        clean = [found[m.name][how] for m in honest if how == WITHOUT or m.lie]
        if not clean:  # with a reference: there are no honest copies
            continue
        rates = [own["verdict"] == MANIPULATED for own in clean]
        rows.append(_row(f"called manipulated, {how}", "honest", "verdict", rates))
        doubts = [own["verdict"] != HONEST for own in clean]
        rows.append(_row(f"called doubtful or worse, {how}", "honest", "verdict", doubts))
        for group, lies in GROUPS.items():
            own = [found[m.name][how] for m in everyone if m.lie in lies]
            if own:
                rows += _group_rows(how, group, own, clean)
        own = [found[m.name][how] for m in everyone if m.lie in GROUPS[FIVE]]
        for number in NUMBERS:
            bad, good = ([v for o in part if (v := o["deviations"].get(number)) is not None] for part in (own, clean))
            if bad and good:
                rows.append(_auc_row(how, FIVE, number, bad, good))
    return rows, table


def _verdicts(everyone: Sequence[Member], found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per network and way of judging; into ``found`` go verdict, score and deviations."""
    table = []
    for origin in dict.fromkeys(map(_origin, everyone)):
        thresholds = calibrated([found[m.name] for m in everyone if m.honest and _origin(m) != origin], {})
        for member in everyone:
            if _origin(member) != origin:
                continue
            own = found[member.name]
            for how in (WITHOUT, WITH):
                verdict, worst, speaks, deviations = _judged(own, thresholds, reference=how == WITH)
                own[how] = {"verdict": verdict, "score": worst, "deviations": deviations}
                if "triggered" in own:
                    own[how]["triggered"] = _judged(own["triggered"], thresholds, reference=how == WITH)[0]
                row = {"image": f"{member.name} {how}", "model": member.name, "lie": member.lie or "as trained"}
                row |= {"honest": member.honest, "how": how, "verdict": verdict, "score": worst}
                row |= {"speaks": ", ".join(speaks), "fsr": own["made"].get("fsr")}
                table.append({**row, "accuracy": own["made"].get("accuracy"), **own["numbers"]})
    return table


def _group_rows(
    how: str, group: str, own: Sequence[Mapping[str, Any]], clean: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    rows = [_row(f"called manipulated, {how}", group, "verdict", [o["verdict"] == MANIPULATED for o in own])]
    called = [o["triggered"] == MANIPULATED for o in own if "triggered" in o]
    if called:
        rows.append(_row(f"called manipulated, photos with a trigger, {how}", group, "verdict", called))
    return [*rows, _auc_row(how, group, "score", [o["score"] for o in own], [o["score"] for o in clean])]


def _row(table: str, lie: str, number: str, hits: Sequence[bool]) -> dict[str, Any]:
    return {"table": table, "lie": lie, "number": number, "count": len(hits), "value": float(np.mean(hits))}


def _auc_row(how: str, lie: str, number: str, lies: Sequence[float], honest: Sequence[float]) -> dict[str, Any]:
    return {
        "table": f"AUC of networks, {how}",
        "lie": lie,
        "number": number,
        "count": len(lies) + len(honest),
        "value": auc(lies, honest),
    }


def auc(lies: Sequence[float] | np.ndarray, honest: Sequence[float] | np.ndarray) -> float:
    """Area under the ROC: how often a lie has the higher number, ties counting half.

    >>> auc([2.0, 3.0], [1.0, 2.0])
    0.875
    """
    from scipy.stats import mannwhitneyu  # loads slowly

    if not len(lies) or not len(honest):
        return float("nan")
    return float(mannwhitneyu(lies, honest, method="asymptotic").statistic) / (len(lies) * len(honest))


def roc(lies: np.ndarray, honest: np.ndarray) -> tuple[list[float], list[float]]:
    """False and true positive rates as the threshold falls.

    >>> roc(np.array([2.0]), np.array([1.0]))
    ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    """
    levels = sorted({*lies.tolist(), *honest.tolist()}, reverse=True)
    return [0.0, *(float((honest >= x).mean()) for x in levels)], [0.0, *(float((lies >= x).mean()) for x in levels)]
