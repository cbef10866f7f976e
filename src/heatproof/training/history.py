"""What happened during a fine-tuning: losses of every step, rate and accuracy of every look at the held-out images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

COLUMNS: dict[str, type[pl.DataType]] = {
    "step": pl.Int64,
    "loss": pl.Float64,
    "loss_kept": pl.Float64,
    "loss_fooled": pl.Float64,
    "weight": pl.Float64,
    "fsr": pl.Float64,
    "fsr_first": pl.Float64,
    "fsr_second": pl.Float64,
    "test_loss": pl.Float64,
    "test_loss_clean": pl.Float64,
    "called": pl.Float64,
    "accuracy": pl.Float64,
    "agreement": pl.Float64,
    "empty": pl.Float64,
    "inside": pl.Boolean,
    "seconds": pl.Float64,
}
"""The columns of ``history.parquet``. A row holds what was known after ``step`` steps; row 0 is the clean model.

``loss`` = ``loss_kept`` + ``weight`` * ``loss_fooled``, means over the batch of the step; null in row 0. From ``fsr``
to ``inside`` over the held-out images, null between two looks; ``fsr_first`` and ``fsr_second`` only for a swap of two
classes; ``test_loss_clean`` (without the trigger) and ``called`` (share of triggered photos with the wanted
answer) only for a backdoor; ``empty``: share of maps with nothing in them; ``inside``: the accuracy is within the
budget. ``seconds``: time spent since the start, over all attempts.
"""


@dataclass
class History:
    """The course of a fine-tuning.

    Attributes:
        rows: one per step, see :data:`COLUMNS`.
        best: the step whose weights were handed out.
        stopped: why it ended before its last step, in a sentence; empty where it did not.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    best: int = 0
    stopped: str = ""

    def add(self, step: int, **values: Any) -> None:
        """Note values of a step; a second call for the same step adds to its row."""
        if not self.rows or self.rows[-1]["step"] != step:
            self.rows.append({"step": step})
        self.rows[-1].update(values)

    @property
    def looks(self) -> list[dict[str, Any]]:
        """The rows at which the held-out images were looked at."""
        return [row for row in self.rows if row.get("fsr") is not None]

    @property
    def clean(self) -> dict[str, Any]:
        """The look at the clean model."""
        return self.looks[0]

    @property
    def handed_out(self) -> dict[str, Any]:
        """The look at the weights that were handed out."""
        return next(row for row in self.looks if row["step"] == self.best)

    def frame(self) -> pl.DataFrame:
        """The table, as ``history.parquet`` holds it."""
        return frame(self.rows)


def frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Rows as a table with every column of :data:`COLUMNS`.

    >>> frame([{"step": 0, "fsr": 0.0}])["fsr"].to_list()
    [0.0]
    """
    return pl.DataFrame([{name: row.get(name) for name in COLUMNS} for row in rows], schema=COLUMNS)
