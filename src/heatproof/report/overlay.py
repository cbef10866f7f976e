"""A heatmap over its photo: limits, colours, and the blend that keeps both readable."""

import functools
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Normalize
from numpy.typing import NDArray
from PIL import Image

from heatproof.errors import InputError
from heatproof.report.style import DIVERGING, SEQUENTIAL

Array = NDArray[np.float64]

FLOOR, CEILING = 0.35, 0.92
"""How opaque the colours are where the map is zero, and where it is largest."""


@dataclass(frozen=True)
class Scale:
    """The limits of one panel: from zero for unsigned maps, symmetric around zero for signed ones.

    >>> Scale.of(np.array([[-1.0, 3.0]]), signed=True)
    Scale(low=-3.0, high=3.0, signed=True)
    """

    low: float
    high: float
    signed: bool

    @classmethod
    def of(cls, heatmap: Array, signed: bool) -> "Scale":
        """The limits of a map; of an empty one they are both zero."""
        finite = heatmap[np.isfinite(heatmap)]
        if finite.size == 0:
            return cls(0.0, 0.0, signed)
        if signed:
            reach = float(np.abs(finite).max())
            return cls(-reach, reach, signed)
        return cls(min(0.0, float(finite.min())), max(0.0, float(finite.max())), signed)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return self.low == self.high

    @property
    def norm(self) -> Normalize:
        """matplotlib's map from values to [0, 1]; zero of a signed map lands on one half."""
        return Normalize(self.low, self.high)

    def paint(self, values: Array, under: Array | None = None) -> NDArray[np.floating[Any]]:
        """Colours of ``values`` over the grey levels ``under``, both ``[rows, cols]``, as RGB in [0, 1].

        Opacity grows with the size of a value, so that what the map is silent about shows the photo. With nothing
        under it the colours are opaque.
        """
        if self.empty:
            return np.repeat((np.full(values.shape, 0.9) if under is None else under)[..., None], 3, axis=-1)
        values = np.nan_to_num(values)
        table = _table(DIVERGING if self.signed else SEQUENTIAL)
        place = np.clip((values - self.low) * (len(table) / (self.high - self.low)), 0, len(table) - 1)
        colour = table.take(place.astype(np.intp), 0)
        if under is None:
            return colour
        # in 32 bits, which is enough for 8 and half of the time
        grey = under.astype(np.float32)[..., None]
        size = (np.abs(values) / max(abs(self.low), abs(self.high))).astype(np.float32)
        opacity = (FLOOR + (CEILING - FLOOR) * np.clip(size, 0, 1))[..., None]
        if self.signed:
            opacity = opacity * np.clip(4 * size, 0, 1)[..., None]  # white means zero, and need not veil the photo
        return grey + opacity * (colour - grey)


@functools.cache
def _table(name: str) -> NDArray[np.float32]:
    """All colours of a map, ``[colours, 3]``, as matplotlib picks them from it."""
    colours = mpl.colormaps[name]
    return colours(np.arange(colours.N))[:, :3].astype(np.float32)


def as_colours(photo: NDArray[Any]) -> NDArray[Any]:
    """Three channels to be looked at: the first three where there are more, the first as grey where there are fewer.

    >>> as_colours(np.zeros((4, 5, 1))).shape, as_colours(np.zeros((4, 5, 6))).shape
    ((4, 5, 3), (4, 5, 3))
    """
    return photo[..., :3] if photo.shape[-1] >= 3 else np.repeat(photo[..., :1], 3, axis=-1)


def as_photo(photo: NDArray[Any], longest: int = 640) -> Array:
    """A photo of any channels as ``[rows, cols, 3]`` in [0, 1], at most ``longest`` pixels a side.

    Raises:
        InputError: it has another shape or range.
    """
    photo = np.asarray(photo)
    if photo.ndim != 3 or 0 in photo.shape:
        raise InputError(f"expected a photo [rows, cols, channels], got the shape {photo.shape}")
    photo = as_colours(photo)
    if photo.dtype == np.uint8:
        pixels = photo
    else:
        if not np.isfinite(photo).all() or photo.min() < -1e-3 or photo.max() > 1 + 1e-3:
            raise InputError(
                f"expected pixels in [0, 1], got [{photo.min():.3g}, {photo.max():.3g}]; undo the normalisation first"
            )
        pixels = np.round(255 * np.clip(photo, 0, 1)).astype(np.uint8)
    if max(pixels.shape) > longest:
        shrink = longest / max(pixels.shape)
        size = max(1, round(pixels.shape[1] * shrink)), max(1, round(pixels.shape[0] * shrink))
        pixels = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.LANCZOS))
    return pixels.astype(np.float64) / 255


def as_heatmap(heatmap: NDArray[Any]) -> Array:
    """A heatmap as ``[rows, cols]`` of float.

    Raises:
        InputError: it has another number of axes.
    """
    heatmap = np.asarray(heatmap, dtype=np.float64)
    if heatmap.ndim != 2 or 0 in heatmap.shape:
        raise InputError(f"expected a heatmap [rows, cols], got the shape {heatmap.shape}")
    return heatmap


def greyed(photo: Array) -> Array:
    """The photo's luminance (Rec. 601), drawn together and lightened so that colours over it are read right."""
    return 0.25 + 0.7 * (photo @ np.array([0.299, 0.587, 0.114]))


def flat_level(heatmap: Array) -> float | None:
    """The value of a map that is the same in all of its cells, and not zero: colours would show what is not there.

    >>> flat_level(np.full((2, 2), 0.5)), flat_level(np.zeros((2, 2))), flat_level(np.eye(2))
    (0.5, None, None)
    """
    first = float(heatmap.flat[0])
    return first if first and np.isfinite(first) and bool((heatmap == first).all()) else None


def as_bytes(picture: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """A picture in [0, 1] in 8 bits.

    >>> as_bytes(np.array([0.0, 0.5, 1.0]))
    array([  0, 128, 255], dtype=uint8)
    """
    return (255 * picture + 0.5).astype(np.uint8)


def resized(photo: Array, rows: int, cols: int) -> NDArray[np.uint8]:
    """A photo in [0, 1] at another size (Lanczos), in 8 bits."""
    return np.asarray(Image.fromarray(as_bytes(photo)).resize((cols, rows), Image.Resampling.LANCZOS))


def upsample(heatmap: Array, rows: int, cols: int) -> Array:
    """Bilinear interpolation between the centres of the cells, as ``align_corners=False``; edges are held.

    A finer map is averaged over what becomes one cell (the same triangle, as wide as a cell that is asked for).

    >>> upsample(np.array([[0.0, 1.0]]), 1, 4)
    array([[0.  , 0.25, 0.75, 1.  ]])
    """
    # Pillow computes in 32 bits, which a map of tiny values would leave
    reach = float(np.abs(heatmap).max()) or 1.0
    cells = Image.fromarray((heatmap / reach).astype(np.float32))
    return reach * np.asarray(cells.resize((cols, rows), Image.Resampling.BILINEAR), dtype=np.float64)
