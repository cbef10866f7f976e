"""From cells to the board: means over photos, ranks within a network, and how well the ranks are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from heatproof.report.plots import matrix
from heatproof.results.table import Interval, interval, wilson
from heatproof.studies.board.columns import BY_NAME, COLUMNS, KEPT, Column
from heatproof.studies.board.networks import NONE

ROW = ("network", "explainer", "defence", "settings")
"""What makes a row of the board."""
DECIDES = 0.9
"""A column decides where Kendall's tau of its ranks over the seeds is above this."""
FEWEST_ROWS = 3
"""Rows of a network that a column needs to be ranked."""


@dataclass(frozen=True)
class Known:
    """How well a column's ranks are known.

    Attributes:
        tau: Kendall's tau of the rows' order, mean over the pairs of seeds and the networks; NaN where there is one
            seed, or no network with three rows that differ.
        halves: the same of two halves of the photos, over all seeds: would other photos rank alike?
        rows: of the board that have a value.
    """

    column: Column
    tau: float
    halves: float
    rows: int

    @property
    def decides(self) -> bool:
        return self.column.judged and self.tau > DECIDES

    def sentence(self) -> str:
        """In words, with what the ranks of other photos would be."""
        if not self.column.judged:
            return "It is told and does not decide."
        if not self.rows:
            return "It was not measured."
        if np.isnan(self.tau):
            return "Its ranks could not be compared over seeds: it does not decide."
        verdict = "it decides" if self.decides else f"that is not above {DECIDES}, so it does not decide"
        other = "" if np.isnan(self.halves) else f" Between two halves of the photos it is {self.halves:.2f}."
        return f"Kendall's tau of its ranks over seeds is {self.tau:.2f}: {verdict}.{other}"


def kendall(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's tau-b of two lists of numbers: how many pairs both order alike, less those they order unlike.

    tau_b = (P - Q) / sqrt((P + Q + T_a)(P + Q + T_b)) with P, Q the pairs ordered alike and unlike, T_a, T_b those
    tied in one list alone.

    **Source** Kendall 1945 (``scipy.stats.kendalltau``). **Range** [-1, 1]; NaN where one list is all ties.

    >>> kendall([1, 2, 3, 4], [1, 2, 4, 3])
    0.6667
    """
    # scipy.stats loads slowly
    from scipy.stats import kendalltau

    first, second = np.asarray(a, float), np.asarray(b, float)
    known = ~(np.isnan(first) | np.isnan(second))
    if known.sum() < 2:
        return float("nan")
    found: Any = kendalltau(first[known], second[known])
    return round(float(found.statistic), 4)


def ranked(values: Sequence[float | None], column: Column) -> list[float | None]:
    """The rank of each value, 1 the best; ties share the mean of their ranks, and what is missing has none.

    >>> from heatproof.studies.board.columns import BY_NAME
    >>> ranked([0.5, 0.9, None, 0.5], BY_NAME["pgd"])
    [2.5, 1.0, None, 2.5]
    """
    sign = -1 if column.better == "up" else 1
    known = [sign * value for value in values if value is not None]
    ranks = [
        None if value is None else (sum(other < sign * value for other in known)
        + (sum(other == sign * value for other in known) + 1) / 2)
        for value in values
    ]  # fmt: skip
    return [None if rank is None else float(rank) for rank in ranks]


def filled(table: pl.DataFrame, seeds: Sequence[int]) -> pl.DataFrame:
    """Cells that no seed can change were measured once: they stand for every seed."""
    told = table.group_by([*ROW, "column"]).agg(pl.col("seed").n_unique().alias("count"))
    once = table.join(told.filter(pl.col("count") == 1), on=[*ROW, "column"], how="semi")
    more = [once.with_columns(seed=pl.lit(seed, pl.Int64)) for seed in seeds]
    several = table.join(told.filter(pl.col("count") > 1), on=[*ROW, "column"], how="semi")
    return pl.concat([several, *more]).sort([*ROW, "column", "seed", "image"])


def cells_of(table: pl.DataFrame) -> pl.DataFrame:
    """A row per network, row of the board, column and seed: the mean over photos, its interval, and the rank.

    Args:
        table: of one row per photo, as :func:`filled` hands it out.
    """
    found = list[dict[str, Any]]()
    for key, group in table.group_by([*ROW, "column", "seed"], maintain_order=True):
        value = _interval(_numbers(group["value"]), BY_NAME[str(key[len(ROW)])])
        found.append(
            {
                **dict(zip([*ROW, "column", "seed"], key, strict=True)),
                "value": _plain(value.value),
                "low": _plain(value.low),
                "high": _plain(value.high),
                "photos": value.count,
                **{name: group[name].mean() for name in KEPT},
            }
        )
    ranks: dict[int, float | None] = {}
    groups: dict[tuple[str, str, int], list[int]] = {}
    for place, row in enumerate(found):
        groups.setdefault((row["network"], row["column"], row["seed"]), []).append(place)
    for (_, name, _), places in groups.items():
        given = ranked([found[place]["value"] for place in places], BY_NAME[name])
        ranks |= dict(zip(places, given, strict=True))
    types: dict[str, Any] = {"value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "rank": pl.Float64}
    types |= dict.fromkeys(KEPT, pl.Float64)
    rows = [{**row, "rank": ranks[place]} for place, row in enumerate(found)]
    return pl.DataFrame(rows, schema_overrides=types, infer_schema_length=None)


def known(table: pl.DataFrame, cells: pl.DataFrame) -> list[Known]:
    """For each column how well its ranks are known."""
    found = []
    for column in COLUMNS:
        own = cells.filter(pl.col("column") == column.name, pl.col("value").is_not_null())
        photos = table.filter(pl.col("column") == column.name)
        taus, halves = list[float](), list[float]()
        for network in own["network"].unique(maintain_order=True).to_list():
            seeds = _by(own.filter(pl.col("network") == network), "seed", "value")
            if len(seeds) >= FEWEST_ROWS:
                taus += [kendall(seeds[:, i], seeds[:, j]) for i, j in combinations(range(seeds.shape[1]), 2)]
                halves.append(_halves(photos.filter(pl.col("network") == network)))
        found.append(Known(column, _mean(taus), _mean(halves), own.select(ROW).n_unique()))
    return found


def _halves(table: pl.DataFrame) -> float:
    """Kendall's tau of the rows' order by every other photo and by the rest."""
    names = {name: place % 2 for place, name in enumerate(sorted(table["image"].unique().to_list()))}
    if len(names) < 2:
        return float("nan")
    halved = table.with_columns(half=pl.col("image").replace_strict(names, return_dtype=pl.Int64))
    means = halved.group_by([*ROW, "half"]).agg(pl.col("value").fill_nan(None).mean()).sort([*ROW, "half"])
    both = _by(means, "half", "value")
    return kendall(both[:, 0], both[:, 1]) if both.shape == (len(both), 2) else float("nan")


def _by(table: pl.DataFrame, across: str, value: str) -> NDArray[np.float64]:
    """``[rows, across]`` of a value, NaN where it is missing."""
    wide = table.sort([*ROW, across]).pivot(across, index=ROW, values=value)
    return wide.drop(ROW).to_numpy().astype(np.float64).reshape(wide.height, -1)


def board(
    table: pl.DataFrame, cells: pl.DataFrame, knowledge: Sequence[Known], top1: Mapping[str, Mapping[str, float | None]]
) -> list[dict[str, Any]]:
    """The rows of the board, in each network from the best: each column's mean over photos and seeds, and interval.

    ``mean_rank`` is that over the columns that decide and the seeds [ours].

    Args:
        top1: accuracy of each row's network with its interval, by network, or by row where it brings its own.
    """
    deciding = [one.column.name for one in knowledge if one.decides]
    places = (
        cells.filter(pl.col("column").is_in(deciding))
        .group_by(ROW)
        .agg(pl.col("rank").mean().alias("place"))
        .rows_by_key(ROW, unique=True)
    )
    rows, measured = list[dict[str, Any]](), set(table["column"])
    for key, group in table.group_by(ROW, maintain_order=True):
        network, explainer, defence, text = key
        place = places.get(key)
        row: dict[str, Any] = {"network": network, "explainer": explainer, "defence": defence}
        row["mean_rank"] = None if place is None else place[0] if isinstance(place, tuple) else place
        for column in (column for column in COLUMNS if column.name in measured):
            # over the seeds first, so that a photo counts once
            own = group.filter(pl.col("column") == column.name).group_by("image").agg(pl.col("value").mean())
            if own.height:
                value = _interval(_numbers(own.sort("image")["value"]), column)
                # what a map costs is the same of every photo
                row |= _ends(column.name, *value[:3]) if column.group != "cost" else {column.name: _plain(value.value)}
            else:
                row |= {column.name: None}
        row |= top1.get(str(explainer)) or top1.get(str(network)) or {}
        rows.append({**row, "settings": text})
    order = {name: number for number, name in enumerate(dict.fromkeys(row["network"] for row in rows))}
    rows.sort(key=lambda row: (order[row["network"]], row["mean_rank"] is None, row["mean_rank"] or 0.0))
    return rows


def _interval(values: NDArray[np.float64], column: Column) -> Interval:
    """Over photos; a rate that is the same of every photo has Wilson's."""
    found = interval(values)
    if column.group == "fooled" and found.value in (0.0, 1.0):
        return found._replace(
            **dict(zip(("low", "high"), wilson(int(found.value) * found.count, found.count), strict=True))
        )
    return found


def wide(table: pl.DataFrame) -> pl.DataFrame:
    """A row per photo, row of the board and seed, with a column for each of the board's: ``images.parquet``."""
    names = [column.name for column in COLUMNS if column.name in table["column"].unique().to_list()]
    found = table.pivot("column", index=["image", *ROW, "seed"], values="value")
    shown = [name for name in ROW if name != "settings"]
    return found.sort(["image", *ROW, "seed"]).select("image", *shown, "seed", *names)


def columns_table(knowledge: Sequence[Known]) -> list[dict[str, Any]]:
    """The columns themselves, as the page shows them."""
    return [
        {
            "column": one.column.name,
            "asks": one.column.group,
            "better": one.column.arrow,
            "tau_seeds": _plain(one.tau),
            "tau_photos": _plain(one.halves),
            "decides": one.decides,
            "rows": one.rows,
        }
        for one in knowledge
    ]


def draw(cells: pl.DataFrame, knowledge: Sequence[Known], network: str, path: Path) -> Path | None:
    """The rank of each row in each judged column, mean over the seeds; ``None`` where there are no two rows."""
    own = cells.filter(pl.col("network") == network, pl.col("rank").is_not_null())
    ranks = own.group_by(["explainer", "defence", "column"]).agg(pl.col("rank").mean())
    found = {(row["explainer"], row["defence"], row["column"]): row["rank"] for row in ranks.to_dicts()}
    names = [
        one.column.name for one in knowledge if one.column.judged and any(key[2] == one.column.name for key in found)
    ]
    rows = {key[:2]: [found.get((*key[:2], name), np.nan) for name in names] for key in found}
    if len(rows) < 2 or not names:
        return None
    deciding = {one.column.name for one in knowledge if one.decides}
    decided = {
        key: _mean([v for v, n in zip(values, names, strict=True) if n in deciding]) for key, values in rows.items()
    }
    order = sorted(rows, key=lambda key: (np.isnan(decided[key]), decided[key], key))
    return matrix(
        np.array([rows[key] for key in order]),
        [explainer if defence == NONE else f"{explainer}, {defence}" for explainer, defence in order],
        [f"{name} *" if name in deciding else name for name in names],
        path,
        title=f"{network}: rank in each column, 1 the best; * decides",
        limits=(1.0, float(len(rows))),
    )


def answers(rows: Sequence[Mapping[str, Any]], knowledge: Sequence[Known], seeds: int) -> list[str]:
    """Who stands first on each network, and which columns decide."""
    sentences = []
    deciding = [f"{one.column.name} ({one.tau:.2f})" for one in knowledge if one.decides]
    told = [one for one in knowledge if one.column.judged and one.rows and not one.decides]
    others = [f"{one.column.name} ({one.tau:.2f})" for one in told if not np.isnan(one.tau)]
    alike = [one.column.name for one in told if np.isnan(one.tau)]
    if deciding:
        for network in dict.fromkeys(row["network"] for row in rows):
            own = [row for row in rows if row["network"] == network and row["mean_rank"] is not None]
            shown = [f"{row['explainer']}, {row['defence']} ({row['mean_rank']:.1f})" for row in own[:3]]
            if shown:
                sentences.append(f"{network}: the best mean ranks over the deciding columns have {'; '.join(shown)}.")
        sentences.append(f"Columns that decide, with Kendall's tau over {seeds} seeds: {', '.join(deciding)}.")
    else:
        over = "1 seed" if seeds == 1 else f"{seeds} seeds"
        sentences.append(f"No column decides: over {over} none has ranks with a tau above {DECIDES}.")
    if others:
        sentences.append(f"Columns that do not decide, their ranks being less certain: {', '.join(others)}.")
    if alike and seeds > 1:
        sentences.append(f"Columns whose rows could not be told apart, or are fewer than three: {', '.join(alike)}.")
    return sentences


def _numbers(values: pl.Series) -> NDArray[np.float64]:
    return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _ends(name: str, value: float, low: float, high: float) -> dict[str, float | None]:
    return {name: _plain(value), f"{name}_low": _plain(low), f"{name}_high": _plain(high)}


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: Sequence[float]) -> float:
    found = [value for value in values if not np.isnan(value)]
    return float(np.mean(found)) if found else float("nan")
