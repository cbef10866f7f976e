"""Which backbone's maps stay in place: a ranking by MOD and VID, and the paper's comparisons held against it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from heatproof.commands.shift.measure import CLEAN
from heatproof.results.table import Interval, Statistic, interval

Measure = Literal["mod", "vid"]

FAMILIES = {
    "vgg16": "VGG16",
    "vgg16_bn": "VGG16",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "inception_v3": "InceptionV3",
    "legacy_xception": "Xception",
    "xception": "Xception",
}
"""What the paper calls a backbone."""

FINDINGS = (
    ("VGG16", "ResNet50"),
    ("VGG16", "ResNet101"),
    ("VGG16", "InceptionV3"),
    ("VGG16", "Xception"),
    ("ResNet101", "ResNet50"),
    ("ResNet50", "InceptionV3"),
    ("ResNet50", "Xception"),
)
"""Pairs of backbones of which the paper finds the first to shift less."""


LEARNT = 0.5
"""A backbone that gets fewer of the test photos right has not learnt its task: its maps are held against nothing."""


@dataclass(frozen=True)
class Trained:
    """A training of a backbone, with its accuracy.

    Attributes:
        model: its name in the tables.
        validation: accuracy in [0, 1], as is ``test``.
    """

    model: str
    backbone: str
    validation: float
    test: float

    def plain(self) -> dict[str, Any]:
        """As ``summary.json`` holds it."""
        return asdict(self)


@dataclass(frozen=True)
class Ranked:
    """A backbone over its trainings.

    Attributes:
        accuracy: mean test accuracy of its trainings.
        mod: mean MOD over the epsilons and the trainings.
        vid: mean VID of the trainings.
        moved: NISSIM of each photo, ``[photos, trainings, epsilons]``; NaN where it is not known.
    """

    backbone: str
    trainings: int
    accuracy: float
    mod: Interval
    mod_per_epsilon: Mapping[str, float]
    vid: Interval
    vid_per_image: float
    moved: NDArray[np.float64] = field(repr=False, compare=False)

    @property
    def family(self) -> str:
        """Its name in the paper, or its own."""
        name = self.backbone.rpartition(":")[2]
        return FAMILIES.get(name, name)

    def plain(self) -> dict[str, Any]:
        """As ``summary.json`` holds it."""
        numbers = {
            name + end: number
            for name, found in (("mod", self.mod), ("vid", self.vid))
            for end, number in (("", found.value), ("_low", found.low), ("_high", found.high))
        }
        return {
            "backbone": self.backbone,
            "trainings": self.trainings,
            "accuracy": self.accuracy,
            **numbers,
            "mod_per_epsilon": dict(self.mod_per_epsilon),
            "vid_per_image": self.vid_per_image,
        }


@dataclass(frozen=True)
class Claim:
    """The paper finds ``less`` to shift less than ``more``; what is found here.

    Attributes:
        difference: of ``less`` minus ``more``, on the same photos; the interval is over photos.
        agreeing: so many of the trainings have the sign of the difference.
        trainings: pairs of trainings.
        accuracy: the lower of the two backbones' test accuracies.
    """

    less: str
    more: str
    measure: Measure
    difference: Interval
    agreeing: int
    trainings: int
    accuracy: float

    @property
    def verdict(self) -> Literal["as", "unlike", "undecided", "untrained"]:
        """As the paper, unlike it, or undecided: the interval holds 0, or the trainings disagree."""
        if self.accuracy < LEARNT:
            return "untrained"
        if self.agreeing < self.trainings or not (self.difference.high < 0 or self.difference.low > 0):
            return "undecided"
        return "as" if self.difference.value < 0 else "unlike"

    def plain(self) -> dict[str, Any]:
        """As ``summary.json`` holds it."""
        found = {**asdict(self), "verdict": self.verdict}
        return found | {"difference": self.difference._asdict()}

    def sentence(self) -> str:
        """In words."""
        value, low, high, _ = self.difference
        numbers = f"{self.measure.upper()} {value:+.3f} [{low:+.3f}, {high:+.3f}]"
        if self.trainings > 1:
            numbers += f", {self.agreeing} of {self.trainings} trainings"
        if self.verdict == "untrained":
            return (
                f"{self.less} and {self.more} ({numbers}) are not held against the paper: one of the two gets "
                f"{self.accuracy:.0%} of the test photos right and has not learnt its task."
            )
        if self.verdict == "undecided":
            apart = f"{self.less} and {self.more} cannot be told apart ({numbers})"
            return f"{apart}; the paper finds {self.less} to shift less."
        less, found = ("less", "as") if self.verdict == "as" else ("more", "unlike what")
        return f"{self.less} shifts {less} than {self.more} ({numbers}), {found} the paper finds."


def rank(rows: Sequence[Mapping[str, Any]], table: pl.DataFrame, trained: Sequence[Trained]) -> list[Ranked]:
    """Backbones from the least to the most shifted: by the mean MOD over the epsilons and the trainings.

    Args:
        rows: of the summary of a shift.
        table: its images.
    """
    ranking = []
    for backbone in dict.fromkeys(entry.backbone for entry in trained):
        own = [entry for entry in trained if entry.backbone == backbone]
        names = [entry.model for entry in own]
        attacked = [row for row in rows if row["model"] in names and row["attack"] != CLEAN]
        levels = dict.fromkeys(row["epsilon"] for row in attacked)
        mods = {level: float(np.mean([r["mod"] for r in attacked if r["epsilon"] == level])) for level in levels}
        moved = _moved(table, names)
        ranking.append(
            Ranked(
                backbone,
                len(own),
                float(np.mean([entry.test for entry in own])),
                interval(moved, _mod)._replace(value=float(np.mean(list(mods.values())))),
                {f"{level:.4g}": value for level, value in mods.items()},
                interval(moved, _vid)._replace(value=_mean_of(attacked, "vid")),
                _mean_of(attacked, "vid_per_image"),
                moved,
            )
        )
    return sorted(ranking, key=lambda entry: entry.mod.value)


def _mean_of(rows: Sequence[Mapping[str, Any]], column: str) -> float:
    """Over trainings and epsilons; a single epsilon has no VID, and all networks are alike by it."""
    return float(np.mean([row[column] or 0.0 for row in rows]))


def hold_against(ranking: Sequence[Ranked]) -> list[Claim]:
    """Each comparison of the paper that can be made here, by MOD and by VID."""
    found = {entry.family: entry for entry in ranking}
    claims = []
    for less, more in FINDINGS:
        if less not in found or more not in found:
            continue
        a, b = found[less], found[more]
        count = min(a.trainings, b.trainings)
        both = np.stack([a.moved[:, :count], b.moved[:, :count]], 1)
        for measure, statistic in STATISTICS.items():
            gap = partial(_gap, statistic)
            difference = interval(both, gap)
            known = both[~np.isnan(both).any((1, 2, 3))]
            each = [gap(known[:, :, place : place + 1], 0) for place in range(count)]
            agreeing = sum(bool(np.sign(value) == np.sign(difference.value)) for value in each)
            accuracy = min(a.accuracy, b.accuracy)
            claims.append(Claim(a.backbone, b.backbone, measure, difference, agreeing, count, accuracy))
    return claims


def _gap(of: Statistic, values: NDArray[Any], axis: int) -> NDArray[Any]:
    """How far the first of two backbones lies above the second."""
    return of(values[..., 0, :, :], axis) - of(values[..., 1, :, :], axis)


def sentences(ranking: Sequence[Ranked], claims: Sequence[Claim], photos: int) -> list[str]:
    """The ranking in words, and each comparison of the paper that can be made here."""
    shown = ", ".join(
        f"{entry.backbone} (MOD {entry.mod.value:.3f}, VID {entry.vid.value:.3f}, accuracy {entry.accuracy:.1%})"
        for entry in ranking
    )
    first = f"From the least to the most shifted on {photos} test photos: {shown}."
    if not claims:
        return [
            first,
            "None of the paper's comparisons of backbones is among these, so its findings are not tested here.",
        ]
    return [first, *(claim.sentence() for claim in claims)]


def _moved(table: pl.DataFrame, models: Sequence[str]) -> NDArray[np.float64]:
    """NISSIM ``[photos, models, epsilons]`` of all photos of the table, NaN where it is missing."""
    attacked = table.filter(pl.col("attack") != CLEAN)
    images = attacked.select("image").unique().sort("image")
    layers = []
    for model in models:
        own = attacked.filter(pl.col("model") == model).sort("epsilon").pivot("epsilon", index="image", values="nissim")
        layers.append(images.join(own, on="image", how="left").sort("image").drop("image").to_numpy())
    return np.stack(layers, 1).astype(np.float64)


def _mod(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Mean over photos, trainings and epsilons."""
    return values.mean(axis).mean((-1, -2))


def _vid(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Mean over the trainings of the deviation over the epsilons of the photos' mean."""
    return values.mean(axis).std(-1).mean(-1)


STATISTICS: dict[Measure, Statistic] = {"mod": _mod, "vid": _vid}
"""Of NISSIM ``[photos, trainings, epsilons]``."""
