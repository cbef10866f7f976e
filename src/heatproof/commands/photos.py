"""Photos opened for a model: with its classes, and in the channels that it takes."""

import math
import warnings
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

import polars as pl

from heatproof.data.sources import Source, open_data
from heatproof.errors import InputError, Remark
from heatproof.models.classifier import Classifier
from heatproof.models.layers import logit_count
from heatproof.report.words import counted
from heatproof.results.run import Run
from heatproof.results.table import FEWEST_IMAGES

SHOWN = 4
"""Classes that the remark about their numbers names."""


def in_one_way(models: Sequence[Classifier]) -> list[Classifier]:
    """Models whose maps are compared cell by cell, to which photos come in one way: else cells lie in other places.

    One that does not say how photos are resized before the crop (weights of a user's own) takes the way of one that
    does, as a copy that shares its network, and with a remark. No other difference is bridged.

    Raises:
        InputError: they say different things; with the flags and attributes that say one for all.
    """
    said = next((model for model in models if model.preprocessing.resize is not None), models[0])
    wanted, found = said.preprocessing, []
    for model in models:
        own = model.preprocessing
        if own != wanted and (own.resize is not None or own != replace(wanted, resize=None)):
            raise InputError(
                f"photos come to {said.name} as {wanted!r} and to {model.name} as {own!r}, so that cells of their maps "
                "would lie in different places of a photo: say one way for all, with --input-size, --resize, --fit, "
                "--interpolation, --channels and --range, or by model.preprocessing = other.preprocessing"
            )
        if own != wanted:
            warnings.warn(
                Remark(
                    f"{model.name} does not say how photos are resized before the crop, and gets them as {said.name} "
                    f"does ({wanted!r}), so that maps can be compared; say otherwise with --resize or --fit"
                ),
                stacklevel=2,
            )
            model = copy(model)
            model.preprocessing = wanted
        found.append(model)
    return found


def looked_at(source: Source, table: pl.DataFrame, run: Run) -> list[str]:
    """Of how many photos some were looked at, in a sentence; nothing where it was all of them.

    Args:
        table: the rows of the run, which tell what was measured where shards are missing.
    """
    some, everything, which = len(source), len(source.listing.ids), "evenly spread over the data"
    if run.ends_as == "partial":
        some, which = len({*table["image"].unique()}.intersection(source.ids)), "those of the shards that were joined"
    if not 0 < some < everything:
        return []
    look = f"This is a look at {some:,} of {everything:,} photos, {which}"
    if some < FEWEST_IMAGES:
        return [f"{look}: too few for intervals."]
    wider = math.sqrt(everything / some)
    return [f"{look}: the intervals are about {wider:.1f} times as wide as those of all."]


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


def too_few(count: int) -> str:
    """That so many photos are too few, to which is added what for.

    >>> too_few(1), too_few(2)
    ('1 photo is too few', '2 photos are too few')
    """
    return f"{counted(count)} {'is' if count == 1 else 'are'} too few"
