"""What a lie comes to: the clean and the lying model on every photo, into the run folder."""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from heatproof.commands.compare.figures import draw_compared, keep_views
from heatproof.commands.compare.measure import SORT, compared
from heatproof.data.batches import batches
from heatproof.data.pairs import TwoClass
from heatproof.data.sources import Source
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.results.run import Run
from heatproof.types import Explainer, Penalty


@dataclass(frozen=True)
class Lie:
    """Two models, and what the second one lies by."""

    clean: Classifier
    lying: Classifier
    explainer: Explainer
    penalty: Penalty
    swap: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Shown:
    explainers: tuple[Explainer, ...]
    shown: int


def measure(
    lie: Lie,
    source: Source | TwoClass,
    run: Run,
    hardware: Hardware,
    advance: Callable[[int], None] = lambda count: None,
) -> pl.DataFrame:
    """One row per photo, also into the run folder: the columns of a comparison."""
    for number, batch in enumerate(batches(source, lie.clean.preprocessing, 32)):
        rows = compared(lie.clean, lie.lying, lie.lying.name, batch, [lie.explainer], [lie.penalty], hardware, lie.swap)
        run.append_rows(f"judged-{number:06d}", rows)
        advance(len(batch.ids))
    return run.merge(SORT)


def draw_lie(lie: Lie, source: Source, table: pl.DataFrame, shown: int, run: Run, hardware: Hardware) -> None:
    """The photos with their heatmaps before and after, in a figure and for the page's viewer."""
    chosen = _Shown((lie.explainer,), shown)
    fooled = {lie.lying.name: lie.lying}
    draw_compared(chosen, lie.clean, fooled, source, run, hardware)
    keep_views(chosen, lie.clean, fooled, source, table, run, hardware)
