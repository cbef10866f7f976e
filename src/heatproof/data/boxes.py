"""Boxes of the objects in photos, from a table: what the pointing game needs."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from heatproof.data.photos import as_preprocessing
from heatproof.errors import InputError
from heatproof.heatmaps import Box, check_box
from heatproof.paths import read_file
from heatproof.preprocessing import Preprocessing

Boxes = Mapping[str, tuple[Box, ...]]
"""Of each annotated image, by its id."""
CORNERS = ("x1", "y1", "x2", "y2")


def read_boxes(path: Path | str, size: int | Preprocessing) -> Boxes:
    """The boxes of a CSV or Parquet file, a row per object: ``image, x1, y1, x2, y2``, and perhaps ``width, height``.

    With ``width`` and ``height`` (of the photo, in pixels) the corners are pixels of the photo, and are taken through
    the resize and the centre crop by which photos come to the network (``size``: its ``preprocessing``, or a side in
    pixels); what lies outside is cut off.
    Without them they are shares, in [0, 1], of the sides of the image that the network sees.

    Raises:
        InputError: a file that cannot be read, lacks a column, or holds corners that make no box.
    """
    path = Path(path)
    columns = ("image", *CORNERS)
    try:
        # bytes, since polars takes brackets, stars and a tilde in a path for patterns
        read = pl.read_parquet if path.suffix.casefold() in (".parquet", ".pq") else pl.read_csv
        table = read(io.BytesIO(read_file(path)))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = next(iter(str(error).splitlines()), "damaged")
        raise InputError(
            f"no boxes can be read from {path}: {reason}; expected a CSV or Parquet file with the columns "
            f"{', '.join(columns)}"
        ) from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(f"{path.name} lacks {', '.join(missing)}: boxes have the columns {', '.join(columns)}")
    in_pixels = {"width", "height"} <= set(table.columns)
    found: dict[str, tuple[Box, ...]] = {}
    for number, row in enumerate(table.iter_rows(named=True), start=1):
        corners = _corners(path, number, row, in_pixels)
        box = cropped(corners, int(row["width"]), int(row["height"]), size) if in_pixels else corners
        if box is not None:
            found[str(row["image"])] = (*found.get(str(row["image"]), ()), box)
    return found


def given_boxes(given: Any, ids: Sequence[str], shape: tuple[int, int] | None, size: int | Preprocessing) -> Boxes:
    """Boxes as they are given in Python: by the image's id, or in the order of the images.

    Args:
        given: ``{id: boxes}``; or an array or tensor ``[images, 4]`` or ``[images, boxes, 4]``, of whole numbers in
            pixels of the images, as :func:`~heatproof.data.scenes.scenes` hands them out, else of shares in [0, 1].
        shape: rows and columns of the images, where they are in memory and of one size.
        size: how photos come to the network, as in :func:`read_boxes`.

    Raises:
        InputError: another number of boxes than of images, corners that make no box, or pixels of photos of which it is
            not known how large they are.

    >>> given_boxes([[0, 0, 32, 64]], ["0"], (64, 64), 64), given_boxes({"a.jpg": (0, 0, 1, 1)}, ["a.jpg"], None, 64)
    ({'0': ((0.0, 0.0, 0.5, 1.0),)}, {'a.jpg': ((0.0, 0.0, 1.0, 1.0),)})
    """
    if isinstance(given, Mapping):
        return {str(image): tuple(_shares(box, image) for box in _rows(boxes, image)) for image, boxes in given.items()}
    rows = _array(given, "boxes")
    if rows.ndim not in (2, 3) or rows.shape[-1] != 4 or len(rows) != len(ids):
        raise InputError(
            f"boxes are {{id: (x1, y1, x2, y2)}}, or an array [images, 4] or [images, boxes, 4] of the {len(ids)} "
            f"images, got the shape {list(rows.shape)}"
        )
    in_pixels = np.issubdtype(rows.dtype, np.integer)
    if in_pixels and shape is None:
        raise InputError(
            "boxes in whole pixels are for images in memory, of one size; of photos give shares of the sides, in [0, 1]"
        )
    found: dict[str, tuple[Box, ...]] = {}
    for image, own in zip(ids, rows.reshape(len(rows), -1, 4), strict=True):
        corners = [tuple(float(end) for end in box) for box in own]
        if in_pixels and shape is not None:
            height, width = shape
            for x1, y1, x2, y2 in corners:
                if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
                    raise InputError(
                        f"the box {x1, y1, x2, y2} of image {image} lies outside its {width} x {height} pixels"
                    )
            kept = [box for one in corners if (box := cropped(one, width, height, size)) is not None]  # type: ignore[arg-type]
        else:
            kept = [_shares(one, image) for one in corners]
        if kept:
            found[str(image)] = tuple(kept)
    return found


def _rows(boxes: Any, image: str) -> NDArray[Any]:
    """``[boxes, 4]`` of one image, which may have a single box."""
    rows = _array(boxes, f"the boxes of {image}")
    if rows.ndim in (1, 2) and rows.shape[-1] == 4:
        return rows.reshape(-1, 4)
    if rows.size == 0:
        return rows.reshape(0, 4)
    raise InputError(f"the boxes of {image} are (x1, y1, x2, y2), one or several, got the shape {list(rows.shape)}")


def _array(given: Any, what: str) -> NDArray[Any]:
    try:
        rows = np.asarray(given)
    except (TypeError, ValueError):  # rows of different lengths
        rows = np.asarray(None)
    if not np.issubdtype(rows.dtype, np.number):
        raise InputError(f"{what}: (x1, y1, x2, y2), numbers, were expected, got {type(given).__name__}")
    return rows


def _shares(box: Any, image: str) -> Box:
    corners = tuple(float(end) for end in box)
    try:
        check_box(corners)  # type: ignore[arg-type]
    except InputError as error:
        raise InputError(f"image {image}: {error}") from error
    return corners  # type: ignore[return-value]


def cropped(corners: Box, width: int, height: int, size: int | Preprocessing) -> Box | None:
    """A box in pixels of a photo as shares of what the network sees of it; nothing where the crop leaves none of it.

    >>> cropped((0, 0, 32, 64), 64, 64, 64), cropped((0, 0, 10, 10), 1000, 100, 64)
    ((0.0, 0.0, 0.5, 1.0), None)
    """
    wanted = as_preprocessing(size)
    (rows, cols), (seen_rows, seen_cols) = wanted.resized(height, width), wanted.shape
    x1, y1, x2, y2 = corners
    left, top = round((cols - seen_cols) / 2), round((rows - seen_rows) / 2)
    across = [min(1.0, max(0.0, (x * cols / width - left) / seen_cols)) for x in (x1, x2)]
    down = [min(1.0, max(0.0, (y * rows / height - top) / seen_rows)) for y in (y1, y2)]
    return (across[0], down[0], across[1], down[1]) if across[0] < across[1] and down[0] < down[1] else None


def _corners(path: Path, number: int, row: Mapping[str, Any], in_pixels: bool) -> Box:
    try:
        x1, y1, x2, y2 = (float(row[name]) for name in CORNERS)
        right, bottom = (float(row["width"]), float(row["height"])) if in_pixels else (1.0, 1.0)
    except (TypeError, ValueError) as error:
        raise InputError(f"row {number} of {path.name} holds no numbers: {dict(row)}") from error
    if 0 <= x1 < x2 <= right and 0 <= y1 < y2 <= bottom:
        return x1, y1, x2, y2
    unit = f"pixels of the photo of {right:g} x {bottom:g}" if in_pixels else "shares of the image's sides, in [0, 1]"
    way = "" if in_pixels else "; for pixels of the photo, add its width and height in columns of these names"
    raise InputError(f"row {number} of {path.name} is no box: x1 < x2 and y1 < y2 in {unit}, got {x1, y1, x2, y2}{way}")
