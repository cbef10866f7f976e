"""A model by name, and photos as they lie about: files, pictures, arrays, lists of these."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from heatproof.data.in_memory import Picture, pixels_of
from heatproof.data.photos import fit
from heatproof.errors import InputError, ModelError
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.preprocessing import Preprocessing
from heatproof.types import Images

Model = str | Path | Classifier
"""A name as on the command line, or the model itself."""
NamedImages = tuple[Images, tuple[str, ...]]
"""Pixels, and what the photos are called; no names for tensors."""


def as_classifier(model: Model | nn.Module) -> Classifier:
    """The model in eval mode.

    Raises:
        ModelError: a bare network, whose normalisation nobody knows; or a name that cannot be loaded.
    """
    if isinstance(model, Classifier):
        return model
    if isinstance(model, nn.Module):
        raise ModelError(
            f"{type(model).__name__} is a bare network, and its normalisation is not known: wrap it, "
            "hp.Classifier(network, mean=(...), std=(...), classes=[...], input_size=...)"
        )
    return load(str(model))


def open_photo(photo: Picture, model: Model | None = None) -> Images:
    """One photo as a batch of one, ``[1, channels, rows, cols]`` in [0, 1].

    Args:
        photo: a path, a picture that Pillow has opened, or an array (of 8 bits, or of numbers in [0, 1]).
        model: fit it to this model's input, as every verb does; ``None``: at its own size.

    Raises:
        InputError: it cannot be read, or is no photo.

    >>> open_photo(torch.zeros(3, 5, 4)).shape
    torch.Size([1, 3, 5, 4])
    """
    if model is None:
        pixels = pixels_of(photo)
        return fit(pixels, Preprocessing((pixels.shape[-2], pixels.shape[-1])))[None]
    return fit(pixels_of(photo), as_classifier(model).preprocessing)[None]


def opened(model: Any, images: Any, targets: Any) -> NamedImages:
    """What an explainer is to be given in the place of ``images``: a photo, several, or a batch.

    One photo and a list of several classes becomes so many copies of it, of which each class is explained.

    Args:
        model: whose photos they are; what is no classifier takes tensors only.

    Raises:
        InputError: no photo, one that cannot be read, or other classes than photos.
        ModelError: a bare network, of which nobody knows how photos come to it.
    """
    names: tuple[str, ...] = ()
    if not isinstance(images, Tensor) and isinstance(model, nn.Module):
        images, names = open_photos_for(model, images)
    alone = isinstance(images, Tensor) and images.ndim == 4 and len(images) == 1
    if alone and isinstance(targets, list | tuple):
        return spread(images, names, len(targets))
    return images, names


def open_photos_for(model: nn.Module, photos: Any) -> NamedImages:
    """Photos fitted to the model, where it is.

    Raises:
        InputError: no photo, or one that cannot be read, by its name.
    """
    several = listed(photos)
    if several is None:
        raise InputError(
            "an explainer takes images [batch, channels, height, width], a photo (a path, a picture of Pillow's, an "
            f"array), or a list of photos, got {type(photos).__name__}"
        )
    if not several:
        raise InputError("there is no photo in this list")
    if isinstance(photos, list | tuple) and isinstance(photos[0], Tensor) and photos[0].ndim == 4:
        raise InputError("images come with something else in one list, as a data loader's labels: give images, labels")
    classifier = as_classifier(model)
    found = []
    for photo in several:
        if isinstance(photo, str | Path) and Path(photo).is_dir():
            raise InputError(
                f"{photo} is a folder: hp.explain(model, {str(photo)!r}) goes through it in batches, and an explainer "
                "takes photos, one or a list"
            )
        found.append(open_photo(photo, classifier))
    there = next((value.device for value in classifier.parameters()), torch.device("cpu"))
    return torch.cat(found).to(there), tuple(called(several))


def listed(photos: Any) -> list[Any] | None:
    """A photo or several as a list, an array ``[batch, ...]`` as its photos; ``None`` for what is neither."""
    if isinstance(photos, np.ndarray) and photos.ndim == 4:
        return list(photos)
    if isinstance(photos, list | tuple | Iterator):
        return list(photos)
    return [photos] if isinstance(photos, str | Path | Image.Image | np.ndarray | Tensor) else None


def called(photos: Sequence[Any]) -> list[str]:
    """What photos are called: the names of files, the places of others."""
    return [
        Path(photo).name if isinstance(photo, str | Path) else _place(photo, place)
        for place, photo in enumerate(photos)
    ]


def _place(photo: Any, place: int) -> str:
    file = getattr(photo, "filename", "") if isinstance(photo, Image.Image) else ""
    return Path(file).name if isinstance(file, str | Path) and str(file) else f"photo {place}"


def spread(
    images: Images, names: tuple[str, ...], classes: int
) -> tuple[Float[Tensor, "classes channels height width"], tuple[str, ...]]:
    """As many images as classes: one photo once for each class, several one each.

    Raises:
        InputError: no class, or neither one photo nor as many as there are classes.
    """
    if classes == len(images):
        return images, names
    if classes == 0:
        raise InputError("there is no class in this list; targets=None explains what is predicted")
    if len(images) == 1:
        return images.repeat(classes, 1, 1, 1), (names or ("0",)) * classes
    if classes == 1:
        way = "; one class for all is given without brackets"
    else:
        way = "; several classes of one photo get a map each, of several photos ask for one photo at a time"
    raise InputError(f"one class for all photos or one for each: expected {len(images)}, got {classes}{way}")
