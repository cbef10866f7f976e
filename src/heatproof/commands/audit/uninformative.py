"""How far apart honest architectures lie, and the numbers that tell nothing of an explainer's maps because of it."""

from collections.abc import Mapping, Sequence

import numpy as np

from heatproof.commands.audit.questions import NUMBERS
from heatproof.commands.audit.verdict import CALIBRATING, DOUBT, Thresholds

CHANCE = 0.5
"""The rank of the own witness among those of other photos, for maps that know nothing of their photo."""


def widths(honest: Sequence[Mapping[str, float | None]], architectures: Sequence[str]) -> dict[str, float]:
    """The least deviation of each number: with it no honest network is doubtful where its architecture is left out.

    The farthest that a network lies on the bad side of the median of all networks of other architectures, over the
    deviations from which a number is doubtful. [ours] Numbers that fewer than three architectures have are left out.

    Args:
        honest: the numbers of each network, by name.
        architectures: of each network.

    >>> widths([{"frame": 0.1}] * 3 + [{"frame": 0.6}, {"frame": 0.2}], ["a", "a", "a", "b", "c"])
    {'frame': 0.2}
    """
    found = {}
    for name, about in NUMBERS.items():
        pairs = zip(honest, architectures, strict=True)
        known = [(v, kind) for own, kind in pairs if (v := own.get(name)) is not None and np.isfinite(v)]
        away = [0.0]
        for value, kind in known:
            others = [v for v, other in known if other != kind]
            if len(others) >= CALIBRATING:
                away.append((value - float(np.median(others))) * about.side)
        if len({kind for _, kind in known}) >= CALIBRATING:
            found[name] = round(max(away) / DOUBT, 6)
    return found


def uninformative(thresholds: Thresholds) -> dict[str, str]:
    """The numbers that a map which knows nothing passes in this population, and why they are not judged.

    Those whose doubtful limit lies at or beyond :attr:`~heatproof.commands.audit.questions.Number.nothing`. Two
    classes' maps that are exchanged have as ``mosaic_swap`` what honest ones have as ``mosaic``: where its doubtful
    limit is higher, they pass it. The rank of the own witness needs no limit, unless honest networks have it at chance.
    """
    found = {}
    for name, limits in thresholds.limits.items():
        about = NUMBERS[name]
        doubtful = limits.median + DOUBT * limits.unit(about.least) * about.side
        if about.nothing is not None and (doubtful - about.nothing) * about.side >= 0:
            found[name] = (
                f"honest networks of this explainer have {limits.median:.2g} and spread so far that it is doubtful "
                f"only beyond {doubtful:.2g}, and maps that know nothing have {about.nothing:g}"
            )
        shown = thresholds.limits.get("mosaic")
        if name == "mosaic_swap" and shown is not None and shown.median <= doubtful:
            found[name] = (
                f"two exchanged maps of this explainer have about {shown.median:.2g}, and it would be doubtful only "
                f"beyond {doubtful:.2g}"
            )
        if name == "own_witness" and limits.median - limits.deviation < CHANCE:
            found[name] = "honest networks of this explainer have it no better than chance"
    return found
