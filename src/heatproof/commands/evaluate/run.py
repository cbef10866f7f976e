"""Do the heatmaps name what the model decides on? Faithfulness, robustness, localisation and the randomisation test."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file
from torch import Tensor

from heatproof.commands.explain import slug
from heatproof.data.batches import Batch, batches
from heatproof.data.sources import Source
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.metrics.faithfulness import AOPC, Deletion, Insertion
from heatproof.metrics.localisation import box_iou, pointing_game
from heatproof.metrics.randomisation import Randomisation
from heatproof.metrics.removal import check_region, unordered
from heatproof.metrics.road import ROAD
from heatproof.metrics.robustness import Infidelity, SensitivityMax
from heatproof.models.classifier import Classifier, fingerprint
from heatproof.models.hardware import Hardware
from heatproof.models.layers import default_layer, layer_name
from heatproof.report.plots import Curve, curves, mean_curve
from heatproof.results.run import SORT, Run
from heatproof.results.skipped import all_skipped
from heatproof.results.table import paired_test, summarise
from heatproof.types import Explainer, settings

STANDARD = (
    AOPC(),
    AOPC(order="least"),
    AOPC(order="random"),
    Deletion(),
    Insertion(),
    ROAD(),
    SensitivityMax(),
    Infidelity(),
)
COLUMNS = {
    "AOPC": "aopc",
    "Deletion": "deletion",
    "Insertion": "insertion",
    "ROAD": "road",
    "SensitivityMax": "sensitivity_max",
    "Infidelity": "infidelity",
}
Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 as shares of the image's sides."""


@settings
class Evidence:
    """What :func:`run_evidence` measures.

    Args:
        explainers: whose heatmaps.
        metrics: of :data:`COLUMNS`; an order other than ``most`` is added to the column's name (``aopc_random``).
        randomisation: the randomisation test, or ``None``.
        randomised: images that the randomisation test is made on.
        part: photos that are measured and kept together.

    Raises:
        InputError: nothing to measure, or the same column twice.
    """

    explainers: tuple[Explainer, ...] = (GradCAM(),)
    metrics: tuple[Any, ...] = STANDARD
    randomisation: Randomisation | None = Randomisation()
    randomised: int = 32
    part: int = 16

    def __post_init__(self) -> None:
        columns = [column(metric) for metric in self.metrics]
        if not self.explainers or not (columns or self.randomisation):
            raise InputError("evidence needs at least one explainer and one metric")
        if len(set(columns)) < len(columns):
            raise InputError(f"each metric makes one column, once; got {', '.join(columns)}")


def column(metric: Any) -> str:
    """The column of a metric in ``images.parquet``.

    >>> column(AOPC(order="random")), column(ROAD())
    ('aopc_random', 'road')
    """
    name = COLUMNS.get(type(metric).__name__)
    if name is None:
        raise InputError(f"evidence measures {', '.join(COLUMNS)}, got {metric!r}")
    order = getattr(metric, "order", "most")
    return name if order == "most" else f"{name}_{order}"


def run_evidence(
    asked: Evidence,
    model: Classifier,
    source: Source,
    run: Run,
    *,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    hardware: Hardware = Hardware(),
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Measure every photo's heatmaps into the run folder; a run that was stopped goes on where it was.

    The class explained, and watched while pixels go, is the predicted one.

    Args:
        boxes: of the objects, by image; they add the pointing game and the box's IoU.

    Returns:
        The summary as written to ``summary.json``: a row per explainer with every metric's mean and interval, a row
        per explainer and block of the randomisation test, ``skipped``, and an ``answer`` in sentences.

    Raises:
        InputError: a region that does not divide the image; boxes of which none belongs to an image; no photo.
    """
    for metric in asked.metrics:
        if isinstance(metric, AOPC):
            check_region(metric.region, (model.input_size, model.input_size), metric.ragged)
    for explainer in asked.explainers:
        if layer := getattr(explainer, "layer", None):
            layer_name(model, layer)
    if boxes is not None and not any(boxes.get(image) for image in source.ids):
        raise InputError("the pointing game needs annotations, and none of the boxes belongs to an image of the data")
    run.describe(
        model=[{"name": model.name, "sha256": fingerprint(model), "layer": default_layer(model)}],
        data={"name": source.name, "count": source.count, "sha256": source.fingerprint()},
    )
    model = hardware.host(model)
    seen = 0
    for number, batch in enumerate(batches(source, model.input_size, asked.part)):
        if not run.has_part(number):
            rows, found = measured(asked, model, batch, boxes, hardware, max(0, asked.randomised - seen))
            run.write_tensors(f"curves/{number:06d}.safetensors", found)
            run.append_rows(number, rows)
        seen += len(batch.ids)
        advance(len(batch.ids))
    table = run.merge((*SORT, "randomised"))
    if not table.height:
        raise InputError(f"none of the {source.count} photos of {source.name} could be read")
    maps = table.filter(pl.col("randomised").is_null())
    names = [name for name in (*map(column, asked.metrics), "pointing_game", "box_iou") if name in maps.columns]
    rows = summarise(maps, ["model", "explainer"], [*names, "empty"])
    drawn = table.filter(pl.col("randomised").is_not_null())
    if drawn.height:
        ranks = ["spearman", "spearman_absolute", "ssim"]
        rows += summarise(drawn.sort("turn", maintain_order=True), ["model", "explainer", "randomised"], ranks)
    draw(asked, run, rows)
    summary = {"rows": rows, "skipped": all_skipped(run, source), "answer": answer(asked, maps, rows)}
    run.write_json("summary.json", summary)
    return summary


def measured(
    asked: Evidence,
    model: Classifier,
    batch: Batch,
    boxes: Mapping[str, Sequence[Box]] | None,
    hardware: Hardware,
    randomised: int,
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """The rows of a batch, and its curves ``[images, steps]`` by ``"explainer|column"``."""
    images = hardware.bring(batch.images)
    rows, found = [], {}
    for explainer in asked.explainers:
        with hardware.autocast():
            heatmaps, logits, targets = explainer(model, images)
        heatmaps = heatmaps.detach().float()
        confidence, prediction = logits.detach().float().softmax(1).max(1)
        values: dict[str, Tensor] = {
            "prediction": prediction,
            "confidence": confidence,
            "empty": unordered(heatmaps, "most"),
        }
        for metric in asked.metrics:
            with hardware.autocast():
                if isinstance(metric, SensitivityMax):
                    values[column(metric)] = metric(model, explainer, images, targets)
                elif isinstance(metric, Infidelity):
                    values[column(metric)] = metric(model, images, heatmaps, targets)
                else:
                    lines = metric.curves(model, images, heatmaps, targets)
                    found[f"{explainer!r}|{column(metric)}"] = lines
                    values[column(metric)] = metric.under(lines)
        if boxes is not None and any(boxes.get(image) for image in batch.ids):
            drawn = _padded([boxes.get(image) or () for image in batch.ids]).to(heatmaps.device)
            values |= {"pointing_game": pointing_game(heatmaps, drawn), "box_iou": box_iou(heatmaps, drawn)}
        who = [
            {
                "image": image,
                "label": int(batch.labels[i]) if int(batch.labels[i]) >= 0 else None,
                "target": int(targets[i]),
                "model": model.name,
                "explainer": repr(explainer),
                "randomised": None,
            }
            for i, image in enumerate(batch.ids)
        ]
        lists = {key: value.tolist() for key, value in values.items()}
        rows += [{**entry, **{key: value[i] for key, value in lists.items()}} for i, entry in enumerate(who)]
        if asked.randomisation is not None and randomised:
            chosen = slice(0, randomised)
            for turn, (block, *ranks) in enumerate(
                asked.randomisation(model, explainer, images[chosen], targets[chosen])
            ):
                three = zip(*(rank.tolist() for rank in ranks), strict=True)
                rows += [
                    {**entry, "randomised": block, "turn": turn, "spearman": s, "spearman_absolute": a, "ssim": m}
                    for entry, (s, a, m) in zip(who, three, strict=False)
                ]
    return rows, found


def draw(asked: Evidence, run: Run, rows: Sequence[dict[str, Any]]) -> None:
    """Per explainer its curves, each with its interval, and one figure of the randomisation test."""
    parts = [load_file(path) for path in sorted(run.path("curves").glob("*.safetensors"))]
    for explainer in asked.explainers:
        for name, xlabel, ylabel in (
            ("aopc", "regions removed", "fall of the class's probability"),
            ("deletion", "steps of pixels deleted", "probability of the class"),
            ("insertion", "steps of pixels inserted", "probability of the class"),
            ("road", "fractions removed and imputed", "probability of the class"),
        ):
            chosen = [metric for metric in asked.metrics if COLUMNS[type(metric).__name__] == name]
            series = {
                f"{metric.order} relevant first" if metric.order != "random" else "random order": mean_curve(
                    np.concatenate([part[f"{explainer!r}|{column(metric)}"].numpy() for part in parts])
                )
                for metric in chosen
            }
            if series:
                file = run.path(f"figures/{slug(repr(explainer))}-{name}.png")
                curves(series, file, xlabel=xlabel, ylabel=ylabel, title=f"{name} · {explainer!r}")
    drawn = [row for row in rows if row.get("randomised")]
    series = {}
    for explainer in dict.fromkeys(row["explainer"] for row in drawn):
        own = [row for row in drawn if row["explainer"] == explainer]
        ends = [[row[f"spearman_absolute{end}"] for row in own] for end in ("", "_low", "_high")]
        series[explainer] = Curve(range(1, len(own) + 1), *ends)
    if series:
        curves(
            series,
            run.path("figures/randomisation.png"),
            xlabel=f"blocks drawn anew, from {drawn[0]['randomised']} on",
            ylabel="Spearman of the absolute maps",
            title="Does the map depend on the weights?",
            references={"no dependence": 1.0, "no likeness": 0.0},
        )


def answer(asked: Evidence, maps: pl.DataFrame, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Is the map more faithful than chance, does it survive the randomisation test, and how many maps are empty."""
    told = []
    for explainer in map(repr, asked.explainers):
        own = maps.filter(pl.col("explainer") == explainer)
        empty = int(own["empty"].sum())
        if empty:
            told.append(
                f"{explainer}: {empty} of {own.height} maps are empty or equal everywhere; they give no order, and "
                "their values are missing."
            )
        if {"aopc", "aopc_random"} <= set(own.columns) and empty < own.height:
            test = paired_test(own["aopc"].to_numpy(), own["aopc_random"].to_numpy())
            verdict = "more faithful" if test.low > 0 else "LESS faithful" if test.high < 0 else "NO more faithful"
            told.append(
                f"{explainer}: AOPC is {test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}] above random order: "
                f"the map is {verdict} than chance."
            )
        drawn = [row for row in rows if row.get("randomised") and row["explainer"] == explainer]
        known = [row for row in drawn if row["spearman_absolute"] is not None]
        if known:
            told.append(
                f"{explainer}: with {known[0]['randomised']} drawn anew the map's rank correlation with the true one "
                f"is {known[0]['spearman_absolute']:.2f}, in the end {known[-1]['spearman_absolute']:.2f} (1: it does "
                "not depend on the weights)."
            )
    return told


def _padded(boxes: Sequence[Sequence[Box]]) -> Tensor:
    """Boxes of different numbers as one tensor, rows of NaN where there is none."""
    most = max(len(own) for own in boxes)
    found = torch.full((len(boxes), most, 4), torch.nan)
    for place, own in enumerate(boxes):
        for number, box in enumerate(own):
            found[place, number] = torch.tensor(box)
    return found
