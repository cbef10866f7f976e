"""How far an attack moves the maps of each network, photo by photo."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from heatproof.data.batches import Batch, batches
from heatproof.data.sources import Source
from heatproof.metrics.similarity import known_nissim, spearman
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.results.run import Run
from heatproof.robust.attack import MapAttack
from heatproof.types import Explainer

SORT = ("network", "epsilon", "image")
"""The order of ``images.parquet``."""
PART = 32
"""Photos in one pass."""
METRICS = {
    "topk_intersection": "overlap",
    "spearman": "spearman",
    "nissim": "nissim",
    "kept": "kept",
    "correct": "top1_judged",
}
"""Columns of ``images.parquet`` and what the summary calls their means."""


class Judged(NamedTuple):
    """A network to be attacked.

    Attributes:
        name: given, plain or defended.
        accuracy: over all held-out photos.
        method: by which it was trained; empty of the given one.
    """

    name: str
    model: Classifier
    accuracy: float
    method: str = ""


def measure(
    networks: Sequence[Judged],
    explainer: Explainer,
    attack: MapAttack,
    epsilons: Sequence[float],
    source: Source,
    run: Run,
    hardware: Hardware,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """One row per network, epsilon and photo, into the run folder; what is there already is not done again."""
    for network in networks:
        for place, epsilon in enumerate(epsilons):
            against = replace(attack, epsilon=epsilon)
            for number, batch in enumerate(batches(source, network.model.preprocessing, PART)):
                part = f"{network.name.replace(' ', '-')}-{place}-{number:06d}"
                if not run.has_part(part):
                    run.append_rows(part, list(_rows(network, explainer, against, batch, hardware)))
                advance(len(batch.ids))


def _rows(
    network: Judged, explainer: Explainer, attack: MapAttack, batch: Batch, hardware: Hardware
) -> Iterator[dict[str, Any]]:
    """Maps of the predicted class, before and after the attack."""
    model, images = network.model, hardware.bring(batch.images)
    with hardware.autocast():
        targets = explainer(model, images).targets
        moved = attack(model, explainer, images, targets)
    clean, attacked = (found.heatmaps.detach().float() for found in (moved.clean, moved.attacked))
    values = {
        "topk_intersection": attack.overlap(moved),
        "spearman": spearman(clean, attacked),
        "nissim": known_nissim(clean, attacked, size=model.input_size),
        "kept": moved.attacked.logits.detach().argmax(1) == targets,
    }
    lists = {name: [None if v != v else v for v in found.tolist()] for name, found in values.items()}
    for place, label in enumerate(batch.labels.tolist()):
        prediction = int(targets[place])
        yield {
            "image": batch.ids[place],
            "network": network.name,
            "method": network.method,
            "explainer": repr(explainer),
            "epsilon": attack.epsilon,
            "label": label if label >= 0 else None,
            "prediction": prediction,
            "correct": prediction == label if label >= 0 else None,
            **{name: found[place] for name, found in lists.items()},
        }
