"""From one value per image to means with intervals: the rows of ``summary.json``.

Intervals are percentile bootstrap intervals over images (Efron 1979), and of rates Wilson's (1927). They say how much
the mean would move had other images been drawn from the same source, and know nothing of other seeds, models or data.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from heatproof.errors import InputError, did_you_mean

LEVEL = 0.95
"""The share of bootstrap draws between the two ends of an interval."""
FEWEST_IMAGES = 6
"""Images without which a bootstrap interval is none. Its ends never leave the range of what was seen, and of n values
that lie symmetrically all are on one side of their mean with probability 2^(1 - n): of 5 that is 6%, more than an
interval of 95% may miss, and the signed-rank test cannot reach 5% either; of 6 it is 3%."""
_ELEMENTS = 1_000_000  # drawn at once; bounds the memory at about 30 MB

Statistic = Callable[..., Any]
"""``statistic(values, axis)`` takes images along ``axis`` away and yields one number per draw."""


class Interval(NamedTuple):
    """A value with its interval; ``low`` and ``high`` are NaN where fewer than :data:`FEWEST_IMAGES` were left."""

    value: float
    low: float
    high: float
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]


@dataclass(frozen=True)
class Mean:
    """The mean of a column over a group's rows, with its 95% interval.

    Attributes:
        value: None of no values.
        low: None of fewer than :data:`FEWEST_IMAGES` images, as is ``high``; a rate's is Wilson's, of any number.
        missing: rows that are null or NaN.
    """

    value: float | None
    low: float | None
    high: float | None
    missing: int

    @property
    def number(self) -> float:
        """``value`` to reckon with: NaN where there is none."""
        return np.nan if self.value is None else self.value

    def plain(self, name: str) -> dict[str, Any]:
        """As it is written: ``<name>``, ``<name>_low``, ``<name>_high`` and ``<name>_missing``."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high, f"{name}_missing": self.missing}


@dataclass(frozen=True)
class SummaryRow:
    """What a group of a table says, a row of ``summary.json``.

    Attributes:
        by: the columns that make the group, and the group's values.
        count: images.
        rows: of the table.
        means: by their names in the summary.
    """

    by: Mapping[str, Any]
    count: int
    rows: int
    means: Mapping[str, Mean]

    def plain(self) -> dict[str, Any]:
        """As ``summary.json`` holds it: the columns of the group, ``count``, ``rows``, and each mean's four columns.

        >>> SummaryRow({"model": "net"}, 2, 2, {"mod": Mean(0.5, 0.4, 0.6, 0)}).plain()
        {'model': 'net', 'count': 2, 'rows': 2, 'mod': 0.5, 'mod_low': 0.4, 'mod_high': 0.6, 'mod_missing': 0}
        """
        row = {**self.by, "count": self.count, "rows": self.rows}
        for name, mean in self.means.items():
            row |= mean.plain(name)
        return row


class PairedTest(NamedTuple):
    """The mean of ``a - b`` over the same images, its interval, and how surprising it is if nothing differed."""

    difference: float
    low: float
    high: float
    p_value: float
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]


def interval(
    values: ArrayLike,
    statistic: Literal["mean", "median", "std"] | Statistic = "mean",
    *,
    seed: int = 0,
    draws: int = 2000,
    level: float = LEVEL,
) -> Interval:
    """A statistic over images and its percentile bootstrap interval.

    Images are drawn with replacement, ``draws`` times; ``low`` and ``high`` are the (1 - level)/2 and (1 + level)/2
    quantiles of the statistic over the draws. Of fewer than :data:`FEWEST_IMAGES` there is none.

    **Source** Efron and Tibshirani 1993, chapter 13.
    **Range** that of the statistic.

    >>> interval([0.0, 1.0, 1.0, 0.0, 1.0]).value
    0.6

    Args:
        values: ``[images]``, or ``[images, ...]`` for a statistic of several numbers per image; images with a NaN in
            them are left out.
        statistic: a name, or a function ``(values, axis)`` that works along ``axis`` and in batches, for instance
            ``lambda v, axis: v.mean(axis).std(-1)`` for the deviation of several means.
        seed: of the draws; equal calls give equal numbers.
        draws: how often the images are drawn anew.
        level: the share of draws inside the interval.

    Raises:
        InputError: the statistic's name is unknown, or ``values`` has no axis of images.
    """
    if isinstance(statistic, str):
        named: dict[str, Statistic] = {"mean": np.mean, "median": np.median, "std": np.std}
        if statistic not in named:
            raise InputError(f"unknown statistic {statistic!r}: {did_you_mean(statistic, named)}")
        statistic = named[statistic]
    known = np.asarray(values, dtype=np.float64)
    if known.ndim == 0:
        raise InputError("expected a value per image, got a single number")
    known = known[~np.isnan(known).reshape(len(known), -1).any(1)] if known.size else known[:0]
    if len(known) == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    value = float(statistic(known, axis=0))
    if len(known) < FEWEST_IMAGES:
        return Interval(value, np.nan, np.nan, len(known))
    drawn = [np.asarray(statistic(known[chosen], axis=1)) for chosen in _draw(len(known), draws, seed, known[0].size)]
    low, high = np.quantile(np.concatenate(drawn), [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), len(known))


def mean_intervals(values: ArrayLike, *, seed: int = 0, draws: int = 2000) -> list[Interval]:
    """The mean of each column over images with its interval: :func:`interval` of every column, at once.

    Columns without a gap share their draws, as equal calls of :func:`interval` do.

    **Source** as :func:`interval`.
    **Range** that of the values.

    >>> [found.value for found in mean_intervals([[0.0, 4.0], [1.0, 6.0]])]
    [0.5, 5.0]

    Args:
        values: ``[images, columns]``.
        seed: of the draws.
        draws: how often the images are drawn anew.

    Raises:
        InputError: ``values`` has other axes.
    """
    known = np.asarray(values, dtype=np.float64)
    if known.ndim != 2:
        raise InputError(f"expected [images, columns], got {list(known.shape)}")
    gaps = np.asarray(np.isnan(known).any(0))
    if len(known) < FEWEST_IMAGES or gaps.all():
        return [interval(column, seed=seed, draws=draws) for column in known.T]
    whole = known[:, ~gaps]
    drawn = [_times(chosen, len(known)) @ whole / len(known) for chosen in _draw(len(known), draws, seed)]
    low, high = np.quantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    ends = zip(whole.mean(0).tolist(), low.tolist(), high.tolist(), strict=True)
    return [
        interval(column, seed=seed, draws=draws) if gap else Interval(*next(ends), len(known))
        for column, gap in zip(known.T, np.atleast_1d(gaps), strict=True)
    ]


def summarise(
    rows: pl.DataFrame,
    by: Sequence[str],
    metrics: Sequence[str] | Mapping[str, str],
    *,
    seed: int = 0,
    draws: int = 2000,
    cluster: str = "image",
) -> list[SummaryRow]:
    """Means with 95% intervals, a row per group.

    A group's numbers depend neither on the other groups nor on the order of the rows. Where an image has several rows
    in a group (several explained classes), whole images are drawn, since its rows are not independent. Boolean columns
    give rates in [0, 1] and get Wilson's interval (1927): the bootstrap can only draw what it saw, and would call a
    rate of 0 or 1 certain. Where an image has several rows, a rate strictly between is drawn like other means.

    Args:
        rows: one row per image and condition.
        by: the columns that make a group, in the order of the first rows.
        metrics: numeric or boolean columns; or a mapping from a column to its name in the summary.
        seed: of the draws.
        draws: how often images are drawn anew.
        cluster: the column that names the image; where it is missing each row is an image.

    Returns:
        A row per group; its :meth:`~SummaryRow.plain` is what ``summary.json`` holds. What cannot be said is None: a
        mean of no values, an interval of too few images (:data:`FEWEST_IMAGES`).

    Raises:
        InputError: a column does not exist or is not numeric.
    """
    names = dict(metrics) if isinstance(metrics, Mapping) else {name: name for name in metrics}
    for name in (*by, *names):
        if name not in rows.columns:
            raise InputError(f"the table has no column {name!r}: {did_you_mean(name, rows.columns)}")
    for name in names:
        if not (rows.schema[name].is_numeric() or rows.schema[name].base_type() in (pl.Boolean, pl.Null)):
            raise InputError(f"the metric {name!r} must be a number or true/false, got {rows.schema[name]}")
    groups = rows.group_by(list(by), maintain_order=True) if by else [((), rows)]
    return [
        _summarise_group(dict(zip(by, key, strict=True)), group, names, seed, draws, cluster) for key, group in groups
    ]


def _summarise_group(
    by: Mapping[str, Any], group: pl.DataFrame, names: Mapping[str, str], seed: int, draws: int, cluster: str
) -> SummaryRow:
    rates = {name for name in names if group.schema[name] == pl.Boolean}
    group = group.with_columns(pl.col(name).cast(pl.Float64).fill_nan(None).alias(name) for name in names)
    if cluster in group.columns:
        # sorted, so that the draws meet the same images whatever the order of the rows
        sums = group.group_by(cluster).agg(
            *(pl.col(name).sum().alias(f"sum {name}") for name in names),
            *(pl.col(name).count().alias(f"count {name}") for name in names),
        )
        sums = sums.sort(cluster)
    else:
        sums = group.select(
            *(pl.col(name).fill_null(0.0).alias(f"sum {name}") for name in names),
            *(pl.col(name).is_not_null().cast(pl.UInt32).alias(f"count {name}") for name in names),
        )
    totals = {name: sums[f"sum {name}"].to_numpy() for name in names}
    counts = {name: sums[f"count {name}"].to_numpy().astype(np.float64) for name in names}
    ends = _mean_intervals(totals, counts, seed, draws)
    means = {}
    for name, label in names.items():
        seen = counts[name].sum()
        low, high = ends[name]
        value = float(totals[name].sum() / seen) if seen else None
        images = int((counts[name] > 0).sum())
        if value is not None and name in rates and (seen == images or value in (0.0, 1.0)):
            low, high = wilson(round(value * images), images)
        means[label] = Mean(
            value,
            None if np.isnan(low) else low,
            None if np.isnan(high) else high,
            int(group[name].null_count()),
        )
    return SummaryRow(by, sums.height, group.height, means)


def wilson(hits: int, images: int) -> tuple[float, float]:
    """The 95% interval of a share of images.

    **Formula** (p + z^2/2n +- z sqrt(p(1 - p)/n + z^2/4n^2)) / (1 + z^2/n), p = hits / images and n = images.
    **Source** Wilson 1927.
    **Range** [0, 1].

    >>> [round(end, 4) for end in wilson(300, 300)]
    [0.9874, 1.0]
    """
    share, square = hits / images, NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2 / images
    reach = math.sqrt(square * (share * (1 - share) + square / 4))
    low, high = ((share + square / 2 + sign * reach) / (1 + square) for sign in (-1, 1))
    # of none and of all, rounding may leave the range
    return max(0.0, low) if hits else 0.0, min(1.0, high) if hits < images else 1.0


def _mean_intervals(
    totals: Mapping[str, NDArray[np.float64]], counts: Mapping[str, NDArray[np.float64]], seed: int, draws: int
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of ``sum(totals) / sum(counts)``, the same draws of images for every metric."""
    means: dict[str, list[NDArray[np.float64]]] = {name: [] for name in totals}
    # images without a value are taken out before drawing: metrics that miss equally many share their draws
    present = {name: np.flatnonzero(count) for name, count in counts.items()}
    for size in sorted({len(places) for places in present.values() if len(places) >= FEWEST_IMAGES}):
        sized = {
            name: (totals[name][places], counts[name][places])
            for name, places in present.items()
            if len(places) == size
        }
        for chosen in _draw(size, draws, seed):
            # how often each image is drawn says all that a mean needs, and is met in the images' order
            times = _times(chosen, size)
            for name, (total, count) in sized.items():
                rows = size if (count == 1).all() else np.einsum("di,i->d", times, count)
                means[name].append(np.einsum("di,i->d", times, total) / rows)
    ends = {}
    for name, drawn in means.items():
        if drawn:
            low, high = np.quantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            ends[name] = (float(low), float(high))
        else:
            ends[name] = (np.nan, np.nan)
    return ends


def paired_test(a: ArrayLike, b: ArrayLike, *, seed: int = 0, draws: int = 2000) -> PairedTest:
    """Whether the same images have other values under ``a`` than under ``b``.

    The mean of ``a - b`` with its bootstrap interval over images, and the two-sided p value of Wilcoxon's signed-rank
    test, Pratt's treatment of zeros. Pairs with a missing value are left out.

    **Source** Wilcoxon 1945, Pratt 1959 (``scipy.stats.wilcoxon``).
    **Range** p in [0, 1]; NaN without pairs, 1 where all pairs are equal.

    Raises:
        InputError: the two differ in length.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise InputError(f"expected two values per image, got {first.shape} and {second.shape}")
    differences = first - second
    differences = differences[~np.isnan(differences)]
    value, low, high, count = interval(differences, seed=seed, draws=draws)
    if count == 0:
        p_value = np.nan
    elif not differences.any():
        p_value = 1.0
    else:
        # scipy.stats loads slowly, and only this function needs it
        from scipy.stats import wilcoxon

        tested: Any = wilcoxon(differences, zero_method="pratt", method="approx", correction=True)
        p_value = float(tested.pvalue)
    return PairedTest(value, low, high, p_value, count)


def _times(chosen: NDArray[np.int32], images: int) -> NDArray[np.float64]:
    """How often each image is met in each draw, ``[draws, images]``."""
    return np.stack([np.bincount(draw, minlength=images) for draw in chosen]).astype(np.float64)


def _draw(images: int, draws: int, seed: int, width: int = 1):
    """Indices ``[draws, images]`` with replacement, in blocks that fit the memory."""
    generator = np.random.default_rng(seed)
    block = max(1, _ELEMENTS // (images * width))
    for begin in range(0, draws, block):
        yield generator.integers(0, images, size=(min(block, draws - begin), images), dtype=np.int32)
