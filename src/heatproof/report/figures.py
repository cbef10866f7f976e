"""Pictures of photos and heatmaps, laid out in inches so that margins agree and no text meets another.

All functions take NumPy arrays, draw without global state, and write the same bytes for the same arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray

from heatproof.errors import InputError
from heatproof.report.overlay import Array, Scale, as_heatmap, as_photo, greyed, upsample
from heatproof.report.sheet import BAR, BAR_TEXT, LINE, MARGIN, Sheet, label_room, panel_size
from heatproof.report.style import INK, NORMAL, SMALL, fit, percent, save, styled

Maps = Mapping[tuple[int, int], NDArray[Any] | None] | Sequence[Sequence[NDArray[Any] | None]] | NDArray[Any]
"""Heatmaps by ``(row, column)``, or nested rows of columns; None where there is none."""


@dataclass(frozen=True)
class Panel:
    """One picture of a :func:`gallery`: a photo, or a heatmap over a photo, or a heatmap alone.

    Attributes:
        photo: ``[rows, cols, 3]`` in [0, 1], or None for a map on its own.
        heatmap: ``[rows, cols]`` at its native resolution, or None for the plain photo.
        signed: whether the map's zero is the middle of its scale.
        caption: under the picture; may be wrapped and shortened.
        cells: ``[rows, cols]``, for instance of a certificate: 1 is outlined by a line, -1 by dots, 0 not at all.
    """

    photo: NDArray[Any] | None = None
    heatmap: NDArray[Any] | None = None
    signed: bool = False
    caption: str = ""
    cells: NDArray[Any] | None = None


@styled
def explanation_grid(
    photo: NDArray[Any],
    rows: Sequence[tuple[str, float]],
    columns: Sequence[str],
    maps: Maps,
    signed: Sequence[bool],
    path: Path | str,
    *,
    title: str = "",
    predictions: Sequence[tuple[str, float]] = (),
    captions: Sequence[Sequence[str]] = (),
    cells: Maps | None = None,
    pdf: bool = False,
) -> Path:
    """The explanations of one photo: a row per class, a column per layer or explainer, the photo first.

    Maps lie bilinearly upsampled over the greyed photo. Under each panel a slim bar states its own scale in raw units:
    from zero to its maximum, or symmetric around zero for signed columns. A map that is zero everywhere says so.

    Args:
        photo: ``[rows, cols, 3]`` in [0, 1].
        rows: the explained classes with their probabilities.
        columns: the titles.
        maps: a map per row and column, each at its native resolution, signed where its column is.
        signed: for each column, whether zero is the middle of its scale.
        path: of the PNG.
        title: over all; may be empty.
        predictions: the likeliest classes with probabilities, for a line at the foot.
        captions: a text under each map, by row and column, or none.
        cells: certified cells of each map, as in :class:`Panel`, or none.
        pdf: whether to write a PDF beside it.

    Returns:
        The PNG's path.

    Raises:
        InputError: shapes or counts that do not fit.
        RunError: the file cannot be written.
    """
    _check_grid(rows, columns, signed)
    pixels = as_photo(photo)
    width, height = panel_size(pixels)
    heads = [fit(text, width, NORMAL, lines=3) for text in ("photo", *columns)]
    fitted = [[fit(text, width, SMALL, lines=3) for text in row] for row in captions]
    deepest = max((text.count("\n") + 1 for row in fitted for text in row if text), default=0)
    sheet = _with_heads(
        heads,
        rows=len(rows),
        cols=len(columns) + 1,
        width=width,
        height=height,
        left=label_room([label for row in rows for label in (row[0], percent(row[1]))]),
        below=BAR + BAR_TEXT + 0.03 + (deepest * SMALL * LINE + 0.07 if deepest else 0.0),
        title=title,
        foot=_foot(predictions),
    )
    for r, (label, probability) in enumerate(rows):
        sheet.label(r, label, percent(probability))
        sheet.picture(sheet.axes(r, 0), pixels)
        for c in range(len(columns)):
            heatmap = _pick(maps, r, c)
            marked = None if cells is None else _pick(cells, r, c)
            panel = Panel(None if heatmap is None else pixels, heatmap, signed=signed[c], cells=marked)
            _draw_panel(sheet, r, c + 1, panel)
            if fitted:
                sheet.caption(r, c + 1, fitted[r][c], below=_bar(panel))
    seen = f"The photo, and in each column the map of {', '.join(columns)}; a row per explained class."
    return save(sheet.figure, path, pdf, f"{title}. {seen}" if title else seen)


@styled
def gallery(
    panels: Sequence[Sequence[Panel]],
    path: Path | str,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    title: str = "",
    pdf: bool = False,
) -> Path:
    """Rows of pictures with captions: clean, perturbation, adversarial, and their maps.

    Args:
        panels: the rows; all panels take the shape of the first photo or map.
        path: of the PNG.
        rows: a name per row, or none.
        columns: a title per column, or none.
        title: over all; may be empty.
        pdf: whether to write a PDF beside it.

    Returns:
        The PNG's path.

    Raises:
        InputError: no panel, or shapes that do not fit.
        RunError: the file cannot be written.
    """
    cols = max((len(row) for row in panels), default=0)
    if cols == 0:
        raise InputError("expected at least one panel, got none")
    first = next((panel for row in panels for panel in row if panel.photo is not None), None)
    shape = np.zeros((1, 1, 3)) if first is None or first.photo is None else as_photo(first.photo)
    width, height = panel_size(shape)
    captions = [[fit(panel.caption, width, SMALL, lines=3) for panel in row] for row in panels]
    depths = [
        _bar(panel) + ((text.count("\n") + 1) * SMALL * LINE if text else 0.0)
        for row, texts in zip(panels, captions, strict=True)
        for panel, text in zip(row, texts, strict=True)
    ]
    sheet = _with_heads(
        [fit(text, width, NORMAL, lines=3) for text in columns],
        rows=len(panels),
        cols=cols,
        width=width,
        height=height,
        left=label_room(rows) if rows else MARGIN,
        below=max(depths) + 0.1,
        title=title,
        foot="",
    )
    for r, row in enumerate(panels):
        if r < len(rows):
            sheet.label(r, rows[r], "")
        for c, panel in enumerate(row):
            _draw_panel(sheet, r, c, panel)
            sheet.caption(r, c, captions[r][c], below=_bar(panel))
    seen = f"From left to right: {', '.join(columns)}." if columns else ""
    return save(sheet.figure, path, pdf, " ".join(text for text in (f"{title}." if title else "", seen) if text))


def amplify(perturbation: NDArray[Any]) -> tuple[Array, float]:
    """A perturbation ``[rows, cols, 3]`` as a picture around middle grey, and the factor by which it was raised.

    >>> amplify(np.full((1, 1, 3), 0.05))[1]
    10.0
    """
    perturbation = np.asarray(perturbation, dtype=np.float64)
    reach = float(np.abs(perturbation).max(initial=0.0))
    factor = 0.5 / reach if reach else 1.0
    return np.clip(0.5 + factor * perturbation, 0, 1), factor


def _with_heads(heads: Sequence[str], **measures: Any) -> Sheet:
    """A sheet with room for the titles of its columns, and these on it."""
    room = max((head.count("\n") + 1 for head in heads), default=0) * NORMAL * LINE + 0.06
    sheet = Sheet(heads=room, **measures)
    for c, head in enumerate(heads):
        sheet.head(c, head)
    return sheet


def _bar(panel: Panel) -> float:
    """The room that the bar under a panel's map takes, in inches."""
    return BAR + BAR_TEXT if panel.heatmap is not None else 0.0


def _draw_panel(sheet: Sheet, row: int, col: int, panel: Panel) -> None:
    axes = sheet.axes(row, col)
    pixels = None if panel.photo is None else as_photo(panel.photo)
    if panel.heatmap is not None:
        _draw_map(sheet, axes, row, col, as_heatmap(panel.heatmap), pixels, panel.signed)
    elif pixels is not None:
        sheet.picture(axes, pixels)
    else:
        axes.set_axis_off()
    if panel.cells is not None:
        _outline(axes, panel.cells == 1, "solid")
        _outline(axes, panel.cells == -1, "dotted")


def _draw_map(sheet: Sheet, axes: Axes, row: int, col: int, heatmap: Array, pixels: Array | None, signed: bool) -> None:
    scale = Scale.of(heatmap, signed)
    rows, cols = (256, 256) if pixels is None else pixels.shape[:2]
    under = None if pixels is None else greyed(pixels)
    sheet.picture(axes, scale.paint(upsample(np.nan_to_num(heatmap), rows, cols), under))
    if scale.empty:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 2.0, "alpha": 0.85}
        axes.text(0.5, 0.5, "empty map", transform=axes.transAxes, ha="center", va="center", fontsize=NORMAL, bbox=box)
    else:
        sheet.bar(row, col, scale, over_photo=pixels is not None)


def _outline(axes: Axes, chosen: NDArray[Any], style: str) -> None:
    """A line along the borders between chosen cells and others, over whatever picture the axes hold."""
    rows, cols = chosen.shape
    left, right = sorted(axes.get_xlim())
    top, bottom = sorted(axes.get_ylim())
    framed = np.pad(chosen, 1)
    x = left + (right - left) * np.arange(cols + 1) / cols
    y = top + (bottom - top) * np.arange(rows + 1) / rows
    upright = [[(x[c], y[r]), (x[c], y[r + 1])] for r, c in np.argwhere(framed[1:-1, 1:] != framed[1:-1, :-1])]
    level = [[(x[c], y[r]), (x[c + 1], y[r])] for r, c in np.argwhere(framed[1:, 1:-1] != framed[:-1, 1:-1])]
    for width, colour in ((1.8, "white"), (0.8, INK)):
        axes.add_collection(LineCollection(upright + level, colors=colour, linewidths=width, linestyles=style))


def _check_grid(rows: Sequence[Any], columns: Sequence[str], signed: Sequence[bool]) -> None:
    if not rows or not columns or len(signed) != len(columns):
        raise InputError(
            f"expected at least one row, one column and as many signs as columns, "
            f"got {len(rows)} rows, {len(columns)} columns and {len(signed)} signs"
        )


def _pick(maps: Maps, row: int, col: int) -> NDArray[Any] | None:
    try:
        if isinstance(maps, Mapping):
            return maps.get((row, col))
        return maps[row][col]
    except (IndexError, TypeError) as error:
        raise InputError(f"expected a map (or None) for row {row} and column {col}, got none") from error


def _foot(predictions: Sequence[tuple[str, float]]) -> str:
    classes = ", ".join(f"{label} {percent(probability)}" for label, probability in predictions)
    return f"Predicted: {classes}." if classes else ""
