"""Pictures of photos and heatmaps, laid out in inches so that margins agree and no text meets another.

All functions take NumPy arrays, draw without global state, and write the same bytes for the same arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heatproof.errors import InputError
from heatproof.report.overlay import Array, Scale, as_bytes, as_heatmap, as_photo, flat_level, greyed, resized, upsample
from heatproof.report.sheet import BAR, BAR_TEXT, LINE, MARGIN, Sheet, label_room, panel_size
from heatproof.report.style import NORMAL, SMALL, fit, percent, save, short_number, styled

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
    from zero to its maximum, or symmetric around zero for signed columns. A map that is the same
    everywhere says so.

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
    width, height = panel_size(np.shape(as_photo(photo)))
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
    photos = _Photos(sheet.pixels)
    for r, (label, probability) in enumerate(rows):
        sheet.label(r, label, percent(probability))
        _draw_panel(sheet, photos, r, 0, Panel(photo))
        for c in range(len(columns)):
            heatmap = _pick(maps, r, c)
            marked = None if cells is None else _pick(cells, r, c)
            panel = Panel(None if heatmap is None else photo, heatmap, signed=signed[c], cells=marked)
            _draw_panel(sheet, photos, r, c + 1, panel)
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
    width, height = panel_size((1, 1) if first is None or first.photo is None else np.shape(as_photo(first.photo)))
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
    photos = _Photos(sheet.pixels)
    for r, row in enumerate(panels):
        if r < len(rows):
            sheet.label(r, rows[r], "")
        for c, panel in enumerate(row):
            _draw_panel(sheet, photos, r, c, panel)
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


class _Photos:
    """The photos of a figure at the size of its panels, and their greys, each made once however often it is seen."""

    def __init__(self, pixels: tuple[int, int]) -> None:
        self._pixels = pixels
        # by identity, with the photo itself, so that no other takes its place in memory
        self._made: dict[int, tuple[NDArray[Any], NDArray[np.uint8], Array]] = {}

    def __call__(self, photo: NDArray[Any]) -> tuple[NDArray[np.uint8], Array]:
        if id(photo) not in self._made:
            pixels = resized(as_photo(photo), *self._pixels)
            self._made[id(photo)] = photo, pixels, greyed(pixels / 255)
        return self._made[id(photo)][1:]


def _draw_panel(sheet: Sheet, photos: _Photos, row: int, col: int, panel: Panel) -> None:
    if panel.heatmap is not None:
        under = None if panel.photo is None else photos(panel.photo)[1]
        _draw_map(sheet, row, col, as_heatmap(panel.heatmap), under, panel.signed)
        if panel.cells is not None:
            sheet.outline(row, col, panel.cells == 1, "solid")
            sheet.outline(row, col, panel.cells == -1, "dotted")
    elif panel.photo is not None:
        sheet.picture(row, col, photos(panel.photo)[0])


def _draw_map(sheet: Sheet, row: int, col: int, heatmap: Array, under: Array | None, signed: bool) -> None:
    level = flat_level(heatmap)
    scale = Scale.of(heatmap, signed) if level is None else Scale(0.0, 0.0, signed)
    known = np.clip(np.nan_to_num(heatmap), scale.low, scale.high)
    sheet.picture(row, col, as_bytes(scale.paint(upsample(known, *sheet.pixels), under)))
    if level is not None:
        sheet.note(row, col, f"{'one cell' if heatmap.size == 1 else 'the same everywhere'}: {short_number(level)}")
    elif scale.empty:
        sheet.note(row, col, "empty map")
    else:
        sheet.bar(row, col, scale, over_photo=under is not None)


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
