"""Pictures of a comparison: maps before and after, and which explainer's lie is told by which other."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from heatproof.commands.compare.summary import Transfer
from heatproof.commands.explain import column_title
from heatproof.data.batches import batches
from heatproof.data.sources import Source
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.preprocessing import Preprocessing
from heatproof.report.figures import Panel, gallery
from heatproof.report.plots import matrix
from heatproof.results.names import file_names
from heatproof.results.run import Run
from heatproof.types import Explainer, is_signed


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
    chosen = _photos(source, clean.preprocessing, places)
    if chosen is None:
        return
    ids, images, labels = chosen
    there = hardware.bring(images)
    with torch.no_grad(), hardware.autocast():
        targets = torch.where(labels.to(hardware.place) >= 0, labels.to(hardware.place), clean(there).argmax(1))
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


def draw_transfer(rows: Sequence[Transfer], run: Run) -> None:
    """``figures/transfer-<penalty>.png``: fooled explainers down, measured ones across."""
    files = file_names(list(dict.fromkeys(row.penalty for row in rows)))
    for penalty, file in files.items():
        mine = [row for row in rows if row.penalty == penalty]
        down = list(dict.fromkeys(row.fooled for row in mine))
        across = list(dict.fromkeys(row.measured for row in mine))
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
            xlabel="measured with",
            ylabel="fooled through",
            rates=True,
        )


def _photos(
    source: Source, size: Preprocessing, places: list[int]
) -> tuple[list[str], torch.Tensor, torch.Tensor] | None:
    shown = replace(source, positions=[source.positions[place] for place in places])
    batch = next(iter(batches(shown, size, len(places))), None)
    return None if batch is None else (batch.ids, batch.images, batch.labels)
