"""The paper under a figure: equal panels with titles, names, captions and slim colour bars, measured in inches.

Pictures and texts stand on the figure itself. Axes around each of them would look the same and take most of the time
that a figure takes (measured: docs/benchmarks.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backend_bases import RendererBase
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from heatproof.report.overlay import Scale, as_bytes
from heatproof.report.style import DPI, FAINT, INK, LARGE, MUTED, NORMAL, SMALL, fit, short_number, text_width

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
        # whole pixels, so that none is shared by a picture and its margin
        self.across, self.down = (ceil(side * DPI - 1e-6) / DPI for side in (self.across, self.down))
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

    @property
    def pixels(self) -> tuple[int, int]:
        """Rows and columns of a panel in pixels of the PNG."""
        return round(self.height * DPI), round(self.width * DPI)

    def picture(self, row: int, col: int, pixels: NDArray[np.uint8]) -> None:
        """Fill a panel with an RGB picture of :attr:`pixels`."""
        self._picture(*self.place(row, col), pixels, FAINT, 0.5)

    def bar(self, row: int, col: int, scale: Scale, over_photo: bool) -> None:
        """The slim colour bar under a panel, with its ends in raw units."""
        x, y = self.place(row, col)
        y += self.height + 0.04
        ramp = np.linspace(scale.low, scale.high, self.pixels[1])[None]
        colours = scale.paint(ramp, np.full_like(ramp, 0.65) if over_photo else None)
        self._picture(x, y, as_bytes(colours).repeat(round(BAR * DPI), 0), MUTED, 0.4)
        ends = [(0.0, scale.low, "left"), (1.0, scale.high, "right")]
        if scale.signed:
            ends.insert(1, (0.5, 0.0, "center"))
        for at, value, ha in ends:
            self._text(x + at * self.width, y + BAR + 0.02, short_number(value), SMALL, ha=ha, color=MUTED)

    def note(self, row: int, col: int, text: str) -> None:
        """A text in the middle of a panel, on white."""
        x, y = self.place(row, col)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 2.0, "alpha": 0.85}
        middle = (x + self.width / 2) / self.across, 1 - (y + self.height / 2) / self.down
        self.figure.text(*middle, text, ha="center", va="center", fontsize=NORMAL, bbox=box)

    def outline(self, row: int, col: int, chosen: NDArray[np.bool_], style: str) -> None:
        """A line along the borders between chosen cells ``[rows, cols]`` of a panel and the others."""
        left, top = self.place(row, col)
        x = left + self.width * np.arange(chosen.shape[1] + 1) / chosen.shape[1]
        y = self.down - top - self.height * np.arange(chosen.shape[0] + 1) / chosen.shape[0]
        framed = np.pad(chosen, 1)
        upright = [[(x[c], y[r]), (x[c], y[r + 1])] for r, c in np.argwhere(framed[1:-1, 1:] != framed[1:-1, :-1])]
        level = [[(x[c], y[r]), (x[c + 1], y[r])] for r, c in np.argwhere(framed[1:, 1:-1] != framed[:-1, 1:-1])]
        for width, colour in ((1.8, "white"), (0.8, INK)):
            look: dict[str, Any] = {"colors": colour, "linewidths": width, "linestyles": style}
            lines = LineCollection(upright + level, transform=self.figure.dpi_scale_trans, **look)
            self.figure.add_artist(lines)

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

    def _picture(self, x: float, y: float, pixels: NDArray[np.uint8], edge: str, line: float) -> None:
        rows, cols = pixels.shape[:2]
        # on whole pixels, so that what is handed over is what is seen
        corner = round(x * DPI) / DPI, round((self.down - y) * DPI - rows) / DPI
        self.figure.add_artist(_Picture(*corner, pixels))
        look: dict[str, Any] = {"fill": False, "edgecolor": edge, "linewidth": line}
        frame = Rectangle(corner, cols / DPI, rows / DPI, transform=self.figure.dpi_scale_trans, **look)
        self.figure.add_artist(frame)

    def _text(self, x: float, y: float, text: str, size: float, **how: Any) -> None:
        # line by line from the top: matplotlib's own blocks sit higher or lower with the letters' descents
        for i, line in enumerate(text.split("\n")):
            base = y + (i * LINE + 0.95 / 72) * size
            look: dict[str, Any] = {"color": INK, "fontsize": size, "va": "baseline", **how}
            self.figure.text(x / self.across, 1 - base / self.down, line, **look)


class _Picture(Artist):
    """Pixels as they are: matplotlib's own images are resampled even where nothing is to be done."""

    def __init__(self, x: float, y: float, pixels: NDArray[np.uint8]) -> None:
        super().__init__()
        self._corner = x, y
        # from the bottom, as renderers take them
        self._pixels = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])[::-1].copy()

    def draw(self, renderer: RendererBase) -> None:
        assert self.figure is not None
        x, y = (side * self.figure.dpi for side in self._corner)
        renderer.draw_image(renderer.new_gc(), x, y, self._pixels)


def label_room(labels: Sequence[str]) -> float:
    """How much lies left of the first column for these names of rows."""
    lines = [line for label in labels for line in fit(label, LABELS, NORMAL, lines=5).split("\n")]
    return max((text_width(line, NORMAL) for line in lines), default=0.0) + 2 * MARGIN


def panel_size(shape: Sequence[int]) -> tuple[float, float]:
    """Width and height of a panel for a photo ``[rows, cols, ...]``; very long or tall ones are squeezed to 1:2."""
    aspect = float(np.clip(shape[1] / shape[0], 0.5, 2.0))
    return (AREA * aspect) ** 0.5, (AREA / aspect) ** 0.5


def _depth(text: str, size: float) -> float:
    return (text.count("\n") + 1) * size * LINE
