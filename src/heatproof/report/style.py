"""The one look of all figures: colours that the colour-blind can tell apart, measured text, the same bytes each time.

Figures are made with :class:`matplotlib.figure.Figure` and no pyplot, so nothing global is left behind and threads do
not meet. The page's viewer draws with the same colours (:func:`palette`).
"""

import functools
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager, textpath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL.PngImagePlugin import PngInfo

from heatproof.report.png import encoded
from heatproof.results import write_whole

P = ParamSpec("P")
R = TypeVar("R")

SEQUENTIAL = "inferno"
"""Unsigned maps: perceptually uniform, its lightness rises with the value."""
DIVERGING = "RdBu_r"
"""Signed maps: blue against, white zero, red for; told apart by all common forms of colour blindness."""
INK, MUTED, FAINT = "#1a1a1a", "#5c5c5c", "#d9d9d9"
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""Okabe and Ito's colours (2008), the darker ones first."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SMALL, NORMAL, LARGE = 6.0, 7.5, 9.0
"""Sizes of text in points."""
DPI = 200

_FALLBACKS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Noto Sans Arabic", "Noto Sans Devanagari")
RULES: dict[str, Any] = {
    "font.size": NORMAL,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$100 bill"
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.titlesize": LARGE,
    "axes.labelsize": NORMAL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.labelsize": SMALL + 0.5,
    "ytick.labelsize": SMALL + 0.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.fontsize": SMALL + 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,  # text in a PDF stays text
    "svg.hashsalt": "heatproof",
}


CAPTION = "Description"
"""The PNG's text that holds a figure's caption; the name is the format's own keyword for it."""


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run ``draw`` under :data:`RULES` alone and none of the user's settings: a figure is the same anywhere."""

    @functools.wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context():
            mpl.rcdefaults()
            rules: Any = {**RULES, "font.family": list(_families())}
            mpl.rcParams.update(rules)
            return draw(*args, **kwargs)

    return inside


def save(figure: Figure, path: Path | str, pdf: bool = False, caption: str = "") -> Path:
    """Write a figure as PNG, the same bytes for the same figure, and on request as PDF beside it.

    Args:
        figure: drawn under :func:`styled`.
        path: the PNG's name; ``.png`` is added where it lacks.
        pdf: whether to write ``<path>.pdf`` too.
        caption: what is seen, in words; travels in the PNG, and the page shows it under the figure.

    Returns:
        The PNG's path.

    Raises:
        RunError: a file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        path = path.with_name(path.name + ".png")
    # no dates and no versions in the files, or equal runs would differ
    write_whole(path.with_suffix(".png"), _png(figure, caption))
    if pdf:
        file = io.BytesIO()
        nothing = dict.fromkeys(("Creator", "Producer", "CreationDate"))
        figure.savefig(file, format="pdf", dpi=DPI, facecolor="white", metadata=nothing)
        write_whole(path.with_suffix(".pdf"), file.getvalue())
    return path


def _png(figure: Figure, caption: str) -> bytes:
    figure.dpi = DPI
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = PngInfo()
    if caption:
        texts.add_text(CAPTION, _encodable(caption))
    # figures are opaque: a fourth channel would only take time
    return encoded(np.asarray(canvas.buffer_rgba())[..., :3], DPI, texts)


def _encodable(text: str) -> str:
    """Names of files may hold what no text may; a PNG would refuse it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "")


def palette(name: str, count: int = 64) -> list[tuple[int, int, int]]:
    """``count`` colours of a map as 8-bit RGB, from its low to its high end."""
    colours = mpl.colormaps[name]([i / (count - 1) for i in range(count)])
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b, _ in colours]


@functools.lru_cache(10_000)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """The width of a line of text in inches."""
    prop = font_manager.FontProperties(family=list(_families()), size=size, weight=weight)
    width, _, _ = textpath.text_to_path.get_text_width_height_descent(text, prop, ismath=False)
    return width / 72


def fit(text: str, width: float, size: float, lines: int = 2, weight: str = "normal") -> str:
    """Break ``text`` into lines of at most ``width`` inches, and shorten what does not fit into ``lines`` of them.

    Breaks at line ends and blanks, else after ``. _ - / , ( =`` (layers are called ``features.denseblock4``), else
    anywhere.
    """
    made = [line for given in text.splitlines() or [""] for line in _broken(printable(given), width, size, weight)]
    if len(made) > lines:
        last = made[lines - 1]
        while last and text_width(last + "…", size, weight) > width:
            last = last[:-1]
        made = [*made[: lines - 1], last.rstrip() + "…"]
    return "\n".join(made)


def _broken(text: str, width: float, size: float, weight: str) -> list[str]:
    made: list[str] = []
    line = ""
    for piece in _pieces(text):
        if text_width((line + piece).rstrip(), size, weight) <= width:
            line += piece
            continue
        if line.strip():
            made.append(line.rstrip())
        line = piece.lstrip()
        while line and text_width(line.rstrip(), size, weight) > width:
            cut = max(1, _longest(line, width, size, weight))
            made.append(line[:cut])
            line = line[cut:]
    return [*made, line.rstrip()]


def printable(text: str) -> str:
    """``text`` on one line, with a replacement mark for what no font here can draw."""
    known = _charmap()
    flat = " ".join(str(text).split())
    return "".join(c if ord(c) in known else "\N{REPLACEMENT CHARACTER}" for c in flat)


def percent(rate: float) -> str:
    """A probability or rate for people.

    >>> percent(0.3567), percent(0.00002), percent(1.0)
    ('35.7%', '< 0.1%', '100%')
    """
    if rate >= 0.9995:
        return "100%"
    return "< 0.1%" if 0 < rate < 0.0005 else f"{100 * rate:.1f}%"


def short_number(value: float) -> str:
    """A number in at most six characters or so, for the ends of a colour bar.

    >>> [short_number(v) for v in (0, 1.5, -0.034, 0.000012, 12345)]
    ['0', '1.5', '−0.034', '1.2e−5', '1.2e4']
    """
    if value == 0:
        return "0"
    if 0.001 <= abs(value) < 1000:
        text = f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
    else:
        mantissa, exponent = f"{value:.1e}".split("e")
        text = f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return text.replace("-", "\N{MINUS SIGN}")


def _pieces(text: str) -> Sequence[str]:
    """The text cut after each place where a line may end."""
    pieces, start = [], 0
    for i, c in enumerate(text):
        if c in " ._-/,(=":
            pieces.append(text[start : i + 1])
            start = i + 1
    return [*pieces, text[start:]] if start < len(text) or not pieces else pieces


def _longest(line: str, width: float, size: float, weight: str) -> int:
    return sum(text_width(line[: i + 1], size, weight) <= width for i in range(len(line)))


@functools.cache
def _families() -> tuple[str, ...]:
    """matplotlib's own font, then what this machine has for scripts that it lacks."""
    installed = set(font_manager.get_font_names())
    return ("DejaVu Sans", *(name for name in _FALLBACKS if name in installed))


@functools.cache
def _charmap() -> frozenset[int]:
    known: set[int] = set()
    for family in _families():
        path = font_manager.findfont(font_manager.FontProperties(family=family))
        known |= set(font_manager.get_font(path).get_charmap())
    return frozenset(known)


def with_minus(text: str) -> str:
    """A sentence with the minus sign that the page's tables have; specs, dates and options keep their hyphens.

    >>> with_minus("Measured -0.27 (doubtful below -0.17), fgsm(epsilon=-1), 2026-11-28, 1e-05, --limit 3")
    'Measured −0.27 (doubtful below −0.17), fgsm(epsilon=-1), 2026-11-28, 1e-05, --limit 3'
    """
    return re.sub(r"(?<![\w.=-])-(?=\d)", "\N{MINUS SIGN}", text)
