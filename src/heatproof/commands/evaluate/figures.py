"""The figures of an evaluation: curves of the explainers side by side, likeness under randomisation and noise, maps."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from heatproof.commands.evaluate.measure import Evaluate, curve_name
from heatproof.commands.evaluate.summary import of_maps
from heatproof.commands.titles import column_title
from heatproof.data.photos import fit
from heatproof.data.sources import Source
from heatproof.errors import RunError
from heatproof.metrics.evaluation import Axes, Curved
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.report.figures import Panel, gallery
from heatproof.report.plots import Curve, curve_of, curves, mean_curve
from heatproof.results.run import Run
from heatproof.results.strict import gather_tensor
from heatproof.results.table import SummaryRow
from heatproof.results.viewer import View, add_view
from heatproof.types import is_signed

VIEWED = 24
"""Photos in the page's viewer, those on which the explainers differ most."""


def draw_curves(settings: Evaluate, run: Run) -> None:
    """``figures/<column>.png`` of every metric with curves: a line with its interval per explainer."""
    drawn = {metric.columns[0].name: metric for metric in settings.plain if isinstance(metric, Curved)}
    for name, metric in drawn.items():
        axes, better = metric.axes, metric.columns[0].better
        # a random order is the same for every explainer, and stands beside the order that it is compared with
        if better == "neither":
            continue
        series = {repr(explainer): _line(run, curve_name(explainer, metric), axes) for explainer in settings.explainers}
        if chance := drawn.get(f"{name}_random"):
            series["random order"] = _line(run, curve_name(settings.explainers[0], chance), axes)
        curves(
            series,
            run.path(f"figures/{name}.png"),
            xlabel=axes.xlabel,
            ylabel=axes.ylabel,
            title=f"{name}, {better} is better (95% intervals over images)",
        )


def _line(run: Run, name: str, axes: Axes) -> Curve:
    values = gather_tensor(run.path("curves"), name)
    if values is None or values.ndim != 2 or not values.is_floating_point() or bool(values.isinf().any()):
        raise RunError(
            f"{run.path('curves')} holds no curves {name}; delete it and parts, and give the same command again"
        )
    return mean_curve(values.float().numpy(), axes.x or None)


def draw_randomisation(settings: Evaluate, run: Run, rows: Sequence[SummaryRow]) -> None:
    """``figures/randomisation.png``: how alike the maps stay while blocks are drawn anew."""
    drawn = [row for row in rows if row.by.get("randomised")]
    if not drawn:
        return
    curves(
        {
            name: curve_of(range(1, len(own) + 1), [row.means["spearman_absolute"] for row in own])
            for name, own in _by_explainer(settings, drawn).items()
        },
        run.path("figures/randomisation.png"),
        xlabel=f"blocks drawn anew, from {drawn[0].by['randomised']} on",
        ylabel="Spearman of the absolute maps",
        title="Does the map depend on the weights?",
        references={"no dependence": 1.0, "no likeness": 0.0},
    )


def draw_weight_noise(settings: Evaluate, run: Run, rows: Sequence[SummaryRow]) -> None:
    """``figures/weight_noise.png``: how alike the maps stay when the weights are shaken."""
    shaken = [row for row in rows if row.by.get("weight_noise")]
    if not shaken:
        return
    curves(
        {
            name: curve_of([r.by["weight_noise"] for r in own], [r.means["spearman_absolute"] for r in own])
            for name, own in _by_explainer(settings, shaken).items()
        },
        run.path("figures/weight_noise.png"),
        xlabel="noise on the weights, relative to each tensor's deviation",
        ylabel="Spearman of the absolute maps",
        title="Does the map hold still when the weights are shaken?",
        xlog=True,
    )


def draw_gallery(
    settings: Evaluate, model: Classifier, source: Source, run: Run, hardware: Hardware, table: pl.DataFrame
) -> None:
    """``figures/maps.png`` and the viewer: the photos on which the explainers differ most, each with every map.

    Maps are made anew: keeping all would need memory that grows with the data.
    """
    column = settings.columns[0] if settings.columns else None
    panels, labels = [], []
    apart = _most_apart(of_maps(settings, table), column.name if column else "", max(settings.shown, VIEWED))
    for image, values in apart.items() if settings.shown else ():
        pixels = fit(source[source.ids.index(image)].image, model.preprocessing)
        photo = pixels.permute(1, 2, 0).numpy()
        row, maps = [Panel(photo=photo, caption=image)], []
        target = None
        for explainer in settings.explainers:
            with hardware.autocast():
                explanation = explainer(model, hardware.bring(pixels[None]))
            heatmap = explanation.heatmaps[0].detach().float().cpu().numpy()
            signed, target = is_signed(explainer), int(explanation.targets[0])
            value = values.get(repr(explainer))
            caption = "no value" if value is None else f"{column.name if column else ''} {value:.3g}"
            row.append(Panel(photo=photo, heatmap=heatmap, signed=signed, caption=caption if column else ""))
            maps.append(
                View(
                    f"{column_title(explainer, model)} · {model.class_name(target)}".replace("\n", " "),
                    heatmap,
                    signed,
                    columns={"explainer": repr(explainer), "target": target},
                )
            )
        if len(panels) < settings.shown:
            panels.append(row)
            labels.append("" if target is None else model.class_name(target))
        add_view(run, image, (photo * 255).round().astype(np.uint8), maps)
    if panels:
        gallery(
            panels,
            run.path("figures/maps.png"),
            rows=labels,
            columns=["photo", *(column_title(explainer, model) for explainer in settings.explainers)],
            title=f"{model.name}: the photos on which the explainers differ most",
        )


def _most_apart(maps: pl.DataFrame, column: str, count: int) -> dict[str, dict[str, float | None]]:
    """The photos with the widest span of a column over the explainers, with its values by explainer."""
    if not column:
        return {image: {} for image in maps["image"].unique(maintain_order=True).to_list()[:count]}
    values = pl.col(column).cast(pl.Float64).fill_nan(None)
    span = maps.group_by("image").agg((values.max() - values.min()).fill_null(0.0).alias("span"))
    chosen = span.sort(["span", "image"], descending=[True, False])["image"].to_list()[:count]
    return {
        image: dict(maps.filter(pl.col("image") == image).select("explainer", values).iter_rows()) for image in chosen
    }


def _by_explainer(settings: Evaluate, rows: Sequence[SummaryRow]) -> dict[str, list[SummaryRow]]:
    """In the order of the other figures, so that each explainer keeps its colour."""
    found = {name: [row for row in rows if row.by["explainer"] == name] for name in map(repr, settings.explainers)}
    return {name: own for name, own in found.items() if own}
