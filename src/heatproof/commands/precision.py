"""``--precision auto``: half precision where the device computes in it and the maps of the first photos bear it."""

import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy

import torch

from heatproof.data.batches import batches
from heatproof.data.sources import Photos
from heatproof.errors import InputError, LayerError, ModelError, Remark
from heatproof.explainers.together import explain_together
from heatproof.metrics.similarity import spearman
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware, Precision, computes_in_bf16
from heatproof.types import Explainer, Images

FIRST = 8
"""Photos whose maps are made in both precisions."""
ALIKE = 0.99
"""The rank correlation with full precision that maps in half precision must have, mean over the first photos."""


def settle(
    device: str,
    precision: Precision,
    models: Sequence[Classifier],
    photos: Callable[[Classifier], Photos],
    explainers: Sequence[Explainer],
) -> Hardware:
    """The device and the precision of a run; of ``auto`` what is taken, and why, is said in a remark.

    ``bf16`` is taken where the device computes in it (:func:`~heatproof.models.hardware.computes_in_bf16`) and the maps
    of the first :data:`FIRST` photos, for the class that is predicted in full precision, have a rank correlation of at
    least :data:`ALIKE` with those in full precision: Spearman's over the cells, mean over the photos, the least over
    models and explainers. It depends on nothing that is timed, so that a run that was stopped goes on in the same one.

    Args:
        photos: of each model.

    Raises:
        InputError: for a device that is not there, or an unknown precision.
    """
    if precision != "auto":
        return Hardware(device, precision)
    full, half = Hardware(device), Hardware(device, "bf16")
    why = f"fp32: {full.place.type} does not compute in bf16 here"
    if computes_in_bf16(full.place):
        chosen, why = _by_maps(full, half, models, photos, explainers)
        full = half if chosen else full
    warnings.warn(Remark(f"precision auto takes {why}"), stacklevel=2)
    return full


def _by_maps(
    full: Hardware,
    half: Hardware,
    models: Sequence[Classifier],
    photos: Callable[[Classifier], Photos],
    explainers: Sequence[Explainer],
) -> tuple[bool, str]:
    """Whether half precision is taken, and why."""
    found = []
    for model in models:
        batch = next(iter(batches(photos(model), model.preprocessing, FIRST)), None)
        if batch is None:
            continue
        try:
            found += correlations(model, batch.images, explainers, full, half)
        except (RuntimeError, ModelError, LayerError, InputError) as error:
            return False, f"fp32: in bf16 the maps of {model.name} cannot be made ({str(error).splitlines()[0][:200]})"
    known = [value for value in found if value == value]
    if not known:
        return False, "fp32: no map of the first photos has an order that could be compared"
    least = min(known)
    seen = f"rank correlation of the first {FIRST} photos' maps with fp32: {least:.4f}, and {ALIKE} is wanted"
    return least >= ALIKE, f"{'bf16' if least >= ALIKE else 'fp32'} ({seen})"


def correlations(
    model: Classifier, images: Images, explainers: Sequence[Explainer], full: Hardware, half: Hardware
) -> list[float]:
    """Of each explainer, Spearman's correlation of its maps in both precisions, mean over the images.

    **Range** [-1, 1]; NaN where no map has an order.
    """
    # a copy, since the other layout alone would round differently in full precision
    other = half.host(deepcopy(model))
    model = full.host(model)
    with full.autocast():
        exact = explain_together(model, full.bring(images), explainers)
    with half.autocast():
        rounded = explain_together(other, half.bring(images), explainers, exact.targets)
    pairs = zip(exact.heatmaps, rounded.heatmaps, strict=True)
    return [float(torch.nanmean(spearman(a[:, 0].float(), b[:, 0].float()))) for a, b in pairs]
