"""What an evaluation measures on one batch: each explainer's maps, and every metric's values of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from heatproof.data.batches import Batch
from heatproof.data.boxes import Box, Boxes
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.metrics.evaluation import Column, Curves, Demanding, Explained, Metric
from heatproof.metrics.faithfulness import AOPC, Deletion, Insertion
from heatproof.metrics.randomisation import Randomisation
from heatproof.metrics.removal import unordered
from heatproof.metrics.road import ROAD
from heatproof.metrics.robustness import Infidelity, SensitivityMax
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.layers import check_layer
from heatproof.types import Explainer, settings

STANDARD: tuple[Metric, ...] = (
    AOPC(),
    AOPC(order="least"),
    AOPC(order="random"),
    Deletion(),
    Insertion(),
    ROAD(),
    SensitivityMax(),
    Infidelity(),
    Randomisation(),
)
"""Faithfulness, robustness and randomisation; localisation needs boxes."""


@settings
class Evaluate:
    """What :func:`~heatproof.commands.evaluate.run.run_evaluate` measures.

    Args:
        explainers: whose heatmaps, side by side.
        metrics: of the catalog, each column once: ``catalog.METRICS``.
        randomised: of the first so many photos the metrics are measured that draw weights anew or shake them.
        part: photos that are measured together and written at once; a run that is resumed must keep it.
        shown: photos in the figure, those on which the explainers differ most.

    Raises:
        InputError: nothing to measure, or the same thing twice.
    """

    explainers: tuple[Explainer, ...] = (GradCAM(),)
    metrics: tuple[Metric, ...] = STANDARD
    randomised: int = 32
    part: int = 16
    shown: int = 4

    def __post_init__(self) -> None:
        if not self.explainers or not self.metrics:
            raise InputError("evaluate needs at least one explainer and one metric")
        columns = [f"{metric.condition} {column.name}".strip() for metric in self.metrics for column in metric.columns]
        for what, names in (("explainer", list(map(repr, self.explainers))), ("metric's column", columns)):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice:
                raise InputError(f"each {what} is measured once, and {twice} was asked for twice")
        if self.part < 1:
            raise InputError(f"a part has at least 1 photo, got {self.part}")

    @property
    def plain(self) -> tuple[Metric, ...]:
        """The metrics with one finding per map."""
        return tuple(metric for metric in self.metrics if not metric.condition)

    @property
    def conditioned(self) -> tuple[Metric, ...]:
        """The metrics with one finding per condition: a block drawn anew, a level of noise."""
        return tuple(metric for metric in self.metrics if metric.condition)

    @property
    def columns(self) -> list[Column]:
        """The columns of a map's own row."""
        return [column for metric in self.plain for column in metric.columns]

    def check(self, model: Classifier, boxes: Boxes | None) -> None:
        """Stop what cannot be measured on this model and data, before anything is measured."""
        if boxes is not None and not any(metric.question == "localisation" for metric in self.metrics):
            raise InputError("boxes serve pointing_game() and box_iou(), and neither was asked for")
        for metric in self.metrics:
            if isinstance(metric, Demanding):
                metric.check(model, model.input_shape, boxes is not None)
        for explainer in self.explainers:
            check_layer(model, explainer)


@dataclass
class Measured:
    """Rows of ``images.parquet``, and curves ``[images, steps]`` by :func:`curve_name`."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, Curves] = field(default_factory=dict)


def measure(
    settings: Evaluate,
    model: Classifier,
    batch: Batch,
    boxes: Boxes | None,
    hardware: Hardware,
    randomised: int,
    tell: Callable[[], None] = lambda: None,
) -> Measured:
    """The rows of one batch: per explainer one per image, and one per image and condition of the first ``randomised``.

    The class explained, and watched while pixels go, is the predicted one.

    Args:
        tell: is called after each metric of each explainer.
    """
    images = hardware.bring(batch.images)
    drawn = None if boxes is None else padded([boxes.get(image, ()) for image in batch.ids]).to(images.device)
    found = Measured()
    for explainer in settings.explainers:
        with hardware.autocast():
            heatmaps, logits, targets = explainer(model, images)
            heatmaps, logits = heatmaps.detach().float(), logits.detach().float()
            explained = Explained(model, explainer, images, heatmaps, targets, drawn)
            who = _identities(model, explainer, batch, targets)
            confidence, prediction = logits.softmax(1).max(1)
            own: dict[str, Tensor] = {
                "prediction": prediction,
                "confidence": confidence,
                "empty": unordered(heatmaps, "most"),
            }
            for metric in settings.plain:
                for finding in metric.measure(explained):
                    own |= {column.name: v for column, v in zip(metric.columns, finding.values, strict=True)}
                    if finding.curve is not None:
                        found.curves[curve_name(explainer, metric)] = finding.curve
                tell()
            found.rows += _rows(who, own, {metric.condition: None for metric in settings.conditioned})
            if not randomised:
                continue
            some = explained.first(randomised)
            for metric in settings.conditioned:
                for turn, finding in enumerate(metric.measure(some)):
                    values = {column.name: v for column, v in zip(metric.columns, finding.values, strict=True)}
                    found.rows += _rows(who[:randomised], values, {metric.condition: finding.condition, "turn": turn})
                tell()
    return found


def curve_name(explainer: Explainer, metric: Metric) -> str:
    """What a curve is called in ``curves/``."""
    return f"{explainer!r}|{metric.columns[0].name}"


def padded(boxes: Sequence[Sequence[Box]]) -> Tensor:
    """Boxes of different numbers as one tensor, rows of NaN where there is none."""
    most = max(1, *(len(own) for own in boxes))
    found = torch.full((len(boxes), most, 4), torch.nan)
    for place, own in enumerate(boxes):
        for number, box in enumerate(own):
            found[place, number] = torch.tensor(box)
    return found


def _identities(model: Classifier, explainer: Explainer, batch: Batch, targets: Tensor) -> list[dict[str, Any]]:
    return [
        {
            "image": image,
            "label": label if label >= 0 else None,
            "target": target,
            "model": model.name,
            "explainer": repr(explainer),
        }
        for image, label, target in zip(batch.ids, batch.labels.tolist(), targets.tolist(), strict=True)
    ]


def _rows(who: Sequence[dict[str, Any]], values: dict[str, Tensor], more: dict[str, Any]) -> list[dict[str, Any]]:
    lists = {name: value.tolist() for name, value in values.items()}
    return [{**entry, **more, **{name: row[i] for name, row in lists.items()}} for i, entry in enumerate(who)]
