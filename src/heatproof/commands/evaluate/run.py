"""Can an explainer be relied on? Faithfulness, robustness, localisation and the randomisation test, side by side.

Data is read in parts that are measured, written and forgotten: memory does not grow, a killed run goes on where it
was, and several processes share the parts.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from heatproof.commands.effort import NOTHING, Effort, rehearsal
from heatproof.commands.evaluate.answer import answer
from heatproof.commands.evaluate.figures import draw_curves, draw_gallery, draw_randomisation, draw_weight_noise
from heatproof.commands.evaluate.measure import STANDARD, Evaluate, measure
from heatproof.commands.evaluate.summary import meanings, merged, side_by_side, summary_rows
from heatproof.commands.photos import looked_at
from heatproof.commands.record import describe
from heatproof.commands.within import Within
from heatproof.data.batches import Batch
from heatproof.data.boxes import Box, Boxes
from heatproof.data.parts import parts
from heatproof.data.sources import Source
from heatproof.errors import InputError
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.processes import Processes
from heatproof.report.words import counted
from heatproof.results.run import Run
from heatproof.results.skipped import all_skipped
from heatproof.results.table import SummaryRow

__all__ = ["STANDARD", "Box", "Evaluate", "run_evaluate"]


def run_evaluate(
    settings: Evaluate,
    model: Classifier,
    source: Source,
    run: Run,
    *,
    boxes: Boxes | None = None,
    hardware: Hardware = Hardware(),
    processes: Processes = Processes(),
    draw: bool = True,
    advance: Callable[[float], None] = lambda count: None,
) -> dict[str, Any]:
    """Measure every photo's heatmaps into the run folder; process 0 merges, draws and answers.

    Args:
        boxes: of the objects, by image, for the pointing game and the box's IoU.
        draw: whether to make the figures and the report's views.
        advance: is told how many photos are done, those of an earlier start too; fractions of a batch that is measured.

    Returns:
        The summary as written to ``summary.json``: ``rows`` per explainer with every metric's mean and interval, and
        per explainer and block drawn anew (or level of noise); ``side_by_side`` the same with a column per explainer;
        ``columns`` with each metric's meaning, range and direction; ``skipped``; and an ``answer`` in sentences. The
        other processes return an empty one.

    Raises:
        InputError: a region that does not divide the image; localisation without boxes, or boxes of which none
            belongs to an image; no photo.
        LayerError: an explainer's layer, or a block to draw anew, that the model does not have.
    """
    settings.check(model, boxes)
    if boxes is not None and not any(boxes.get(image) for image in source.ids):
        raise InputError("the pointing game needs annotations, and none of the boxes belongs to an image of the data")
    describe(run, [model], source)
    model = hardware.host(model)
    done = {number for number in range(-(-len(source) // settings.part)) if run.has_part(number)}
    advance(sum(min(settings.part, len(source) - number * settings.part) for number in done))
    first = set(source.ids[: settings.randomised])
    for number, batch, skipped in parts(source, model.preprocessing, settings.part, processes, done.__contains__):
        measured: list[dict[str, Any]] = []
        if batch is not None:
            within = Within(advance, len(batch.ids), len(settings.explainers) * len(settings.metrics))
            drawn = sum(image in first for image in batch.ids)
            found = measure(settings, model, batch, boxes, hardware, drawn, within)
            within.end()
            run.write_tensors(f"curves/{number:06d}.safetensors", found.curves)
            measured = found.rows
        run.append_rows(number, measured, skipped)
        if skipped:
            advance(len(skipped))
    processes.wait()
    if not processes.ends:
        return {}
    skipped = all_skipped(run, source)
    table = merged(settings, run, source.ids)
    if not table.height:
        raise InputError(f"none of the {counted(source.count)} of {source.name} could be read")
    rows = summary_rows(settings, table)
    if draw:
        _draw(settings, model, source, run, hardware, table, rows)
    summary = {
        "rows": [row.plain() for row in rows],
        "side_by_side": side_by_side(settings, rows),
        "columns": meanings(settings),
        "skipped": skipped,
        "answer": [*answer(settings, table, rows), *looked_at(source, table, run)],
    }
    run.write_json("summary.json", summary)
    return summary


def effort(
    settings: Evaluate, model: Classifier, photos: int, hardware: Hardware = Hardware(), boxes: Boxes | None = None
) -> Effort | None:
    """What so many photos take: all metrics of a map on each, those of changed weights on the first few."""
    found = []
    for metrics, count in ((settings.plain, photos), (settings.conditioned, min(photos, settings.randomised))):
        if not metrics or not count:
            continue
        asked = replace(settings, metrics=metrics)

        def measured(model: Classifier, batch: Batch, asked: Evaluate = asked) -> None:
            measure(asked, model, batch, boxes, hardware, len(batch.ids))

        found.append(rehearsal([model], count, measured, hardware, settings.part))
    known = [one for one in found if one is not None]
    return sum(known, NOTHING) if len(known) == len(found) else None


def _draw(
    settings: Evaluate,
    model: Classifier,
    source: Source,
    run: Run,
    hardware: Hardware,
    table: pl.DataFrame,
    rows: Sequence[SummaryRow],
) -> None:
    draw_curves(settings, run)
    draw_randomisation(settings, run, rows)
    draw_weight_noise(settings, run, rows)
    draw_gallery(settings, model, source, run, hardware, table)
