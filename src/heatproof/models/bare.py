"""A bare network as a classifier: what it says on itself of classes and photos, and what is assumed for it."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from heatproof.errors import ModelError, Remark
from heatproof.models.channels import input_channels
from heatproof.models.classifier import Classifier, unwrap
from heatproof.models.ending import normalises_itself
from heatproof.models.published import Settings
from heatproof.preprocessing import Preprocessing

# what a photo is normalised by where a model says nothing: ImageNet's statistics, torchvision's own preset
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def as_classifier(network: nn.Module) -> Classifier:
    """A bare network with the attributes that it carries; ImageNet's statistics where it says nothing."""
    if isinstance(network, Classifier):
        return network
    inner = unwrap(network)
    size = getattr(inner, "input_size", 224)
    mean, std = getattr(inner, "mean", IMAGENET_MEAN), getattr(inner, "std", IMAGENET_STD)
    if not hasattr(inner, "mean") and not hasattr(inner, "std"):
        mean, std = normalisation(inner, mean, std, size, type(inner).__name__)
        _remark_on_own(inner, mean, size)
    photos: Settings = {name: value for name, fits in SAID.items() if fits(value := getattr(inner, name, None))}
    made = Classifier(
        inner,
        mean=mean,
        std=std,
        classes=getattr(inner, "classes", None),
        input_size=size,
        default_layer=getattr(inner, "default_layer", None),
        logits_key=getattr(inner, "logits_key", None),
        probabilities=getattr(inner, "probabilities", None),
        **photos,
    )
    if getattr(inner, "channels", None) == 4 and made.channels == 4:
        made.channels = 4
    return made


def _remark_on_own(network: nn.Module, mean: tuple[float, ...], size: Any) -> None:
    """Say that a network which normalises by itself is normalised twice, as far as it says nothing."""
    rows, cols = Preprocessing(size).shape
    weight = next((value for value in network.parameters() if value.is_floating_point()), torch.zeros(()))
    image = torch.full((1, len(mean), rows, cols), 0.5, dtype=weight.dtype, device=weight.device)
    if mean == IMAGENET_MEAN and normalises_itself(network, image):
        warnings.warn(
            Remark(
                f"{type(network).__name__} begins with a normalisation of its own and says no mean and std: ImageNet's "
                "are taken as well, before it. If it takes pixels in [0, 1], say so on what your factory returns: "
                "mean, std = (0.0,), (1.0,)"
            ),
            stacklevel=3,
        )


def _numbers(value: object, count: int, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, tuple | list) and len(value) == count and all(isinstance(part, kind) for part in value)


SAID: dict[str, Callable[[Any], bool]] = {
    "resize": lambda value: isinstance(value, int) or _numbers(value, 2, int),
    "fit": lambda value: value in ("crop", "squash"),
    "interpolation": lambda value: value in ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"),
    "antialias": lambda value: isinstance(value, bool),
    "range": lambda value: _numbers(value, 2, (int, float)),
}
"""What a network may say of its photos, by which values: other networks have a method or a layer of the same name."""


def normalisation(
    network: nn.Module, mean: Any, std: Any, size: Any, name: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """RGB's statistics for a network that takes RGB; for any other none, which is said."""
    shape = Preprocessing(size).shape
    try:
        channels = input_channels(network, shape, name)
    except ModelError:  # told where images are first needed
        return mean, std
    if channels == 3 or len(mean) == channels:
        return mean, std
    warnings.warn(
        f"{name} takes {channels} channel{'s' * (channels > 1)} and says no mean and std: its pixels are given as they "
        "are, in [0, 1]; set mean and std on the network if it was trained on others",
        stacklevel=2,
    )
    return (0.0,), (1.0,)
