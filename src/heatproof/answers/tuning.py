"""LRP's gammas chosen by a measure of faithfulness on a few photos, instead of by hand."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from heatproof import catalog, spec
from heatproof.answers.given import Data, Model, as_classifier, as_source, built
from heatproof.data.batches import batches
from heatproof.errors import InputError
from heatproof.explainers.lrp.propagation import LRP
from heatproof.metrics.evaluation import Explained, Metric

GAMMAS = (None, 0.1, 0.25, 1.0)
"""For convolutions and for linear layers alike; ``None`` is the composite's own rule."""


class Tried(NamedTuple):
    """One choice of both gammas, and the measure's mean over the photos."""

    gamma_conv: float | None
    gamma_linear: float | None
    value: float


class Tuned(NamedTuple):
    """The explainer that was chosen, and what it was chosen from.

    Attributes:
        explainer: its text (``repr``) is a spec, as the command line takes it.
        tried: every choice, the best first.
        photos: names of the photos that chose. They are no test of the choice: judge it on others.
    """

    explainer: LRP
    tried: list[Tried]
    photos: list[str]


def tune_lrp(
    model: Model,
    data: Data,
    *,
    explainer: str | LRP = LRP(composite="attnlrp"),
    tune: str | Metric = "aopc",
    conv: Sequence[float | None] = GAMMAS,
    linear: Sequence[float | None] = GAMMAS,
    limit: int | None = 8,
    batch_size: int = 8,
) -> Tuned:
    """Choose the gammas of convolutions and of linear layers by a measure on a few photos.

    Every pair is tried; the class explained is the one predicted. **Source** Achtibat et al. 2024, appendix A.2.3, who
    choose them by hand; the search is [ours].

    Args:
        data: photos to choose on, which are then spent: report nothing on them.
        explainer: whose gammas; everything else of it stays.
        tune: a metric with one number per image: ``aopc``, ``deletion(steps=20)``, ``insertion()``, ``road()``.
        conv, linear: what is tried; ``(None,)`` leaves the composite's own rule.
        limit: of the photos, where they are named.

    Raises:
        InputError: another explainer than LRP, nothing to try, no photo, or a measure without a better side.

    >>> import heatproof as hp
    >>> found = hp.tune_lrp("demo", "demo", explainer="lrp", tune="aopc(steps=4)", conv=(None, 0.25), limit=2)
    >>> len(found.tried), found.explainer.composite
    (8, 'lrp')
    """
    model = as_classifier(model)
    [start] = built(explainer, catalog.EXPLAINERS, "explainer")
    if not isinstance(start, LRP):
        raise InputError(f"only lrp() has gammas to tune, got {start!r}")
    metric = spec.build(tune, catalog.METRICS, "metric") if isinstance(tune, str) else tune
    column = metric.columns[0]
    if column.better == "neither":
        raise InputError(f"{metric!r} says not which of two maps is better; tune by aopc(), deletion() or insertion()")
    pairs = list(itertools.product(conv, linear))
    if not pairs:
        raise InputError("give at least one gamma to try for convolutions and one for linear layers")
    tensors = isinstance(data, torch.Tensor | tuple)
    source = as_source(data, model, limit=None if tensors else limit)
    totals, counts, names = [0.0] * len(pairs), [0] * len(pairs), list[str]()
    for batch in batches(source, model.preprocessing, batch_size):
        names += batch.ids
        for place, (gamma_conv, gamma_linear) in enumerate(pairs):
            candidate = replace(start, gamma_conv=gamma_conv, gamma_linear=gamma_linear)
            found = candidate(model, batch.images)
            seen = Explained(model, candidate, batch.images, found.heatmaps, found.targets)
            values = metric.measure(seen)[0].values[0]
            known = values[values.isfinite()]
            totals[place] += float(known.sum())
            counts[place] += len(known)
    if not names:
        raise InputError(f"none of the photos of {source.name} can be read")
    way = 1 if column.better == "up" else -1
    tried = [
        Tried(*pair, total / count if count else math.nan)
        for pair, total, count in zip(pairs, totals, counts, strict=True)
    ]
    tried.sort(key=lambda one: -math.inf if math.isnan(one.value) else way * one.value, reverse=True)
    best = tried[0]
    return Tuned(replace(start, gamma_conv=best.gamma_conv, gamma_linear=best.gamma_linear), tried, names)
