"""What two models answer to the same photos, and how far their heatmaps lie apart."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from heatproof.data.batches import Batch
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.explainers.lrp.propagation import LRP
from heatproof.heatmaps import is_empty
from heatproof.manipulation.backdoor import Backdoor
from heatproof.manipulation.penalties import CenterMass, Location, TopK, on_signed_maps
from heatproof.metrics.fooling import is_fooled
from heatproof.metrics.prediction import agreement, top_k_correct
from heatproof.metrics.removal import unordered
from heatproof.metrics.similarity import known_nissim, spearman
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.training.clean_model import repeated
from heatproof.types import (
    Explainer,
    Explanation,
    Heatmaps,
    Images,
    Labels,
    Logits,
    Penalty,
    PerImage,
    Targets,
    settings,
)

MEASURED = (GradCAM(), LRP(layer="default"), SimpleGrad(layer="default"))
"""Heo et al.'s three columns: Grad-CAM, LRP_T and SimpleGrad_T at the model's default layer."""


@settings
class Compare:
    """What :func:`run_compare` measures.

    Args:
        explainers: of the heatmaps.
        penalties: each one's fooling success rate is measured on every explainer; a swap of two classes on images made
            of the data's photos of both.
        part: photos that are measured together and written at once; a run that is resumed must keep it.
        pairs: two-class images for a swap.
        shown: photos in the figure.

    Raises:
        InputError: an empty list, or the same thing twice.
    """

    explainers: tuple[Explainer, ...] = MEASURED
    penalties: tuple[Penalty, ...] = (Location(), TopK(), CenterMass())
    part: int = 32
    pairs: int = 200
    shown: int = 4

    def __post_init__(self) -> None:
        for what, given in (("explainer", self.explainers), ("penalty", self.penalties)):
            names = [repr(entry) for entry in given]
            if not names or len(set(names)) < len(names):
                raise InputError(f"compare needs at least one {what} and none twice, got {', '.join(names) or 'none'}")


SORT = ("image", "model", "penalty", "explainer", "target")


def compared(
    clean: Classifier,
    fooled: Classifier,
    name: str,
    batch: Batch,
    explainers: Sequence[Explainer],
    penalties: Sequence[Penalty],
    hardware: Hardware = Hardware(),
    swap: tuple[int, int] | None = None,
) -> list[dict[str, Any]]:
    """One row per photo, penalty and explainer: what the two models say, and how far their heatmaps lie apart.

    The class explained is the label, or the clean prediction where there is none; with ``swap`` both classes.
    """
    images, labels = hardware.bring(batch.images), batch.labels.to(hardware.place)
    ids = batch.ids
    if swap:
        images, targets = repeated(images, swap)
        labels, ids = labels.repeat_interleave(2), [image for image in ids for _ in swap]
    else:
        with hardware.autocast(), torch.no_grad():
            targets = torch.where(labels >= 0, labels, clean(images).argmax(1))
    rows = []
    for explainer in explainers:
        with hardware.autocast():
            before, after = explainer(clean, images, targets), explainer(fooled, images, targets)
        maps, lying = before.heatmaps.detach().float(), after.heatmaps.detach().float()
        flat, lying_flat = (unordered(one, "most") for one in (maps, lying))
        unseen = is_empty(maps, "max") & is_empty(lying, "max")
        shared = {
            **_predictions(before.logits.detach().float(), after.logits.detach().float(), labels),
            "spearman": _listed(spearman(lying, maps)),
            # two maps that show no place are as alike as two blank sheets
            "nissim": _listed(
                known_nissim(lying, maps, size=clean.input_size).masked_fill(flat & lying_flat, torch.nan)
            ),
            "empty_clean": is_empty(maps).tolist(),
            "empty_fooled": is_empty(lying).tolist(),
            "flat_clean": flat.tolist(),
            "flat_fooled": lying_flat.tolist(),
        }
        for penalty in penalties:
            test: Any = penalty
            if isinstance(penalty, Backdoor):
                losses, fooling = _awake(penalty, explainer, fooled, images, targets, maps, after, hardware)
            else:
                losses = test.test_loss(lying, maps)
                fooling = is_fooled(losses, test.success)
            # a map that shows no place in either model tells neither the truth nor a lie
            untold = ((flat & lying_flat) | (unseen & _takes_positive_part(penalty))).tolist()
            column = {
                **shared,
                "test_loss": [None if none else loss for none, loss in zip(untold, _listed(losses), strict=True)],
                "fooled": [None if none else lies for none, lies in zip(untold, fooling.tolist(), strict=True)],
            }
            rows += [
                {
                    "image": image,
                    "label": int(labels[i]) if int(labels[i]) >= 0 else None,
                    "target": int(targets[i]),
                    "model": name,
                    "explainer": repr(explainer),
                    "penalty": repr(penalty),
                    **{key: values[i] for key, values in column.items()},
                }
                for i, image in enumerate(ids)
            ]
    return rows


def _takes_positive_part(penalty: Penalty) -> bool:
    """Whether a penalty drops what lies below zero; one without a normalisation decides for itself."""
    signed = on_signed_maps(penalty)
    return signed is not None and signed != penalty


def _awake(
    penalty: Backdoor,
    explainer: Explainer,
    fooled: Classifier,
    images: Images,
    targets: Targets,
    clean: Heatmaps,
    asleep: Explanation,
    hardware: Hardware,
) -> tuple[PerImage, Bool[Tensor, "batch"]]:
    """Test losses with the trigger, and where a backdoor works: map and answer as wanted, honest without the trigger.

    The wanted answer is the penalty's label or, where none is given, the one without the trigger.
    """
    label = penalty.called_up(fooled)
    aimed = targets if label is None else torch.full_like(targets, label)
    with hardware.autocast():
        awake = explainer(fooled, penalty.trigger(images), aimed)
    losses = penalty.test_loss(awake.heatmaps.detach().float(), penalty.wanted(clean))
    honest = is_fooled(penalty.test_loss(asleep.heatmaps.detach().float(), clean), penalty.success)
    answered = awake.logits.argmax(1) == (asleep.logits.argmax(1) if label is None else label)
    return losses, is_fooled(losses, penalty.success) & honest & answered


def _predictions(before: Logits, after: Logits, labels: Labels) -> dict[str, list[Any]]:
    known = labels >= 0
    safe = labels.clamp(min=0)

    def right(logits: Logits, k: int) -> list[bool | None]:
        # what is not known is null, and left out of the mean
        found = top_k_correct(logits, safe, k).tolist()
        return [correct if is_known else None for correct, is_known in zip(found, known.tolist(), strict=True)]

    return {
        "prediction_clean": before.argmax(1).tolist(),
        "prediction": after.argmax(1).tolist(),
        "confidence": after.softmax(1).amax(1).tolist(),
        "correct_clean": right(before, 1),
        "correct_fooled": right(after, 1),
        "top5_clean": right(before, 5),
        "top5_fooled": right(after, 5),
        "agrees": agreement(before, after).tolist(),
    }


def _listed(values: Tensor) -> list[float | None]:
    return [None if value != value else value for value in values.double().tolist()]
