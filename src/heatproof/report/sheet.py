"""The paper under a figure: equal panels with titles, names, captions and slim colour bars, measured in inches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heatproof.report.overlay import Array, Scale
from heatproof.report.style import FAINT, INK, LARGE, MUTED, NORMAL, SMALL, fit, short_number, text_width

AREA = 2.25
"""Of a panel in square inches, so that wide and tall photos weigh the same."""
MARGIN, GAP = 0.12, 0.14
LABELS = 1.15
"""The most room for the names of the rows."""
BAR, BAR_TEXT = 0.055, 0.15
"""The slim colour bar, and the numbers under it."""
LINE = 1.25 / 72
"""The depth of a line of text, per point of its size."""


@dataclass
class Sheet:
    """A grid of equal panels, placed in inches from the top left.

    Attributes:
        rows, cols: how many panels.
        width, height: of a panel.
        left: what lies left of the first column.
        heads: the depth of the columns' titles.
        below: the depth of what lies under each panel.
        title, foot: texts over and under all; may be empty.
    """

    rows: int
    cols: int
    width: float
    height: float
    left: float
    heads: float
    below: float
    title: str
    foot: str

    def __post_init__(self) -> None:
        inner = self.left + self.cols * self.width + (self.cols - 1) * GAP
        self.across = inner + MARGIN
        usable = self.across - 2 * MARGIN
        self.title = fit(self.title, usable, LARGE, lines=2) if self.title else ""
        self.foot = fit(self.foot, usable, SMALL, lines=3) if self.foot else ""
        self.top = MARGIN + (_depth(self.title, LARGE) + 0.05 if self.title else 0.0)
        bottom = _depth(self.foot, SMALL) + 0.04 if self.foot else 0.0
        self.down = self.top + self.heads + self.rows * (self.height + self.below) + bottom + MARGIN
        self.figure = Figure(figsize=(self.across, self.down))
        if self.title:
            self._text(MARGIN, MARGIN, self.title, LARGE)
        if self.foot:
            self._text(MARGIN, self.down - MARGIN - _depth(self.foot, SMALL), self.foot, SMALL, color=MUTED)

    def place(self, row: int, col: int) -> tuple[float, float]:
        """The top left corner of a panel."""
        return (
            self.left + col * (self.width + GAP),
            self.top + self.heads + row * (self.height + self.below),
        )

    def axes(self, row: int, col: int) -> Axes:
        """The axes of a panel."""
        x, y = self.place(row, col)
        return self._axes(x, y, self.width, self.height)

    def picture(self, axes: Axes, pixels: Array) -> None:
        """Fill axes with an RGB picture."""
        axes.imshow(pixels, aspect="auto", interpolation="lanczos", interpolation_stage="rgba")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(visible=True, color=FAINT, linewidth=0.5)

    def bar(self, row: int, col: int, scale: Scale, over_photo: bool) -> None:
        """The slim colour bar under a panel, with its ends in raw units."""
        x, y = self.place(row, col)
        y += self.height + 0.04
        axes = self._axes(x, y, self.width, BAR)
        ramp = np.linspace(scale.low, scale.high, 256)[None]
        axes.imshow(
            scale.paint(ramp, np.full_like(ramp, 0.65) if over_photo else None), aspect="auto", extent=(0, 1, 0, 1)
        )
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(visible=True, color=MUTED, linewidth=0.4)
        ends = [(0.0, scale.low, "left"), (1.0, scale.high, "right")]
        if scale.signed:
            ends.insert(1, (0.5, 0.0, "center"))
        for at, value, ha in ends:
            self._text(x + at * self.width, y + BAR + 0.02, short_number(value), SMALL, ha=ha, color=MUTED)

    def head(self, col: int, text: str) -> None:
        """The title of a column, already wrapped."""
        x, y = self.place(0, col)
        self._text(x + self.width / 2, y - 0.05 - _depth(text, NORMAL), text, NORMAL, ha="center")

    def label(self, row: int, text: str, under: str) -> None:
        """The name of a row, and a fainter line under it."""
        _, y = self.place(row, 0)
        room = self.left - 2 * MARGIN + 1e-6
        name = fit(text, room, NORMAL, lines=5)
        name_depth, under_depth = _depth(name, NORMAL), _depth(under, NORMAL) if under else 0.0
        top = y + (self.height - name_depth - under_depth) / 2
        x = self.left - MARGIN
        self._text(x, top, name, NORMAL, ha="right")
        if under:
            self._text(x, top + name_depth, under, NORMAL, ha="right", color=MUTED)

    def caption(self, row: int, col: int, text: str, below: float) -> None:
        """A text under a panel, already wrapped; ``below`` is the depth of the colour bar."""
        x, y = self.place(row, col)
        self._text(x + self.width / 2, y + self.height + below + 0.03, text, SMALL, ha="center")

    def _axes(self, x: float, y: float, width: float, height: float) -> Axes:
        return self.figure.add_axes(
            (x / self.across, 1 - (y + height) / self.down, width / self.across, height / self.down)
        )

    def _text(self, x: float, y: float, text: str, size: float, **how: Any) -> None:
        # line by line from the top: matplotlib's own blocks sit higher or lower with the letters' descents
        for i, line in enumerate(text.split("\n")):
            base = y + (i * LINE + 0.95 / 72) * size
            look: dict[str, Any] = {"color": INK, "fontsize": size, "va": "baseline", **how}
            self.figure.text(x / self.across, 1 - base / self.down, line, **look)


def label_room(labels: Sequence[str]) -> float:
    """How much lies left of the first column for these names of rows."""
    lines = [line for label in labels for line in fit(label, LABELS, NORMAL, lines=5).split("\n")]
    return max((text_width(line, NORMAL) for line in lines), default=0.0) + 2 * MARGIN


def panel_size(pixels: Array) -> tuple[float, float]:
    """Width and height of a panel for a photo; very long or tall ones are squeezed to 1:2."""
    aspect = float(np.clip(pixels.shape[1] / pixels.shape[0], 0.5, 2.0))
    return (AREA * aspect) ** 0.5, (AREA / aspect) ** 0.5


def _depth(text: str, size: float) -> float:
    return (text.count("\n") + 1) * size * LINE
