"""What a verb answers: sentences, rows, a table, and the page where a run folder was asked for."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from heatproof.errors import InputError
from heatproof.report.words import counted, in_line

if TYPE_CHECKING:
    import pandas  # an optional library

    from heatproof.models.classifier import Classifier

SHOWN = 12
"""Rows that a notebook shows."""


@dataclass(frozen=True, repr=False)
class Result:
    """The answer of one verb.

    Attributes:
        verb: which one.
        summary: all of it, as ``summary.json`` holds it.
        images: a row per image and condition, as ``images.parquet`` holds it.
        columns: those that a notebook shows, and their heads.
        folder: the run folder, where one was asked for (``out=``).
        shown: which rows of the summary a notebook shows.
        model: of a repair or a defence: the network that came of it.
    """

    verb: str
    summary: Mapping[str, Any]
    images: pl.DataFrame
    columns: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    shown: str = "rows"
    model: "Classifier | None" = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of ``summary.json``: means with their intervals, ``_low`` and ``_high``."""
        return list(self.summary["rows"])

    @property
    def answer(self) -> list[str]:
        """What was found, in sentences."""
        return list(self.summary.get("answer", []))

    @property
    def verdict(self) -> str | None:
        """Of an audit: honest (to readers: supported), doubtful, manipulated (not supported) or cannot tell."""
        return self.summary.get("verdict")

    @property
    def skipped(self) -> list[dict[str, str]]:
        """``{"image", "reason"}`` of the photos that were left out."""
        return list(self.summary.get("skipped", []))

    @property
    def table(self) -> pl.DataFrame:
        """The rows as a table; ``.to_pandas()`` of the result gives them to pandas."""
        return as_table(self.rows)

    def to_pandas(self) -> "pandas.DataFrame":
        """The rows as a ``pandas.DataFrame``.

        Raises:
            InputError: pandas is not installed.
        """
        return as_pandas(self.table)

    def __repr__(self) -> str:
        """The answer, and what to look at."""
        more = f"; {counted(len(self.skipped))} skipped" if self.skipped else ""
        where = f"; {self.folder / 'report.html'}" if self.folder else ""
        return "\n".join([*self.answer, f"({self.verb}: {counted(len(self.rows), 'row')} in .table{more}{where})"])

    def _repr_html_(self) -> str:
        """For notebooks: the answer, the first rows, what was skipped and where the page lies."""
        parts = [f"<p><b>{html.escape(sentence)}</b></p>" for sentence in self.answer[:1]]
        parts += [f"<p>{html.escape(sentence)}</p>" for sentence in self.answer[1:]]
        rows = self.summary[self.shown]
        parts.append(html_table(rows[:SHOWN], self.columns or _plain_columns(rows)))
        notes = [f"{counted(len(rows) - SHOWN, 'more row')} in .summary[{self.shown!r}]"] if len(rows) > SHOWN else []
        notes += [f"{counted(len(self.skipped))} skipped, listed in .skipped"] if self.skipped else []
        if self.folder:
            page = html.escape(str(self.folder / "report.html"))
            parts.append(f'<p><a href="{page}">{page}</a></p>')
        return "".join([*parts, *(f"<p>{html.escape(note)}</p>" for note in notes)])


def as_table(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows as a table of polars."""
    return pl.DataFrame([_flat(row) for row in rows], infer_schema_length=None)


def as_pandas(table: pl.DataFrame) -> "pandas.DataFrame":
    """A table of polars as one of pandas.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise InputError("pandas is not installed; result.table is the same as a polars.DataFrame") from error
    return pandas.DataFrame(table.to_dicts())


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values as text: a column of a table has one type."""
    return {key: str(value) if isinstance(value, list | tuple | dict) else value for key, value in row.items()}


def _plain_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Every column but the ends of intervals, which stand beside their means."""
    names = dict.fromkeys(key for row in rows for key in row)
    return {name: name for name in names if not name.endswith(("_low", "_high"))}


def html_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Rows for a notebook, under the heads of ``columns``."""
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in columns.values())
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(in_line(row, key))}</td>" for key in columns) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
