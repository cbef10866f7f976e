"""What an evaluation found, in sentences; a tie is told as a tie, and what cannot be told is said."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from heatproof.commands.evaluate.measure import Evaluate
from heatproof.commands.evaluate.summary import of_maps
from heatproof.commands.photos import too_few
from heatproof.explainers.random_map import RandomMap
from heatproof.metrics.evaluation import Column, Question
from heatproof.metrics.randomisation import Randomisation
from heatproof.report.words import measured
from heatproof.results.table import FEWEST_IMAGES, Mean, PairedTest, SummaryRow, interval, paired_test

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
        means: of each of them, with its interval.
        behind: of each but the first, how far it lies behind the first on the same photos, positive is worse.
        unknown: explainers without enough values.
        count: photos.
    """

    column: Column
    order: list[str]
    means: list[Mean]
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
    if shared.sum() < FEWEST_IMAGES:
        return Ranking(column, [], [], [], list(explainers), int(shared.sum()))
    sign = -1 if column.better == "down" else 1
    means = {name: _mean(values[name][shared]) for name in known}
    order = sorted(known, key=lambda name: -sign * means[name].number)
    first = sign * values[order[0]][shared]
    behind = [paired_test(first, sign * values[name][shared]) for name in order[1:]]
    return Ranking(column, order, [means[name] for name in order], behind, unknown, int(shared.sum()))


def _mean(values: NDArray[np.float64]) -> Mean:
    found = interval(values)
    return Mean(found.value, found.low, found.high, 0)


def _told(column: Column) -> str:
    """A metric with what it measures and which way is better."""
    way = "lower" if column.better == "down" else "higher"
    return f"{column.name} ({column.meaning}; {way} is better)" if column.meaning else column.name


def _short(mean: Mean) -> str:
    """The value alone, with the digits that the table shows."""
    return measured(mean).split()[0]


def _best(words: str, ranking: Ranking) -> str:
    name, by = ranking.column.name, _told(ranking.column)
    if not ranking.order:
        return f"Cannot tell which explainer is {words}: too few photos on which every map has a value of {name}."
    shown = [f"{explainer} ({_short(mean)})" for explainer, mean in zip(ranking.order, ranking.means, strict=True)]
    without = f" {' and '.join(ranking.unknown)} cannot be told: too few maps have a value." if ranking.unknown else ""
    if not ranking.behind:
        return f"Only {shown[0]} can be measured by {by}.{without}"
    if ranking.tied:
        tied = [text for text, explainer in zip(shown, ranking.order, strict=True) if explainer in ranking.tied]
        worse = [text for text in shown[1:] if text not in tied]
        test = ranking.behind[ranking.order.index(ranking.tied[0]) - 1]
        below = f"; {_listed(worse)} behind" if worse else ""
        return (
            f"Cannot tell which explainer is {words}, by {by}: {shown[0]} and {_listed(tied)} are tied (apart "
            f"by {_span(test)} on the same {ranking.count} photos){below}.{without}"
        )
    return (
        f"{shown[0]} is {words} here, by {by}: {shown[1]} is {_span(ranking.behind[0])} behind on the same "
        f"{ranking.count} photos{f', then {_listed(shown[2:])}' if shown[2:] else ''}.{without}"
    )


def _others(rankings: Sequence[Ranking]) -> list[str]:
    """Whether the question's other metrics put the same explainer first, or point another way."""
    first, rest = rankings[0], [ranking for ranking in rankings[1:] if ranking.behind]
    if not first.behind or not rest:
        return []
    leads = [ranking.order[0] for ranking in (first, *rest) if not ranking.tied]
    heading = "The metrics disagree" if len(set(leads)) > 1 else "By the other metrics"
    clauses = []
    for ranking in rest:
        best, second = (f"{ranking.order[n]} ({_short(ranking.means[n])})" for n in (0, 1))
        by = _told(ranking.column)
        if ranking.tied:
            other = "" if ranking.order[0] == first.order[0] else ", pointing the other way"
            clauses.append(f"{best} and {second} are tied{other} by {by}")
        else:
            clauses.append(f"{best} before {second} by {by}")
    return [f"{heading}: {'; '.join(clauses)}."]


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
    return f"its AOPC less that of a random order is {_span(test)}: the map {verdict}."


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
    if value is not None and low is None and not likeness.missing:
        return f"cannot tell whether it passes the randomisation test: {too_few(last.count)}."
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
        f"{verdict}: with {what} drawn anew the map's rank correlation with the true one is "
        f"{measured(likeness)} (1: the same map; the line is drawn at {STAYS})."
    )


def _span(test: PairedTest) -> str:
    return measured(Mean(test.difference, test.low, test.high, 0))


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
