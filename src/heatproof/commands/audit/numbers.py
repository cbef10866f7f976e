"""The numbers of an audit: from the table and the tensors to the values whose means are judged."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from torch import Tensor

from heatproof.commands.audit.measure import Audit, center_distances, likeness
from heatproof.commands.audit.mosaic import exchanged, pointing
from heatproof.commands.audit.reference import swapped
from heatproof.commands.audit.tensors import AuditTensors
from heatproof.commands.audit.verdict import FEWEST, NUMBERS, Check, Thresholds, judge
from heatproof.explainers.together import LayerExplainer
from heatproof.results.table import interval

LEAST_GAIN = 0.02
"""What the witness's order must gain over random, in probability, for the map's share of it to mean anything."""
Values = list[float | None]
"""Mostly one per photo, ``None`` where it is not known."""


def with_joint_columns(table: pl.DataFrame, tensors: AuditTensors) -> pl.DataFrame:
    """The table of :func:`~heatproof.commands.audit.measure.measure` and the columns that need all photos at once."""
    places = table["place"].to_list()
    columns = {"likeness": likeness(tensors.maps), "center_distance": center_distances(tensors.maps)}
    return table.with_columns(
        pl.Series(name, [None if v != v else v for v in values[places].double().tolist()], dtype=pl.Float64)
        for name, values in columns.items()
    )


def numbers(table: pl.DataFrame, tensors: AuditTensors) -> dict[str, Values]:
    """The values, mostly one per photo, whose mean is each of :data:`~heatproof.commands.audit.verdict.NUMBERS`."""

    def column(name: str) -> Values:
        return table[name].to_list() if name in table.columns else []

    def less(a: str, b: str) -> Values:
        pairs = zip(column(a), column(b), strict=True)
        return [None if x is None or y is None else x - y for x, y in pairs]

    found: dict[str, Values] = {
        "agreement": column("agreement"),
        **_of_classes(tensors),
        "faithfulness": less("aopc", "aopc_random"),
        "share": _share(less("aopc", "aopc_random"), less("aopc_witness", "aopc_random")),
        "center_spread": column("center_distance"),
        **_of_mosaics(tensors),
    }
    for name in ("likeness", "frame", "contrast", "softmax_contrast", "randomised", "noise", "fgsm"):
        found[name] = column(name)
    for name in ("reference_spearman", "reference_nissim"):
        found[name] = column(name)
    if tensors.likeness_to_reference is not None:
        likeness_by_class = tensors.likeness_to_reference.diagonal(dim1=1, dim2=2)
        found["reference_worst_class"] = list(_worst(likeness_by_class, tensors.targets))
        pair = swapped(tensors.likeness_to_reference, tensors.targets)
        found["reference_swap"] = [] if pair is None else [pair[0]]
    return found


def _of_classes(tensors: AuditTensors) -> dict[str, Values]:
    """Agreement of the maps of all explained classes: per photo, and per photo of the class that has it lowest."""
    values, classes = tensors.by_class.double(), tensors.targets
    if classes.shape[1] < 2:
        return {}
    return {"all_classes": values.nanmean(1).tolist(), "worst_class": list(_worst(values, classes))}


def _of_mosaics(tensors: AuditTensors) -> dict[str, Values]:
    if tensors.mosaics is None:
        return {}
    pair = exchanged(tensors.mosaics.shares, tensors.mosaics.classes)
    own = pointing(tensors.mosaics.shares, tensors.mosaics.quarters)
    return {
        "mosaic": [None if value != value else value for value in own],
        "mosaic_swap": [] if pair is None else list(pair[0]),
    }


def _worst(values: Tensor, classes: Tensor) -> list[float]:
    """The values of the class that has the lowest mean, of those that were explained on enough photos."""
    worst: list[float] = []
    for chosen in classes.unique().tolist():
        own = values[(classes == chosen) & ~values.isnan()].double().tolist()
        if len(own) >= FEWEST and (not worst or np.mean(own) < np.mean(worst)):
            worst = own
    return worst


def _share(map_gains: Sequence[float | None], witness_gains: Sequence[float | None]) -> Values:
    """The ratio of two means, as values whose mean it is and whose spread is its own (delta method)."""
    pairs = [(a, b) for a, b in zip(map_gains, witness_gains, strict=True) if a is not None and b is not None]
    if not pairs:
        return []
    own, best = (float(np.mean(side)) for side in zip(*pairs, strict=True))
    if best < LEAST_GAIN:
        return []
    return [own / best + (a - own / best * b) / best for a, b in pairs]


def checks_of(
    settings: Audit,
    table: pl.DataFrame,
    tensors: AuditTensors,
    thresholds: Thresholds,
    *,
    with_reference: bool = False,
) -> list[Check]:
    """Every number of the audit, with its verdict, or why there is none.

    Args:
        table: the rows of :func:`~heatproof.commands.audit.measure.measure`, with :func:`with_joint_columns`.
        tensors: of the same photos.
    """
    found, why = numbers(table, tensors), _why_not(settings, table)
    checks = []
    for name, about in NUMBERS.items():
        if with_reference or about.check != "reference":
            values = [value for value in found.get(name, []) if value is not None]
            checks.append(judge(name, interval(values), thresholds, why.get(name, "")))
    return checks


def _why_not(settings: Audit, table: pl.DataFrame) -> dict[str, str]:
    """The numbers that these photos and this explainer cannot give, and why."""
    why: dict[str, str] = {}
    if table["target"].n_unique() == 1:
        one = "all photos are taken for one class, whose maps may be alike"
        why |= dict.fromkeys(("likeness", "center_spread"), one)
        why |= dict.fromkeys(("mosaic", "mosaic_swap"), "all photos are taken for one class")
    if "contrast" not in table.columns:
        text = f"{settings.explainer!r} cannot be told to explain differences of logits"
        why |= dict.fromkeys(("contrast", "softmax_contrast"), text)
    if not isinstance(settings.explainer, LayerExplainer):
        text = f"{settings.explainer!r} takes passes of its own for every map"
        why |= dict.fromkeys(("all_classes", "worst_class", "jump"), text)
    if table.height < FEWEST:
        why = dict.fromkeys(NUMBERS, f"{table.height} photos are too few to tell")
    if 2 * int(table["empty"].sum()) > table.height:
        why = dict.fromkeys(NUMBERS, "most maps are empty or equal everywhere")
    return why
