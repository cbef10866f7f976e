"""What must hold before the numbers of an audit mean anything: photos enough, and a model that answers by them."""

from collections import Counter

import numpy as np
import polars as pl

from heatproof.commands.audit.verdict import FEWEST
from heatproof.commands.photos import too_few

LEAST_GAIN = 0.02
"""What the witness's order must gain over random, in probability, for the map's share of it to mean anything."""
LEAST_ODDS = 0.5
"""The same in log-odds."""
SATURATED = 0.99
"""Mean confidence from which probabilities are asked no more, but log-odds."""
ONE_CLASS, OTHERS = 0.7, 5
"""Photos of one class: a larger share is labelled so, and of no other class there are so many; without labels, a larger
share is taken for it, since the photos of one class are taken for others too."""
RIGHT = 0.5
"""The share of labelled photos that a model gets right at least, as those did that thresholds come from."""

Values = list[float | None]
"""Mostly one per photo, ``None`` where it is not known."""


def gains(table: pl.DataFrame, order: str, *, odds: bool) -> Values:
    """How much more is lost in an order (``aopc``, ``aopc_witness``) than at random, per photo."""
    suffix = "_log_odds" if odds else ""
    wanted = [f"{order}{suffix}", f"aopc_random{suffix}"]
    if not set(wanted) <= set(table.columns):
        return []
    pairs = zip(*(table[name].to_list() for name in wanted), strict=True)
    return [None if one is None or other is None else one - other for one, other in pairs]


def is_saturated(table: pl.DataFrame) -> bool:
    """Whether probabilities are near 1 on average, and the log-odds were kept; runs of version 0.1 have none."""
    sure = table["confidence"].cast(pl.Float64).to_list() if "confidence" in table.columns else []
    return bool(sure) and float(np.mean(sure)) >= SATURATED and "aopc_log_odds" in table.columns


def witness_gains(table: pl.DataFrame) -> bool:
    """Whether what the model answers depends on the squares that the witness finds."""
    odds = is_saturated(table)
    known = [gain for gain in gains(table, "aopc_witness", odds=odds) if gain is not None]
    return bool(known) and float(np.mean(known)) >= (LEAST_ODDS if odds else LEAST_GAIN)


def unmet(table: pl.DataFrame, skipped: int = 0) -> list[str]:
    """Why no number can be judged; nothing where all can.

    Args:
        skipped: photos that could not be read.
    """
    count, found = table.height, []
    if count < FEWEST:
        return [f"{too_few(count)} to tell"]
    if skipped > count:
        found.append(f"{skipped} of {skipped + count} photos could not be read, and nobody chose which were left")
    if 2 * int(table["empty"].sum()) > count:
        found.append("most maps are empty or equal everywhere")
    right = table["correct"].drop_nulls().cast(pl.Float64).to_list()
    if len(right) >= FEWEST and (accuracy := float(np.mean(right))) < RIGHT:
        found.append(
            f"the model gets {1 - accuracy:.0%} of these photos wrong, and thresholds come from networks that were "
            "mostly right"
        )
    if not found and not witness_gains(table):
        found.append("what the model answers hardly depends on any part of the photos, so no map could show it")
    return found


def one_class(table: pl.DataFrame) -> bool:
    """Whether the photos are of one class: by their labels, which also say how many others there are, or as taken."""
    labels = table["label"].drop_nulls().to_list()
    known = len(labels) == table.height
    counts = sorted(Counter(labels if known else table["target"].to_list()).values(), reverse=True)
    if not counts or counts[0] <= ONE_CLASS * table.height:
        return False
    return not known or len(counts) < 2 or counts[1] < OTHERS
