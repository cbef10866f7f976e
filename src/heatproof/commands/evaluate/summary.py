"""From the rows of images to the summary: means with intervals, and the same with a column per explainer."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from heatproof.commands.evaluate.measure import Evaluate
from heatproof.metrics.evaluation import Column
from heatproof.results.run import SORT, Run
from heatproof.results.table import SummaryRow, summarise

ENDS = ("", "_low", "_high", "_missing")
ARROWS = {"up": "\N{UPWARDS ARROW}", "down": "\N{DOWNWARDS ARROW}", "neither": "to compare"}
EMPTY = Column("empty", "down", "[0, 1]", "share of maps that are empty or equal everywhere, whose values are missing")


def merged(settings: Evaluate, run: Run, images: Sequence[str]) -> pl.DataFrame:
    """All rows, in an order that does not depend on who measured what.

    Args:
        images: of the data, of which every row must be.
    """
    return run.merge((*SORT, *dict.fromkeys(metric.condition for metric in settings.conditioned)), known=[images])


def of_maps(settings: Evaluate, table: pl.DataFrame) -> pl.DataFrame:
    """The rows of maps themselves, without those of a condition."""
    conditions = [metric.condition for metric in settings.conditioned if metric.condition in table.columns]
    return table.filter(*(pl.col(name).is_null() for name in conditions)) if conditions else table


def summary_rows(settings: Evaluate, table: pl.DataFrame) -> list[SummaryRow]:
    """A row per explainer with every metric's mean and interval, then one per explainer and condition."""
    rates = [pl.col(column.name).cast(pl.Float64) for column in settings.columns if column.rate]
    maps = of_maps(settings, table).with_columns([rate.fill_nan(None).cast(pl.Boolean) for rate in rates])
    rows = summarise(maps, ["model", "explainer"], [*(column.name for column in settings.columns), "empty"])
    for metric in settings.conditioned:
        drawn = table.filter(pl.col(metric.condition).is_not_null()) if metric.condition in table.columns else None
        if drawn is not None and drawn.height:
            names = [column.name for column in metric.columns]
            turns = drawn.sort("turn", maintain_order=True)
            rows += summarise(turns, ["model", "explainer", metric.condition], names)
    return rows


def side_by_side(settings: Evaluate, rows: Sequence[SummaryRow]) -> list[dict[str, Any]]:
    """A row per metric, a column per explainer; of the conditions the first and the last."""
    explainers = list(map(repr, settings.explainers))
    whole = {row.by["explainer"]: row for row in rows if not any(row.by.get(m.condition) for m in settings.conditioned)}
    table = [_across(column, column.name, whole, explainers) for column in (*settings.columns, EMPTY)]
    for metric in settings.conditioned:
        drawn = [row for row in rows if row.by.get(metric.condition) is not None]
        conditions = list(dict.fromkeys(row.by[metric.condition] for row in drawn))
        for condition in dict.fromkeys((*conditions[:1], *conditions[-1:])):
            own = {row.by["explainer"]: row for row in drawn if row.by[metric.condition] == condition}
            until = "randomised" if metric.condition == "randomised" else f"{metric.condition.replace('_', ' ')}"
            title = f"{until} {'until ' if condition != conditions[0] and until == 'randomised' else ''}{condition}"
            table += [_across(column, f"{column.name}, {title}", own, explainers) for column in metric.columns]
    return table


def _across(column: Column, title: str, rows: Mapping[str, SummaryRow], explainers: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"metric": title, "better": ARROWS[column.better], "range": column.range}
    for explainer in explainers:
        mean = rows[explainer].means.get(column.name) if explainer in rows else None
        row |= mean.plain(explainer) if mean else dict.fromkeys(f"{explainer}{end}" for end in ENDS)
    return row


def meanings(settings: Evaluate) -> list[dict[str, str]]:
    """What each column says, for whoever reads the table."""
    plain = [{"column": column.name, "help": column.help} for column in (*settings.columns, EMPTY)]
    return plain + [
        {"column": f"{column.name} ({metric.condition.replace('_', ' ')})", "help": column.help}
        for metric in settings.conditioned
        for column in metric.columns
    ]
