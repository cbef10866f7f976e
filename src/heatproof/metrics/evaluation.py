"""What the metrics of an explainer share: what they look at, what they find, and what their numbers mean.

A metric of ``heatproof evaluate`` is a frozen dataclass with a question, columns and ``measure``; nobody inherits. One
more line in the catalog makes it something that ``--metric`` takes.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from heatproof.types import Explainer, Heatmaps, Images, PerImage, Targets

Question = Literal["faithfulness", "robustness", "localisation", "randomisation"]
"""Does the model decide on what the map names? Does it hold still? Is it on the object? Does it need the weights?"""
Better = Literal["up", "down", "neither"]
Curves = Float[Tensor, "batch steps"]
"""One curve per image; NaN where an image's map is empty or equal everywhere, and so gives no order."""


class Column(NamedTuple):
    """What a number in a table means.

    Attributes:
        name: of the column.
        better: which way is better; ``neither`` for what is there to compare with.
        range: its ends and its unit.
        meaning: in a few words.
        rate: of each photo it is 0 or 1, so that its mean is a rate.

    >>> Column("road", "down", "[0, 1]", "what is left").help
    'what is left; in [0, 1], down is better'
    """

    name: str
    better: Better
    range: str
    meaning: str
    rate: bool = False

    @property
    def help(self) -> str:
        way = "there to compare with" if self.better == "neither" else f"{self.better} is better"
        return f"{self.meaning}; in {self.range}, {way}"


class Axes(NamedTuple):
    """How a metric's curves are drawn; without ``x`` over the number of the step."""

    xlabel: str
    ylabel: str
    x: tuple[float, ...] = ()


@dataclass(frozen=True)
class Explained:
    """Some images, and what an explainer says of a model's answer to them: all that a metric may look at.

    Attributes:
        targets: the classes explained.
        boxes: of the annotated objects, as shares of the sides, rows of NaN where there is none; or ``None``.
    """

    model: nn.Module
    explainer: Explainer
    images: Images
    heatmaps: Heatmaps
    targets: Targets
    boxes: Float[Tensor, "batch objects 4"] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the images."""
        return self.images.shape[2], self.images.shape[3]

    def first(self, count: int) -> "Explained":
        """The first ``count`` images alone."""
        return replace(
            self,
            images=self.images[:count],
            heatmaps=self.heatmaps[:count],
            targets=self.targets[:count],
            boxes=None if self.boxes is None else self.boxes[:count],
        )


class Finding(NamedTuple):
    """What a metric found on some images.

    Attributes:
        values: one per image, for each of the metric's columns.
        curve: what the values were taken from, of a metric that is :class:`Curved`.
        condition: under which they were found (the block drawn anew, the level of noise); ``None``: under none.
    """

    values: tuple[PerImage, ...]
    curve: Curves | None = None
    condition: str | float | None = None


@runtime_checkable
class Metric(Protocol):
    """Measures explained images, one value per image and column.

    Attributes:
        question: which of the four it answers.
        condition: the name of what its findings are told apart by; empty where there is one finding.
        columns: what it puts into the table.
    """

    question: ClassVar[Question]
    condition: ClassVar[str]

    @property
    def columns(self) -> tuple[Column, ...]: ...

    def measure(self, explained: Explained) -> list[Finding]: ...


@runtime_checkable
class Curved(Protocol):
    """A metric whose values are areas or means of curves, and how these are drawn."""

    @property
    def axes(self) -> Axes: ...


@runtime_checkable
class Demanding(Protocol):
    """A metric that cannot be had on every model or data, and says so before anything is measured."""

    def check(self, model: nn.Module, size: tuple[int, int], boxes: bool) -> None: ...
