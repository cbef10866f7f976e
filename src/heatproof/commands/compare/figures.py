"""Pictures of a comparison: maps before and after, and which explainer's lie is told by which other."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl
import torch

from heatproof.commands.compare.summary import Transfer
from heatproof.commands.titles import column_title
from heatproof.data.batches import batches
from heatproof.data.sources import Source
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.report.figures import Panel, gallery
from heatproof.report.plots import matrix
from heatproof.results.names import file_names
from heatproof.results.run import Run
from heatproof.results.viewer import View, add_view
from heatproof.types import Explainer, Images, Targets, is_signed

VIEWED = 12
"""Photos in the page's viewer."""


@runtime_checkable
class Compared(Protocol):
    """Settings that say whose maps are drawn, and of how many photos."""

    @property
    def explainers(self) -> Sequence[Explainer]: ...

    @property
    def shown(self) -> int: ...


def draw_compared(
    settings: Compared,
    clean: Classifier,
    fooled: Mapping[str, Classifier],
    source: Source,
    run: Run,
    hardware: Hardware,
) -> None:
    """``figures/compared-<model>.png``: a row per photo; the photo, then each explainer before and after.

    Photos are taken evenly from the data. The class explained is the label, or the clean prediction.
    """
    places = sorted({round(place) for place in np.linspace(0, len(source) - 1, max(settings.shown, 1)).tolist()})
    chosen = _explained(source, clean, places, hardware)
    if chosen is None:
        return
    ids, images, there, targets = chosen
    files = file_names(list(fooled))
    for name, model in fooled.items():
        columns, maps = ["photo"], []
        for explainer in settings.explainers:
            title = column_title(explainer, clean)
            for when, network in (("before", clean), ("after", model)):
                columns.append(f"{title}\n{when}")
                with hardware.autocast():
                    maps.append((explainer(network, there, targets), is_signed(explainer)))
        panels = []
        for i in range(len(ids)):
            photo = images[i].permute(1, 2, 0).numpy()
            row = [Panel(photo=photo, caption=clean.class_name(int(targets[i])))]
            for explanation, signed in maps:
                prediction = clean.class_name(int(explanation.logits[i].argmax()))
                heatmap = explanation.heatmaps[i].detach().float().cpu().numpy()
                row.append(Panel(photo=photo, heatmap=heatmap, signed=signed, caption=f"predicts {prediction}"))
            panels.append(row)
        file = run.path(f"figures/compared-{files[name]}.png")
        gallery(panels, file, columns=columns, title=f"{clean.name} · {name}")


def keep_views(
    settings: Compared,
    clean: Classifier,
    fooled: Mapping[str, Classifier],
    source: Source,
    table: pl.DataFrame,
    run: Run,
    hardware: Hardware,
) -> None:
    """The :data:`VIEWED` photos whose maps moved most, with those of all models, for the page's viewer."""
    ids = source.ids
    photos = table.filter(pl.col("image").is_in(ids))
    most = photos.group_by("image").agg(pl.col("nissim").max())
    moved = most.sort("nissim", "image", descending=[True, False], nulls_last=True)
    places = sorted(ids.index(image) for image in moved["image"].head(VIEWED))
    chosen = _explained(source, clean, places, hardware) if places else None
    if chosen is None:
        return
    ids, images, there, targets = chosen
    views: list[list[View]] = [[] for _ in ids]
    for explainer in settings.explainers:
        for name, model in {"": clean, **fooled}.items():
            with hardware.autocast():
                maps = explainer(model, there, targets).heatmaps.detach().float().cpu().numpy()
            columns = {"explainer": repr(explainer), **({"model": name} if name else {})}
            for view, values in zip(views, maps, strict=True):
                view.append(View(repr(explainer), values, is_signed(explainer), name or "clean network", columns))
    for image, photo, view in zip(ids, images, views, strict=True):
        add_view(run, image, (255 * photo.permute(1, 2, 0)).round().byte().numpy(), view)


def draw_transfer(rows: Sequence[Transfer], run: Run) -> None:
    """``figures/transfer-<penalty>.png``: fooled explainers down, measured ones across."""
    files = file_names(list(dict.fromkeys(row.penalty for row in rows)))
    for penalty, file in files.items():
        mine = [row for row in rows if row.penalty == penalty]
        down = list(dict.fromkeys(row.fooled for row in mine))
        across = list(dict.fromkeys(row.measured for row in mine))
        known = all(row.fooled != row.model for row in mine)
        values = np.full((len(down), len(across)), np.nan)
        for row in mine:
            values[down.index(row.fooled), across.index(row.measured)] = row.fsr
        matrix(
            values,
            down,
            across,
            run.path(f"figures/transfer-{file}.png"),
            # a backdoor's text is longer than a small table is wide
            title=f"Fooling success rate, {textwrap.shorten(penalty, 40, placeholder=' ...')}",
            xlabel="measured explainers",
            ylabel="fooled explainers" if known else "networks",
            rates=True,
        )


def _explained(
    source: Source, clean: Classifier, places: list[int], hardware: Hardware
) -> tuple[list[str], Images, Images, Targets] | None:
    """Ids and pixels of photos of the data, the pixels where they are computed with, and the classes explained."""
    shown = replace(source, positions=[source.positions[place] for place in places])
    batch = next(iter(batches(shown, clean.preprocessing, len(places))), None)
    if batch is None:
        return None
    there, labels = hardware.bring(batch.images), batch.labels.to(hardware.place)
    with torch.no_grad(), hardware.autocast():
        targets = torch.where(labels >= 0, labels, clean(there).argmax(1))
    return batch.ids, batch.images, there, targets
