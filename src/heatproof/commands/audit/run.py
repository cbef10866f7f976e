"""Is this checkpoint's explanation honest? Eight checks, a verdict, and the photos that disagree most."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import polars as pl

from heatproof.commands.audit.examples import Kept, draw_examples
from heatproof.commands.audit.figures import show_disagreement, show_mosaics
from heatproof.commands.audit.finding import finding, grouped
from heatproof.commands.audit.kept import PARTS, check_table, placed
from heatproof.commands.audit.measure import Audit, measure
from heatproof.commands.audit.mosaic import look_at_mosaics
from heatproof.commands.audit.numbers import checks_of, with_joint_columns
from heatproof.commands.audit.own_reference import SELF, check_alone, own_reference
from heatproof.commands.audit.plan import Plan, plan
from heatproof.commands.audit.reference import beside, check_classes, comparison
from heatproof.commands.audit.scope import outside
from heatproof.commands.audit.shipped import thresholds_for
from heatproof.commands.audit.summary import (
    MAPS,
    AuditSummary,
    answer,
    disagreeing,
    drift_between,
    queries_per_photo,
    read_baseline,
    verdict_on,
)
from heatproof.commands.audit.tensors import AuditTensors
from heatproof.commands.audit.verdict import Thresholds
from heatproof.commands.passes import counting
from heatproof.commands.photos import in_one_way
from heatproof.commands.record import describe
from heatproof.commands.within import Within
from heatproof.data.batches import Batch
from heatproof.data.parts import parts
from heatproof.data.sources import Source
from heatproof.errors import InputError
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.layers import check_layer
from heatproof.processes import Processes
from heatproof.report.words import counted
from heatproof.results.run import Run
from heatproof.results.skipped import all_skipped
from heatproof.results.strict import read_images
from heatproof.tensor_files import StoredTensors

__all__ = ["Audit", "read_audit", "run_audit", "with_mosaics"]


def run_audit(
    settings: Audit,
    model: Classifier,
    source: Source,
    run: Run,
    *,
    reference: Classifier | Literal["self"] | None = None,
    thresholds: Thresholds | None = None,
    baseline: Path | str | None = None,
    draw: bool = True,
    hardware: Hardware = Hardware(),
    processes: Processes = Processes(),
    advance: Callable[[float], None] = lambda count: None,
) -> dict[str, Any]:
    """Audit the maps of one model into the run folder; a run that was stopped goes on where it was.

    Args:
        reference: the model that it claims to be, where there is one; ``"self"``: the model itself, repaired on these
            photos (:mod:`heatproof.commands.audit.own_reference`).
        thresholds: by which it is judged; ``None``: those of the package for this explainer.
        baseline: the run folder of an earlier audit, whose maps of the same photos are compared.
        draw: whether to make the figure and the report's views.
        processes: they share the parts; process 0 judges, the others hand back an empty summary.
        advance: is told how many photos are done, those of an earlier start too; of one that is being measured a
            fraction, as its passes go by.

    Returns:
        The summary as written to ``summary.json``: ``verdict``, ``score`` (deviations of the worst number that
        decides), ``rows`` per number (:class:`~heatproof.commands.audit.verdict.Check`), ``speaks`` for the verdict,
        ``cannot_see``, ``disagree`` (photos, the worst first), ``reference`` and ``drift`` where asked for,
        ``queries`` per photo, ``thresholds`` with their provenance, ``skipped`` and an ``answer`` in sentences.

    Raises:
        InputError: no photo can be read; a reference with other classes, or given photos in another way; too few
            photos, or several processes, for a reference of the model's own; a baseline without common photos.
        RunError: the baseline is no audit.
    """
    check_layer(model, settings.explainer)
    own = reference == SELF
    if own:
        check_alone(processes)
    if isinstance(reference, Classifier):
        check_classes(model, reference)
        model, reference = in_one_way([model, reference])
    thresholds = thresholds or thresholds_for(settings.explainer, model)
    earlier = None if baseline is None else read_baseline(baseline)
    describe(run, [model, reference] if isinstance(reference, Classifier) else [model], source)
    model = hardware.host(model)
    name = SELF if own else None if reference is None else "reference"
    other = hardware.host(reference) if isinstance(reference, Classifier) else None
    if own:
        other = own_reference(model, settings.explainer, source, run, seed=settings.seed)
    planned = plan(settings.explainer, settings.budget, model, hardware)
    beside_it = None if other is None or name is None else (name, other)
    _audit_parts(settings, planned, model, beside_it, source, run, hardware, processes, advance)
    processes.wait()
    if not processes.ends:
        return {}
    table = run.merge(("image",), known=[source.ids])
    if not table.height:
        raise InputError(f"none of the {counted(source.count)} of {source.name} could be read")
    table = placed(table)
    check_table(run.folder / "parts", table, "delete it and give the same command again")
    with counting(model) as passes:
        tensors = with_mosaics(settings, planned, model, AuditTensors.load(run.folder, table.height), hardware)
    tensors.save_mosaics(run)
    table = with_joint_columns(table, tensors)
    run.write_parquet("images.parquet", table)
    run.write_maps(MAPS, table.sort("place")["image"].to_list(), tensors.maps)
    skipped = all_skipped(run, source)
    checks = checks_of(settings, table, tensors, thresholds, model=model, skipped=len(skipped), reference=name)
    verdict, speaks = verdict_on(table, checks)
    summary = AuditSummary(
        verdict,
        checks,
        speaks,
        disagreeing(table),
        queries=queries_per_photo(table, passes),
        outside=outside(settings, model, thresholds),
        thresholds=thresholds,
        skipped=skipped,
        reference=None if other is None else comparison(table, model, other),
        drift=None if earlier is None else drift_between(StoredTensors(run.path(MAPS)), earlier, model.input_size),
    )
    drawn: dict[str, str] = {}
    if draw:
        drawn = draw_examples(Kept(settings, model, source, table, tensors), run, checks)
        show_mosaics(settings, model, run, tensors)
        worst = [photo.image for photo in summary.disagree]
        show_disagreement(settings, model, source, run, table, tensors, worst, hardware)
    content = summary.plain(answer(settings, model, table, summary))
    content["finding"] = finding(verdict, checks, thresholds, table.height, summary.outside)
    content["checks"] = grouped(checks, thresholds, drawn)
    run.write_json("summary.json", content)
    return content


def read_audit(folder: Path) -> tuple[pl.DataFrame, AuditTensors]:
    """The table of a complete audit in the order of its tensors, and these."""
    remedy = f"delete the folder {folder} and give the same command again"
    table = read_images(folder, remedy)
    check_table(folder / "images.parquet", table, remedy)
    return table.sort("place"), AuditTensors.load(folder, table.height, remedy)


def with_mosaics(
    settings: Audit, planned: Plan, model: Classifier, tensors: AuditTensors, hardware: Hardware
) -> AuditTensors:
    """The tensors of all photos and what mosaics of them show; none where no two classes have enough photos."""
    tiles = tensors.tiles.float() / 255
    found = look_at_mosaics(
        model, planned.draft, tiles, tensors.tile_targets(), model.input_shape, hardware, settings.seed
    )
    return tensors if found is None else replace(tensors, mosaics=found)


def _audit_parts(
    settings: Audit,
    planned: Plan,
    model: Classifier,
    reference: tuple[str, Classifier] | None,
    source: Source,
    run: Run,
    hardware: Hardware,
    processes: Processes,
    advance: Callable[[float], None],
) -> None:
    """Every part of the photos that the run lacks and that is this process's: its rows and its tensors."""

    def done(number: int) -> bool:
        # both are asked for, so that either may be deleted where it is damaged
        return run.has_part(number) and run.path(f"{PARTS}/{number:06d}.safetensors").exists()

    ready = {number for number in range(-(-len(source) // settings.part)) if done(number)}
    advance(sum(min(settings.part, len(source) - number * settings.part) for number in ready))
    for number, batch, skipped in parts(source, model.preprocessing, settings.part, processes, ready.__contains__):
        rows: list[dict[str, Any]] = []
        first = number * settings.part
        if batch is not None:
            within = Within(advance, len(batch.ids), settings.budget * len(batch.ids))
            with counting(model, within):
                rows, tensors = _audit_batch(
                    settings, planned, model, reference, batch, hardware, settings.randomised - first
                )
            within.end()
            tensors.save(run, number, first, len(source))
        # the order of the tensors' rows, with a gap for each photo that could not be used
        run.append_rows(number, [{**row, "place": first + i} for i, row in enumerate(rows)], skipped)
        if skipped:
            advance(len(skipped))


def _audit_batch(
    settings: Audit,
    planned: Plan,
    model: Classifier,
    reference: tuple[str, Classifier] | None,
    batch: Batch,
    hardware: Hardware,
    randomised: int,
) -> tuple[list[dict[str, Any]], AuditTensors]:
    rows, tensors = measure(settings, model, batch, hardware, min(len(batch.ids), max(0, randomised)), planned)
    if reference is None:
        return rows, tensors
    name, other = reference
    columns, likeness = beside(model, other, settings.explainer, batch, tensors.targets, hardware, name)
    rows = [a | b for a, b in zip(rows, columns, strict=True)]
    return rows, replace(tensors, likeness_to_reference=likeness)
