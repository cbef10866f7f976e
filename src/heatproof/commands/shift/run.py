"""How far do the heatmaps move when the pixels are attacked? MOD, VID and an answer in words, for several models.

Data is read in parts that are measured, written and forgotten: memory does not grow, a killed run goes on where it
was, and several processes share the parts.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import polars as pl
import torch

from heatproof.commands.effort import Effort, rehearsal
from heatproof.commands.photos import looked_at
from heatproof.commands.record import describe
from heatproof.commands.shift.figures import Seen, Shown, draw_curves, draw_distributions, draw_gallery, keep_views
from heatproof.commands.shift.measure import SECOND, Condition, Shift, attacked, compare, measure
from heatproof.commands.shift.summary import ShiftRow, answer, choose, folded, paired, shift_rows
from heatproof.commands.within import Within
from heatproof.data.batches import Batch
from heatproof.data.listing import unique
from heatproof.data.parts import parts
from heatproof.data.photos import fit
from heatproof.data.sources import Source
from heatproof.errors import InputError
from heatproof.heatmaps import Box
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.layers import check_layer
from heatproof.processes import Processes
from heatproof.report.style import percent
from heatproof.report.words import counted
from heatproof.results.names import file_names
from heatproof.results.run import Run
from heatproof.results.skipped import all_skipped
from heatproof.types import is_signed

__all__ = ["Box", "Shift", "run_shift"]

Facing = Callable[[Classifier, Sequence[str]], AbstractContextManager[None]]

VIEWED = 12
"""Of the most moved images so many are in the page's viewer."""


def alone(model: Classifier, ids: Sequence[str]) -> AbstractContextManager[None]:
    """The model is asked about the photos alone."""
    return nullcontext()


def run_shift(
    settings: Shift,
    models: Sequence[Classifier],
    open_source: Callable[[Classifier], Source],
    run: Run,
    *,
    hardware: Hardware = Hardware(),
    processes: Processes = Processes(),
    boxes: Mapping[str, Box] | None = None,
    draw: bool = True,
    record: bool = True,
    facing: Facing = alone,
    advance: Callable[[float], None] = lambda count: None,
) -> dict[str, Any]:
    """Attack every photo, for every model, into the run folder; process 0 merges, draws and answers.

    Args:
        open_source: the data with the labels of a model's classes, for instance
            ``lambda model: open_data(folder, classes=model.classes)``.
        boxes: of the objects, by image; without them the object is where the clean map looks.
        draw: whether to make the figures and the report's views.
        record: whether to note models and data in ``run.json``; not while further models are to come to this run.
        facing: a context in which a model is asked about photos, by their ids: where each has a reference photo of its
            own (:mod:`heatproof.commands.shift.verification`).
        advance: is told how many photos of a model are done, those of an earlier start too, and fractions.

    Returns:
        The summary as written to ``summary.json``: ``rows`` per model, attack, epsilon and explainer, ``paired`` tests
        between models, ``skipped`` and an ``answer`` in sentences. The other processes return an empty one.

    Raises:
        InputError: nothing could be measured, or labels are wanted that are not there.
        ModelError: a model without gradients, or whose gradients are not finite.
    """
    for model in models:
        for explainer in settings.explainers:
            check_layer(model, explainer)
    names = unique([model.name for model in models])
    sources = [open_source(model) for model in models]
    if record:
        describe(run, models, sources[0], names=names)
    for place, (name, model, source) in enumerate(zip(names, models, sources, strict=True)):
        _measure_all(
            settings, place, name, hardware.host(model), source, run, hardware, processes, boxes or {}, facing, advance
        )
    processes.wait()
    if not processes.ends:
        return {}
    skipped = all_skipped(run, *sources)
    table = run.merge(known=[source.ids for source in sources])
    if not table.height:
        reasons = "; ".join(f"{entry['image']}: {entry['reason']}" for entry in skipped[:3])
        raise InputError(f"none of the {counted(sources[0].count)} of {sources[0].name} could be attacked; {reasons}")
    rows, tests = shift_rows(table), paired(table)
    said, single = answer(table, rows, tests), folded(rows)
    if draw:
        _draw(settings, names, models, sources, run, hardware, facing, table, rows)
    summary = {
        "rows": [row.plain() for row in rows],
        "paired": [test.plain() for test in tests],
        "skipped": skipped,
        "answer": [
            *_aim(settings),
            *said[: len(said) - single],
            *looked_at(sources[0], table, run),
            *said[len(said) - single :],
        ],
        "folded": single,
        "classes": models[0].classes,
    }
    run.write_json("summary.json", summary)
    return summary


def effort(
    settings: Shift, models: Sequence[Classifier], photos: int, hardware: Hardware = Hardware()
) -> Effort | None:
    """What the attacks on so many photos take, for every model."""

    def attack(model: Classifier, batch: Batch) -> None:
        for _ in measure(settings, model.name, model, batch, hardware):
            pass

    return rehearsal(models, photos, attack, hardware, settings.part)


def _aim(settings: Shift) -> list[str]:
    if settings.wanted is not None:
        aim = "each photo's second most likely class" if settings.wanted == SECOND else f"the class {settings.wanted!r}"
        shown = "" if settings.penalty is None else f", and at once to a map as {settings.penalty!r} wants it"
        return [f"Attacks lead to {aim}{shown}; success says which got there."]
    if settings.lower is None:
        return []
    return [f"Attacks lower {settings.lower!r}, not the probability of a class."]


def _measure_all(
    settings: Shift,
    place: int,
    name: str,
    model: Classifier,
    source: Source,
    run: Run,
    hardware: Hardware,
    processes: Processes,
    boxes: Mapping[str, Box],
    facing: Facing,
    advance: Callable[[float], None],
) -> None:
    def part_name(number: int) -> str:
        return f"{place:03d}-{number:07d}"

    before = [n for n in range(-(-len(source) // settings.part)) if run.has_part(part_name(n))]
    advance(sum(min(settings.part, len(source) - n * settings.part) for n in before))
    for number, batch, skipped in parts(
        source, model.preprocessing, settings.part, processes, set(before).__contains__
    ):
        with facing(model, batch.ids if batch else []):
            rows: list[dict[str, Any]] = []
            if batch is not None:
                conditions = 1 + sum(len(settings.levels(attack)) for attack in settings.attacks)
                within = Within(advance, len(batch.ids), conditions * len(settings.explainers) * len(batch.ids))
                for row in measure(settings, name, model, batch, hardware, boxes):
                    rows.append(row)
                    within()
                within.end()
        run.append_rows(part_name(number), rows, skipped)
        if skipped:
            advance(len(skipped))


def _draw(
    settings: Shift,
    names: Sequence[str],
    models: Sequence[Classifier],
    sources: Sequence[Source],
    run: Run,
    hardware: Hardware,
    facing: Facing,
    table: pl.DataFrame,
    rows: Sequence[ShiftRow],
) -> None:
    draw_curves(run, rows)
    files = file_names(names)
    for place, (name, model, source) in enumerate(zip(names, models, sources, strict=True)):
        draw_distributions(run, table, name, files[name])
        most, least = (
            [_show(settings, model, source, hardware, facing, image) for image in images]
            for images in choose(table, name, settings.shown, 0 if place else VIEWED)
        )
        draw_gallery(run, name, files[name], most[: settings.shown], least)
        if place == 0:
            keep_views(run, name, [*most, *least], repr(settings.explainers[0]))


def _show(settings: Shift, model: Classifier, source: Source, hardware: Hardware, facing: Facing, image: str) -> Shown:
    """An image before and after the first attack, made anew: keeping all would need memory that grows with the data."""
    photo = source[source.ids.index(image)]
    images, labels = fit(photo.image, model.preprocessing)[None], torch.tensor([photo.label])
    attack = settings.attacks[0]
    first = replace(
        settings, attacks=(attack,), epsilons=(max(settings.levels(attack)),), explainers=settings.explainers[:1]
    )
    with facing(model, [image]):
        clean, *others = attacked(first, model, images, labels, hardware)
    # a score that is no class's has no probability
    names = None if settings.lower is not None else model
    before, after = (one.grid.heatmaps[0][:, 0] for one in (clean, others[-1]))
    moved = float(compare(first, model, before, after, [None])["nissim"][0])
    signed = is_signed(settings.explainers[0])
    return Shown(image, _seen(clean, names), _seen(others[-1], names), signed, None if moved != moved else moved)


def _seen(condition: Condition, model: Classifier | None) -> Seen:
    heatmap = condition.grid.heatmaps[0][0, 0]
    return Seen(
        condition.attack,
        condition.epsilon,
        condition.images[0].float().cpu().numpy(),
        heatmap.float().cpu().numpy(),
        "" if model is None else _answered(condition, model),
    )


def _answered(condition: Condition, model: Classifier) -> str:
    """The predicted class with its probability; behind it that of the explained class, where it is another."""
    probabilities = condition.grid.logits[0].float().softmax(0)
    predicted, explained = int(probabilities.argmax()), int(condition.grid.targets[0, 0])
    classes = dict.fromkeys((predicted, explained))
    return ", ".join(f"{model.class_name(one)} {percent(float(probabilities[one]))}" for one in classes)
