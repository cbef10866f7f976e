"""Photos opened for a model: with its classes, and in the channels that it takes."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from heatproof.data.sources import Source, open_data
from heatproof.errors import InputError
from heatproof.models.classifier import Classifier
from heatproof.models.layers import logit_count

SHOWN = 4
"""Classes that the remark about their numbers names."""


def open_photos(
    model: Classifier,
    name: str | Path | Sequence[str | Path],
    *,
    limit: int | None = None,
    seed: int = 0,
    labels_needed: bool = True,
) -> Source:
    """:func:`~heatproof.data.sources.open_data` for ``model``.

    Where the model's classes have no names, class folders are numbered in the sorted order of their names, which is
    said; there must be as many as the model has logits.

    Args:
        labels_needed: otherwise photos in folders that are not the model's classes are opened without labels.

    Raises:
        InputError: the data cannot be opened, or its classes are not the model's.
    """
    unnamed = model.classes is None
    count = logit_count(model) if unnamed else None

    def opened(labels: bool) -> Source:
        return open_data(
            name,
            classes=model.classes,
            limit=limit,
            seed=seed,
            labels=labels,
            preprocessing=model.preprocessing,
            count=count,
        )

    try:
        source = opened(True)
    except InputError:
        if labels_needed:
            raise
        return opened(False)
    # a folder that is no class
    if not labels_needed and any(entry["image"].endswith("/") for entry in source.skipped):
        return opened(False)
    if unnamed and source.classes is not None:
        shown = ", ".join(f"{number} = {name}" for number, name in enumerate(source.classes[:SHOWN]))
        more = ", ..." if len(source.classes) > SHOWN else ""
        warnings.warn(
            f"{model.name} names no classes: the {len(source.classes)} classes of {source.name} are numbered in the "
            f"sorted order of their names, {shown}{more}; give the model its own names where its order is another",
            stacklevel=2,
        )
    return source
