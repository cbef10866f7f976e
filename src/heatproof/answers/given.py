"""What people give: names, paths, texts or the objects themselves; here they become the objects."""

import warnings
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heatproof import catalog, spec
from heatproof.answers.opened import Model, as_classifier, listed, open_photo, open_photos_for
from heatproof.commands.compare.summary import Fooled
from heatproof.commands.fool.edit import Edit
from heatproof.commands.fool.run import Fool
from heatproof.commands.photos import open_photos
from heatproof.data.in_memory import Picture, open_tensors
from heatproof.data.sources import Source
from heatproof.errors import HeatproofError, InputError, Remark, RunError, SpecError, callers_level
from heatproof.metrics.evaluation import Metric
from heatproof.models.classifier import Classifier
from heatproof.models.layers import at_named_layer
from heatproof.models.loading import is_run
from heatproof.results.reading import read_run
from heatproof.training.settings import FineTune

T = TypeVar("T")

Data = str | Path | Picture | Sequence[Picture] | Source | Tensor | tuple[Tensor | NDArray[Any], Any]
"""A data name, photos (files, pictures of Pillow's, arrays), opened data, images in [0, 1], or images with labels."""

MEASURED = ChainMap(catalog.EXPLAINERS, catalog.CONTROLS)
"""What may be measured side by side: explainers, and what only looks like one."""
LIES = ChainMap(catalog.PENALTIES, catalog.TRIGGERS)
METHODS = ChainMap(catalog.TRAININGS, catalog.ATTACKS)


def as_source(data: Data, model: Classifier, *, limit: int | None = None, seed: int = 0) -> Source:
    """The photos, with labels that count through the model's classes.

    Raises:
        InputError: the data is not there, is of no kind that is known, or its labels do not fit the classes; or a
            ``limit`` for data that is opened already.
    """
    images, known = _tensors(data)
    if images is None and not isinstance(data, Source) and (pictures := _pictures(data)) is not None:
        images = open_photos_for(model, pictures)[0].cpu()
    if isinstance(data, Source) or images is not None:
        if limit is not None:
            raise InputError(
                "limit= is for data by name, and so is quick=True; of opened data or tensors give as many photos as "
                "you want"
            )
        if isinstance(data, Source):
            return data
        assert images is not None
        if images.ndim == 4 and images.shape[1] == 1 and model.channels == 3:
            warnings.warn(
                Remark(f"the images have 1 channel, and {model.name} takes 3: each is taken for a grey photo"),
                stacklevel=callers_level(),
            )
        return open_tensors(images, known)
    if isinstance(data, str | Path):
        return open_photos(model, data, limit=limit, seed=seed)
    if not isinstance(data, Sequence):
        raise InputError(
            "data is a folder's name, photos (files, pictures of Pillow's, arrays), opened data, a tensor of images or "
            f"(images, labels), got {type(data).__name__}"
        )
    names: Any = list(data)
    return open_photos(model, names, limit=limit, seed=seed)


def _pictures(data: Any) -> list[Any] | None:
    """Photos that are in memory, or among files; ``None`` for names alone."""
    photos = None if isinstance(data, Iterator) else listed(data)
    return photos if photos and any(not isinstance(photo, str | Path) for photo in photos) else None


def _tensors(data: Any) -> tuple[Tensor | None, Any]:
    """Images and labels, where the data are these."""
    if isinstance(data, Tensor):
        return data, None
    if isinstance(data, tuple | list) and len(data) == 2:
        images, labels = data
        if isinstance(images, np.ndarray) and images.ndim == 4 and np.ndim(labels) == 1:
            return torch.cat([open_photo(image) for image in images]), labels
        if isinstance(images, Tensor) and images.ndim == 4:
            return images, labels
    return None, None


def shape_of(data: Data) -> tuple[int, int] | None:
    """Rows and columns of images that are in memory as one tensor."""
    images, _ = _tensors(data)
    return None if images is None else (int(images.shape[-2]), int(images.shape[-1]))


def seeded(metrics: Sequence[T], seed: int) -> tuple[T, ...]:
    """Metrics whose spec names no seed of its own draw from the run's."""
    return tuple(replace(m, seed=seed) if _seed(m) == 0 and seed else m for m in metrics)  # type: ignore[type-var]


def _seed(metric: Any) -> int | None:
    named = is_dataclass(metric) and any(field.name == "seed" for field in fields(metric))
    return metric.seed if named else None  # type: ignore[union-attr]


def named(data: Data) -> str | list[str]:
    """What a run folder calls the data that was given."""
    if isinstance(data, Source):
        return data.name
    if _tensors(data)[0] is not None:
        return "tensors"
    if _pictures(data) is not None:
        return "photos"
    return str(data) if isinstance(data, str | Path) else [str(part) for part in data]  # type: ignore[union-attr]


def several(given: Any) -> list[Any]:
    """One, several or none of a kind, as a list.

    >>> several("gradcam()"), several(None), several([1, 2])
    (['gradcam()'], [], [1, 2])
    """
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def built(given: Any, entries: Mapping[str, Callable[..., Any]], kind: str) -> tuple[Any, ...]:
    """Objects, of which those that are texts are built: ``"fgsm()"`` or ``hp.FGSM()``, one or several.

    Raises:
        SpecError: a text that cannot be read, or what is neither a text nor can be called.
    """
    found = [spec.build(one, entries, kind) if isinstance(one, str) else one for one in several(given)]
    for one in found:
        # a metric is asked to measure, not called
        if isinstance(one, type) or not (callable(one) or isinstance(one, Metric)):
            way = f"; did you mean {one.__name__}()?" if isinstance(one, type) else ""
            raise SpecError(f"{kind}: expected a text such as {next(iter(entries))!r} or an object, got {one!r}{way}")
    return tuple(found)


def at_named_layers(explainers: Sequence[T], model: Classifier) -> tuple[T, ...]:
    """Explainers of a layer that was given as a module, with its name: what a run folder can record."""
    return tuple(at_named_layer(model, explainer) for explainer in explainers)


def as_fooled(model: Model) -> Fooled:
    """A model, with what its run folder says it was fooled with."""
    found = as_classifier(model)
    return Fooled(found) if isinstance(model, Classifier) else fooled_as_told(str(model), found)


def fooled_as_told(name: str, model: Classifier) -> Fooled:
    """The model of that name with what its run folder, if it is one, says it was fooled with.

    Raises:
        RunError: the run folder does not say what was asked.
    """
    if not is_run(name):
        return Fooled(model)
    record = read_run(name).record
    settings = record.get("settings", {}) if record.get("command") == "fool" else {}
    known = settings.get("asked") if isinstance(settings, dict) else None
    if not isinstance(known, str):
        return Fooled(model)
    own = {"fool": Fool, "edit": Edit, "fine_tune": FineTune}
    try:
        asked = spec.build(known, ChainMap(own, LIES, catalog.EDITS, catalog.EXPLAINERS, catalog.SCORES), "run")  # type: ignore[arg-type]
    except HeatproofError as error:
        raise RunError(f"{name}/run.json does not say what was asked of the fooling: {str(error)[:300]}") from error
    if not isinstance(asked, Fool | Edit) or not callable(asked.explainer) or not callable(asked.penalty):
        raise RunError(f"{name}/run.json does not say what was asked of the fooling, but {known[:200]!r}")
    return Fooled(model, asked.explainer, asked.penalty)
