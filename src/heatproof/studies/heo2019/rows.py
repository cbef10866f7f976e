"""The rows of Heo et al.'s tables, from what was measured, each beside the paper's number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from heatproof.commands.compare.run import Fooled
from heatproof.report.plots import matrix
from heatproof.results.run import Run
from heatproof.results.table import summarise
from heatproof.studies.heo2019 import published as paper
from heatproof.types import Explainer


@dataclass(frozen=True)
class _Split:
    fooling: str
    through: str


def _split(entry: Fooled) -> _Split:
    return _Split(*entry.model.name.rsplit("-", 1))


def _row(table: int, name: str, entry: Fooled | None, measured: str, found: dict[str, Any], published: float) -> dict:
    cell = _split(entry) if entry is not None else _Split("", "")
    return {
        "table": table,
        "model": name,
        "fooling": cell.fooling,
        "through": cell.through,
        "measured": measured,
        "value": found["value"],
        "low": found.get("low"),
        "high": found.get("high"),
        "paper": published / 100,
    }


def table_1(
    name: str, table: pl.DataFrame, fooled: Sequence[Fooled], measured: dict[str, Explainer]
) -> list[dict[str, Any]]:
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
            rows.append(_row(1, name, entry, key, _mean(mine, "fooled"), published))
    return rows


def table_2(
    name: str, table: pl.DataFrame, fooled: Sequence[Fooled], measured: dict[str, Explainer]
) -> list[dict[str, Any]]:
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
                rows.append(_row(2, name, entry, f"{key} of the {which} class", _mean(mine, "fooled"), published))
    return rows


def table_3(name: str, table: pl.DataFrame, fooled: Sequence[Fooled]) -> list[dict[str, Any]]:
    """Top-1 and top-5 before and after."""
    rows = []
    for place, (what, before, after) in enumerate(
        (("top-1", "correct_clean", "correct_fooled"), ("top-5", "top5_clean", "top5_fooled"))
    ):
        for entry in fooled:
            mine = table.filter(pl.col("model") == entry.model.name).unique("image", keep="first", maintain_order=True)
            cell = _split(entry)
            clean = paper.TABLE_3[None][paper.family(name)][place]
            rows.append(_row(3, name, entry, f"{what} before", _mean(mine, before), clean))
            lied = paper.TABLE_3[cell.fooling, cell.through][paper.family(name)][place]
            rows.append(_row(3, name, entry, f"{what} after", _mean(mine, after), lied))
    return rows


def table_5(name: str, table: pl.DataFrame, fooled: Sequence[Fooled], classes: tuple[int, int]) -> list[dict[str, Any]]:
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
                rows.append(_row(5, name, entry, f"{which} class {when}", _mean(those, column), published))
    return rows


def _mean(rows: pl.DataFrame, column: str) -> dict[str, Any]:
    found = summarise(rows, [], {column: "value"})[0] if rows.height else {"value": None}
    return {"value": found["value"], "low": found.get("value_low"), "high": found.get("value_high")}


def sentences(rows: list[dict[str, Any]]) -> list[str]:
    """Each network's matched cells beside the paper's, and its worst loss of accuracy."""
    sentences = []
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        for row in mine:
            matched = row["measured"].split(" ")[0] == row["through"]
            if row["table"] in (1, 2) and matched and row["value"] is not None:
                sentences.append(
                    f"{model}, {row['fooling']} through {row['through']}, {row['measured']}: FSR {row['value']:.1%} "
                    f"here, {row['paper']:.1%} in the paper."
                )
        pairs = {
            (row["fooling"], row["through"], row["measured"].split()[1]): row["value"]
            for row in mine
            if row["table"] == 3 and row["measured"].startswith("top-1")
        }
        drops = {
            key[:2]: pairs[*key[:2], "before"] - value
            for key, value in pairs.items()
            if key[2] == "after" and value is not None
        }
        if drops:
            worst = max(drops, key=lambda key: drops[key])
            sentences.append(
                f"{model}: the largest loss of top-1 is {100 * drops[worst]:.1f} points ({' '.join(worst)})."
            )
    return sentences


def draw(rows: list[dict[str, Any]], run: Run) -> None:
    """``figures/table-1-<network>.png``: rows fooled, columns measured, here and in the paper."""
    for model in dict.fromkeys(row["model"] for row in rows if row["table"] == 1):
        mine = [row for row in rows if row["model"] == model and row["table"] == 1]
        down = list(dict.fromkeys(f"{row['fooling']} through {row['through']}" for row in mine))
        across = [f"{key} ({where})" for where in ("here", "paper") for key in paper.MEASURED]
        values = np.full((len(down), len(across)), np.nan)
        for row in mine:
            r = down.index(f"{row['fooling']} through {row['through']}")
            c = paper.MEASURED.index(row["measured"])
            values[r, c] = np.nan if row["value"] is None else row["value"]
            values[r, c + len(paper.MEASURED)] = row["paper"]
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
