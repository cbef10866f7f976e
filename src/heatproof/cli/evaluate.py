"""``heatproof evaluate``: faithfulness, robustness, localisation and randomisation of explainers, side by side."""

from collections import ChainMap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heatproof import catalog, spec
from heatproof.cli import options
from heatproof.cli.console import foretell, progress
from heatproof.cli.finish import filling, show
from heatproof.commands import columns
from heatproof.commands.quick import looking
from heatproof.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heatproof.data.boxes import Boxes
    from heatproof.data.sources import Source
    from heatproof.metrics.evaluation import Metric
    from heatproof.models.classifier import Classifier

EXPLAINERS = ChainMap(catalog.EXPLAINERS, catalog.CONTROLS)
SIDE_BY_SIDE = ("gradcam()", "simple_grad()", "random_map()")
"""The coarse map that most people look at, the finest and oldest one, and chance: a map no better than it says nothing.

All three cost about one pass forward and back per photo, and need no setting that depends on the network.
"""


def _check_metric(text: str) -> None:
    """A measure of likeness alone does not say which maps are compared.

    Raises:
        SpecError: no metric of that name, naming the nearest.
    """
    name = text.partition("(")[0].strip().casefold()
    if name == "psnr":
        raise SpecError("psnr compares images, and evaluate changes none that it shows: heatproof shift measures it")
    if name in catalog.SIMILARITIES:
        raise SpecError(
            f"{name} compares two maps and does not say which; stability(by={name!r}) compares the map of a photo with "
            "those of the photo under small noise"
        )
    spec.check(text, catalog.METRICS, "metric")


@options.grouped
def evaluate(
    model: Annotated[str, typer.Argument(help="The model, as --model of other commands takes it.")],
    data: Annotated[str, typer.Argument(help="Photos, class folders, a table, shards, hf:NAME, an address, or demo.")],
    work: options.Work,
    photos: options.Photos,
    out: options.Out = None,
    architecture: options.Architecture = None,
    explainer: Annotated[
        list[str] | None,
        typer.Option(
            "--explainer",
            help="A spec such as 'gradcam(relu=False)', or the control random_map(); may be repeated.",
            show_default="gradcam, simple_grad, random_map",
            **options.specs(EXPLAINERS, "explainer"),
        ),
    ] = None,
    layer: options.Layers = None,
    score: options.Score = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="A spec such as 'aopc(region=8)', see list metrics; may be repeated.",
            show_default="aopc in three orders, deletion, insertion, road, sensitivity_max, infidelity, randomisation; "
            "with boxes pointing_game, box_iou",
            callback=options.each(_check_metric),
        ),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            "--boxes",
            help="CSV or Parquet: image,x1,y1,x2,y2 as shares of what the network sees; with width,height of the photo "
            "in its pixels.",
            show_default="none; demo has its own",
        ),
    ] = None,
    quick: options.Quick = False,
    limit: options.Limit = None,
    batch_size: options.BatchSize = 16,
) -> None:
    """Measure explainers side by side: do their maps name what decides, hold still, and need the weights?"""
    from heatproof.answers.given import seeded
    from heatproof.answers.scored import scored
    from heatproof.commands.evaluate.run import STANDARD, Evaluate, effort, run_evaluate
    from heatproof.commands.explain import at_layers
    from heatproof.commands.photos import open_photos
    from heatproof.metrics.localisation import BoxIoU, PointingGame
    from heatproof.processes import Processes

    processes, limit = Processes.here(work.device, work.job), looking(quick, limit)
    explainers = tuple(spec.build(text, EXPLAINERS, "explainer") for text in explainer or SIDE_BY_SIDE)
    chosen = tuple(spec.build(text, catalog.METRICS, "metric") for text in metric or [])
    explained = scored(score, explainers, [photos(options.opening([model], architecture)(model))])
    evaluated = explained.models[0]
    annotated = _boxes(boxes, data, evaluated, chosen)
    asked = Evaluate(
        explainers=at_layers(explained.explainers, layer or []),
        metrics=seeded(chosen or (*STANDARD, *((PointingGame(), BoxIoU()) if annotated else ())), work.seed),
        part=batch_size,
    )
    asked.check(evaluated, annotated)

    def source_of(model: "Classifier") -> "Source":
        return open_photos(model, data, limit=limit, seed=work.seed)

    hardware = work.settled([evaluated], source_of, asked.explainers)
    settings = {"model": model, "data": data, "asked": asked, "limit": limit, "precision": hardware.precision}
    settings |= {"boxes": str(boxes) if boxes else None, "architecture": architecture}
    settings |= photos.given() | explained.given()
    with filling(out, "evaluate", settings, work.seed, work.overwrite, processes, inputs=[model, data, boxes]) as run:
        if not run.done:
            source = source_of(evaluated)
            total = processes.photos(len(source), batch_size)
            own = total // processes.count
            foretell(run, lambda: effort(asked, evaluated, own, hardware, annotated), options.shorter(total, quick))
            with progress("evaluating", total, run=run, sharers=processes.count) as advance:
                run_evaluate(
                    asked,
                    evaluated,
                    source,
                    run,
                    boxes=annotated,
                    hardware=hardware,
                    processes=processes,
                    advance=advance,
                )
    show(run, work, columns.EVALUATE | {name: name for name in map(repr, asked.explainers)}, rows="side_by_side")


def _boxes(file: Path | None, data: str, model: "Classifier", metrics: "Sequence[Metric]") -> "Boxes | None":
    """The boxes of a file, or those that the demo knows of its own digits, where they are of use."""
    from heatproof.data import demo
    from heatproof.data.boxes import read_boxes
    from heatproof.data.sources import DEMO, DEMO_COUNTS

    if file is not None:
        return read_boxes(file, model.preprocessing)
    split = data.removeprefix(DEMO).strip("/") or "test"
    if data.split("/")[0] != DEMO or split not in DEMO_COUNTS:
        return None
    wanted = not metrics or any(metric.question == "localisation" for metric in metrics)
    return demo.boxes(split, DEMO_COUNTS[split]) if wanted else None
