"""What a repair changed, photo by photo, and whether there was a lie to take out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from heatproof.heatmaps import is_empty
from heatproof.metrics.similarity import known_nissim, spearman
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.repairs.repair import Repaired
from heatproof.repairs.witness import likeness
from heatproof.results.table import wilson
from heatproof.training.terms import without_relu
from heatproof.types import Explainer

PART = 32
"""Photos in one pass."""

FAR = 0.0
"""A map whose likeness to its former self is below this has turned away."""
TURNED = 0.10
"""Share of turned maps, over all photos or over those of one class, from which a lie was found."""
FEWEST_OF_A_CLASS = 8
"""Photos of a class that say something of it."""


def measured(
    given: Classifier, repaired: Repaired[Classifier], explainer: Explainer, hardware: Hardware
) -> list[dict[str, Any]]:
    """A row per held-out photo: predictions, and maps of the class that the checkpoint predicts, before and after."""
    signed = without_relu(explainer)
    names = list(repaired.held_out.ids)
    rows: list[dict[str, Any]] = []
    for fed in repaired.held_out.ordered(PART):
        images, labels = hardware.bring(fed.images), fed.labels.tolist()
        with hardware.autocast(), torch.no_grad():
            targets = given(images).argmax(1)
        with hardware.autocast():
            one, other = (signed(model, images, targets) for model in (given, repaired.model))
            before, after = (explainer(model, images, targets).heatmaps for model in (given, repaired.model))
        witness = repaired.witness.at(fed.positions)
        own, new = (found.heatmaps.detach().float() for found in (one, other))
        before, after = before.detach().float(), after.detach().float()
        found, now = one.logits.detach().float(), other.logits.detach().float()
        columns = {
            "prediction_clean": found.argmax(1),
            "prediction": now.argmax(1),
            "confidence": now.softmax(1).amax(1),
            "agrees": found.argmax(1) == now.argmax(1),
            "likeness_before": likeness(own, witness),
            "likeness_after": likeness(new, witness),
            "kept": likeness(new, own),
            "spearman": spearman(after, before),
            "nissim": known_nissim(after, before, size=given.input_size),
            "empty_before": is_empty(before),
            "empty_after": is_empty(after),
        }
        lists = {name: [None if v != v else v for v in values.tolist()] for name, values in columns.items()}
        rows += [
            {
                "image": names[int(fed.positions[i])],
                "label": label if label >= 0 else None,
                "target": int(targets[i]),
                "model": repaired.model.name,
                "explainer": repr(explainer),
                **{name: values[i] for name, values in lists.items()},
                "correct_before": lists["prediction_clean"][i] == label if label >= 0 else None,
                "correct_after": lists["prediction"][i] == label if label >= 0 else None,
            }
            for i, label in enumerate(labels)
        ]
    return rows


@dataclass(frozen=True)
class Found:
    """Whether the maps turned when they were pulled to the truth.

    Attributes:
        turned: share of all photos whose maps turned away from what they were, towards the witness.
        low, high: its 95% interval.
        worst: the class whose maps turned most, and their share; ``None`` where no class has enough photos.
        lie: whether this is more than honest maps do.
        unclear: it would be, and the photos are too few to be sure.
    """

    turned: float
    low: float
    high: float
    worst: tuple[str, float] | None
    lie: bool
    unclear: bool


def found_in(table: pl.DataFrame, model: Classifier) -> Found:
    """Whether there was a lie: the farther a map travels to the truth, the farther from it it was.

    A map has turned where its likeness to its former self is below :data:`FAR` and its likeness to the witness rose. A
    lie is found from :data:`TURNED` of all maps or three times that of one class on, where the interval of all, or of
    the class, lies above :data:`TURNED` too.
    """
    turned = table.with_columns(
        ((pl.col("kept") < FAR) & (pl.col("likeness_after") > pl.col("likeness_before"))).alias("turned")
    )
    share = float(np.mean(turned["turned"].to_list()))
    low, high = wilson(round(share * table.height), table.height)
    classes = turned.group_by("target", maintain_order=True).agg(pl.len().alias("count"), pl.col("turned").mean())
    many = classes.filter(pl.col("count") >= FEWEST_OF_A_CLASS).sort("turned", "target", descending=[True, False])
    worst, seen, sure = None, share >= TURNED, low >= TURNED
    if many.height:
        first = many.row(0, named=True)
        worst = (model.class_name(first["target"]), float(first["turned"]))
        if worst[1] >= 3 * TURNED:
            seen, sure = True, sure or wilson(round(worst[1] * first["count"]), first["count"])[0] >= TURNED
    return Found(share, low, high, worst, sure, seen and not sure)
