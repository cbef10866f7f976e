"""What an evaluation found, in sentences; a tie is told as a tie, and what cannot be told is said."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from heatproof.commands.evaluate.measure import Evaluate
from heatproof.commands.evaluate.summary import of_maps
from heatproof.explainers.random_map import RandomMap
from heatproof.metrics.evaluation import Column, Question
from heatproof.metrics.randomisation import Randomisation
from heatproof.results.table import PairedTest, SummaryRow, paired_test

STAYS = 0.5
"""Rank correlation of absolute maps above which a map is said to stay when the weights are drawn anew [ours]."""
FEWEST_KNOWN = 0.5
"""Share of photos that must have a value before a sentence is made of them [ours]."""
_LIKENESS = "spearman_absolute"
BEST: dict[Question, str] = {
    "faithfulness": "the most faithful",
    "robustness": "the steadiest when the photo hardly changes",
    "localisation": "the best at pointing at the annotated objects",
}


@dataclass(frozen=True)
class Ranking:
    """Explainers by one column, on the photos on which all of them have a value.

    Attributes:
        order: the best first.
        means: of each of them.
        behind: of each but the first, how far it lies behind the first on the same photos, positive is worse.
        unknown: explainers without enough values.
        count: photos.
    """

    column: Column
    order: list[str]
    means: list[float]
    behind: list[PairedTest]
    unknown: list[str]
    count: int

    @property
    def tied(self) -> list[str]:
        """Explainers that cannot be told from the first: the interval of the difference holds 0."""
        return [name for name, test in zip(self.order[1:], self.behind, strict=True) if not test.low > 0]


def answer(settings: Evaluate, table: pl.DataFrame, rows: Sequence[SummaryRow]) -> list[str]:
    """Which explainer is most faithful, steadiest and points best; which fails the randomisation test; empty maps."""
    maps = of_maps(settings, table)
    explainers = list(map(repr, settings.explainers))
    sentences = []
    if len(explainers) > 1:
        for question, words in BEST.items():
            columns = [c for m in settings.plain if m.question == question for c in m.columns if c.better != "neither"]
            rankings = [rank(maps, column, explainers) for column in columns]
            if rankings:
                sentences += [_best(words, rankings[0]), *_others(rankings)]
    for made, explainer in zip(settings.explainers, explainers, strict=True):
        own = maps.filter(pl.col("explainer") == explainer)
        # a random map is chance itself
        chance = "" if isinstance(made, RandomMap) else _chance(own)
        sentences += [
            f"{explainer}: {line}" for line in (_empty(own), chance, _stays(settings, explainer, rows)) if line
        ]
    return sentences


def rank(maps: pl.DataFrame, column: Column, explainers: Sequence[str]) -> Ranking:
    """Explainers by a column; those with a value on fewer than :data:`FEWEST_KNOWN` of the photos are left out."""
    wide = maps.pivot("explainer", index="image", values=column.name).sort("image")
    values = {name: wide[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in explainers}
    known = [name for name in explainers if np.isfinite(values[name]).mean() >= FEWEST_KNOWN]
    unknown = [name for name in explainers if name not in known]
    shared = np.isfinite(np.stack([values[name] for name in known])).all(0) if known else np.zeros(0, bool)
    if shared.sum() < 2:
        return Ranking(column, [], [], [], list(explainers), int(shared.sum()))
    sign = -1 if column.better == "down" else 1
    means = {name: float(values[name][shared].mean()) for name in known}
    order = sorted(known, key=lambda name: -sign * means[name])
    first = sign * values[order[0]][shared]
    behind = [paired_test(first, sign * values[name][shared]) for name in order[1:]]
    return Ranking(column, order, [means[name] for name in order], behind, unknown, int(shared.sum()))


def _best(words: str, ranking: Ranking) -> str:
    name = ranking.column.name
    if not ranking.order:
        return f"Cannot tell which explainer is {words}: too few photos on which every map has a value of {name}."
    shown = [f"{explainer} ({mean:.3f})" for explainer, mean in zip(ranking.order, ranking.means, strict=True)]
    without = f" {' and '.join(ranking.unknown)} cannot be told: too few maps have a value." if ranking.unknown else ""
    if not ranking.behind:
        return f"Only {shown[0]} can be measured by {name}.{without}"
    if ranking.tied:
        tied = [text for text, explainer in zip(shown, ranking.order, strict=True) if explainer in ranking.tied]
        worse = [text for text in shown[1:] if text not in tied]
        test = ranking.behind[ranking.order.index(ranking.tied[0]) - 1]
        below = f"; {_listed(worse)} behind" if worse else ""
        return (
            f"Cannot tell which explainer is {words}, by {name}: {shown[0]} and {_listed(tied)} are tied "
            f"(apart by {_span(test)} on the same {ranking.count} photos){below}.{without}"
        )
    return (
        f"{shown[0]} is {words} here, by {name}: {shown[1]} is {_span(ranking.behind[0])} behind on the same "
        f"{ranking.count} photos{f', then {_listed(shown[2:])}' if shown[2:] else ''}.{without}"
    )


def _others(rankings: Sequence[Ranking]) -> list[str]:
    """Whether the question's other metrics put the same explainer first."""
    first, rest = rankings[0], rankings[1:]
    if not first.order or first.tied or not rest:
        return []
    same = [r.column.name for r in rest if r.order[:1] == first.order[:1] and not r.tied]
    tied = [r.column.name for r in rest if r.tied or not r.order]
    certain = [r for r in rest if r.order and not r.tied]
    other = [f"{r.order[0]} by {r.column.name}" for r in certain if r.order[0] != first.order[0]]
    clauses = [f"the same by {_listed(same)}"] if same else []
    clauses += other
    clauses += [f"a tie by {_listed(tied)}"] if tied else []
    return [f"By the other metrics: {'; '.join(clauses)}."]


def _empty(own: pl.DataFrame) -> str:
    empty = int(own["empty"].sum())
    if not empty:
        return ""
    return (
        f"{empty} of {own.height} maps are empty or equal everywhere; they give no order, and their values are missing."
    )


def _chance(own: pl.DataFrame) -> str:
    """Whether the map's order is better than a random one."""
    if not {"aopc", "aopc_random"} <= set(own.columns) or own["empty"].all():
        return ""
    test = paired_test(own["aopc"].to_numpy(), own["aopc_random"].to_numpy())
    if np.isnan(test.low):
        return "too few photos to tell whether the map is more faithful than chance."
    verdict = "cannot be told from chance"
    if test.low > 0:
        verdict = "is more faithful than chance"
    elif test.high < 0:
        verdict = "is LESS faithful than chance"
    far = f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]"
    return f"AOPC lies {far} from that of a random order: the map {verdict}."


def _stays(settings: Evaluate, explainer: str, rows: Sequence[SummaryRow]) -> str:
    """Whether the map stays when the weights are drawn anew: all of the blocks, or the one that moves it most."""
    test = next((metric for metric in settings.metrics if isinstance(metric, Randomisation)), None)
    drawn = [row for row in rows if row.by.get("randomised") and row.by["explainer"] == explainer]
    if test is None or not drawn:
        return ""
    known = [row for row in drawn if row.means[_LIKENESS].value is not None]
    last = (
        drawn[-1]
        if test.mode == "cascading"
        else min(known, key=lambda row: row.means[_LIKENESS].number, default=drawn[-1])
    )
    likeness, block = last.means[_LIKENESS], last.by["randomised"]
    value, low, high = likeness.value, likeness.low, likeness.high
    what = f"everything down to {block}" if test.mode == "cascading" else block
    if value is None or low is None or high is None or likeness.missing > (1 - FEWEST_KNOWN) * last.rows:
        return (
            f"cannot tell whether it passes the randomisation test: with {what} drawn anew {likeness.missing} of "
            f"{last.rows} pairs of maps have no rank correlation, since one of them is empty or equal everywhere."
        )
    verdict = "cannot tell whether it passes the randomisation test"
    if low > STAYS:
        verdict = "FAILS the randomisation test, it hardly depends on the weights"
    elif high < STAYS:
        verdict = "passes the randomisation test"
    return (
        f"{verdict}: with {what} drawn anew the map's rank correlation with the true one is {value:.2f} "
        f"[{low:.2f}, {high:.2f}] (1: the same map; the line is drawn at {STAYS})."
    )


def _span(test: PairedTest) -> str:
    return f"{test.difference:.3f} [{test.low:.3f}, {test.high:.3f}]"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
