"""The rows of Heo et al.'s tables, from what was measured, each beside the paper's number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from heatproof.commands.compare.run import Fooled
from heatproof.report.plots import matrix
from heatproof.results.run import Run
from heatproof.results.table import Mean, summarise
from heatproof.studies.heo2019 import published as paper
from heatproof.types import Explainer


@dataclass(frozen=True)
class _Split:
    fooling: str
    through: str


def _split(entry: Fooled) -> _Split:
    return _Split(*entry.model.name.rsplit("-", 1))


@dataclass(frozen=True)
class Cell:
    """A number of one of the paper's tables, measured here and as published.

    Attributes:
        table: its number in the paper.
        model: the network.
        value: None where nothing was measured; ``low`` and ``high`` are its interval.
        paper: the published number, as a rate.
    """

    table: int
    model: str
    fooling: str
    through: str
    measured: str
    value: float | None
    low: float | None
    high: float | None
    paper: float


def _cell(table: int, name: str, entry: Fooled, measured: str, found: Mean, published: float) -> Cell:
    split = _split(entry)
    return Cell(
        table,
        name,
        split.fooling,
        split.through,
        measured,
        found.value,
        found.low,
        found.high,
        published / 100,
    )


def table_1(name: str, table: pl.DataFrame, fooled: Sequence[Fooled], measured: dict[str, Explainer]) -> list[Cell]:
    """Fooling success rates of the passive foolings, each by its own penalty."""
    rows = []
    for entry in fooled:
        cell = _split(entry)
        for place, key in enumerate(paper.MEASURED):
            mine = table.filter(
                (pl.col("model") == entry.model.name)
                & (pl.col("penalty") == repr(entry.penalty))
                & (pl.col("explainer") == repr(measured[key]))
            )
            published = paper.TABLE_1[cell.fooling, cell.through][paper.family(name)][place]
            rows.append(_cell(1, name, entry, key, _mean(mine, "fooled"), published))
    return rows


def table_2(name: str, table: pl.DataFrame, fooled: Sequence[Fooled], measured: dict[str, Explainer]) -> list[Cell]:
    """Fooling success rates of the swap, for each of its classes."""
    rows = []
    for entry in fooled:
        through = _split(entry).through
        for which in ("first", "second"):
            wanted: Any = getattr(entry.penalty, which)
            for place, key in enumerate(paper.MEASURED_ACTIVE):
                mine = table.filter(
                    (pl.col("model") == entry.model.name)
                    & (pl.col("target") == wanted)
                    & (pl.col("explainer") == repr(measured[key]))
                )
                published = paper.TABLE_2[through, which][paper.family(name)][place]
                rows.append(_cell(2, name, entry, f"{key} of the {which} class", _mean(mine, "fooled"), published))
    return rows


def table_3(name: str, table: pl.DataFrame, fooled: Sequence[Fooled]) -> list[Cell]:
    """Top-1 and top-5 before and after."""
    rows = []
    for place, (what, before, after) in enumerate(
        (("top-1", "correct_clean", "correct_fooled"), ("top-5", "top5_clean", "top5_fooled"))
    ):
        for entry in fooled:
            mine = table.filter(pl.col("model") == entry.model.name).unique("image", keep="first", maintain_order=True)
            cell = _split(entry)
            clean = paper.TABLE_3[None][paper.family(name)][place]
            rows.append(_cell(3, name, entry, f"{what} before", _mean(mine, before), clean))
            lied = paper.TABLE_3[cell.fooling, cell.through][paper.family(name)][place]
            rows.append(_cell(3, name, entry, f"{what} after", _mean(mine, after), lied))
    return rows


def table_5(name: str, table: pl.DataFrame, fooled: Sequence[Fooled], classes: tuple[int, int]) -> list[Cell]:
    """Top-1 of the two swapped classes, before and after."""
    rows = []
    for entry in fooled:
        mine = table.filter(pl.col("model") == entry.model.name).unique("image", keep="first", maintain_order=True)
        for place, (which, wanted) in enumerate(zip(("first", "second"), classes, strict=True)):
            those = mine.filter(pl.col("label") == wanted)
            for when, column, key in (
                ("before", "correct_clean", None),
                ("after", "correct_fooled", _split(entry).through),
            ):
                published = paper.TABLE_5[key][paper.family(name)][place]
                rows.append(_cell(5, name, entry, f"{which} class {when}", _mean(those, column), published))
    return rows


def _mean(rows: pl.DataFrame, column: str) -> Mean:
    return summarise(rows, [], [column])[0].means[column] if rows.height else Mean(None, None, None, 0)


def sentences(rows: list[Cell]) -> list[str]:
    """Each network's matched cells beside the paper's, and its worst loss of accuracy."""
    sentences = []
    for model in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == model]
        for row in mine:
            matched = row.measured.split(" ")[0] == row.through
            if row.table in (1, 2) and matched and row.value is not None:
                sentences.append(
                    f"{model}, {row.fooling} through {row.through}, {row.measured}: FSR {row.value:.1%} "
                    f"here, {row.paper:.1%} in the paper."
                )
        pairs = {
            (row.fooling, row.through, row.measured.split()[1]): row.value
            for row in mine
            if row.table == 3 and row.measured.startswith("top-1") and row.value is not None
        }
        drops = {
            key[:2]: pairs[*key[:2], "before"] - value
            for key, value in pairs.items()
            if key[2] == "after" and (*key[:2], "before") in pairs
        }
        if drops:
            worst = max(drops, key=lambda key: drops[key])
            sentences.append(
                f"{model}: the largest loss of top-1 is {100 * drops[worst]:.1f} points ({' '.join(worst)})."
            )
    return sentences


def draw(rows: list[Cell], run: Run) -> None:
    """``figures/table-1-<network>.png``: rows fooled, columns measured, here and in the paper."""
    for model in dict.fromkeys(row.model for row in rows if row.table == 1):
        mine = [row for row in rows if row.model == model and row.table == 1]
        down = list(dict.fromkeys(f"{row.fooling} through {row.through}" for row in mine))
        across = [f"{key} ({where})" for where in ("here", "paper") for key in paper.MEASURED]
        values = np.full((len(down), len(across)), np.nan)
        for row in mine:
            r = down.index(f"{row.fooling} through {row.through}")
            c = paper.MEASURED.index(row.measured)
            values[r, c] = np.nan if row.value is None else row.value
            values[r, c + len(paper.MEASURED)] = row.paper
        matrix(
            values,
            down,
            across,
            run.path(f"figures/table-1-{model}.png"),
            title=f"Fooling success rate: {model} here, {paper.FAMILIES[paper.family(model)]} in the paper",
            xlabel="measured with",
            ylabel="fooling",
            rates=True,
        )
