"""The course of a fine-tuning: the losses of every step, the numbers of every evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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

``loss`` = ``loss_kept`` + ``weight`` * ``loss_fooled``, means over the batch of the step; null in row 0. A loss of
other terms has a column ``loss_<name>`` for each, after these. From ``fsr`` to ``inside`` over the held-out images,
null between two evaluations; ``fsr_first`` and ``fsr_second`` only for a swap of two classes; ``test_loss_clean``
(without the trigger) and ``called`` (share of triggered photos with the wanted answer) only for a backdoor; ``empty``:
share of maps with nothing in them; ``inside``: the accuracy is within the budget. ``seconds``: time spent since the
start, over all attempts.
"""


@dataclass
class History:
    """The course of a fine-tuning.

    Attributes:
        rows: one per step, see :data:`COLUMNS`.
        best: the step whose weights were handed out.
        stopped: why it ended before its last step, in a sentence; empty where it did not.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    best: int = 0
    stopped: str = ""

    def add(self, step: int, **values: float) -> None:
        """Note values of a step; a second call for the same step adds to its row."""
        if not self.rows or self.rows[-1]["step"] != step:
            self.rows.append({"step": step})
        self.rows[-1].update(values)

    @property
    def looks(self) -> list[dict[str, float]]:
        """The rows of the evaluations on the held-out images."""
        return [row for row in self.rows if row.get("accuracy") is not None]

    @property
    def clean(self) -> dict[str, float]:
        """The evaluation of the clean model."""
        return self.looks[0]

    @property
    def handed_out(self) -> dict[str, float]:
        """The evaluation of the weights that were handed out."""
        return next(row for row in self.looks if row["step"] == self.best)

    def frame(self) -> pl.DataFrame:
        """The table, as ``history.parquet`` holds it."""
        return frame(self.rows)


@dataclass
class Steps:
    """Counts the steps of a training by the rows of its history: one that goes on begins at the step where it was.

    Args:
        advance: is told how many steps are done more, and the row.

    >>> told = []
    >>> steps = Steps(lambda count, row: told.append(count))
    >>> for step in (51, 52):
    ...     steps({"step": step})
    >>> told
    [51, 1]
    """

    advance: Callable[[int, dict[str, float]], None]
    done: int = 0

    def __call__(self, row: dict[str, float]) -> None:
        more, self.done = int(row["step"]) - self.done, int(row["step"])
        self.advance(more, row)


def frame(rows: Sequence[dict[str, float]]) -> pl.DataFrame:
    """Rows as a table with every column of :data:`COLUMNS`, and one for each further term of the loss.

    >>> frame([{"step": 0, "fsr": 0.0}])["fsr"].to_list()
    [0.0]
    """
    further = dict.fromkeys(name for row in rows for name in row if name.startswith("loss_") and name not in COLUMNS)
    schema = COLUMNS | dict.fromkeys(further, pl.Float64)
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)
