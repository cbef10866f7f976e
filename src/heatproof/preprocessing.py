"""How a photo comes to a network: its size, the resizing before the crop, the channels, and what is black and white.

A classifier holds it, as it holds its normalisation; what reads photos is given it.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Literal, get_args

from heatproof.errors import InputError
from heatproof.types import settings

Fit = Literal["crop", "squash"]
"""``crop`` keeps the photo's proportions and loses its borders; ``squash`` keeps all of it, out of proportion."""

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]

CROPPED = 0.875  # the share of the resized photo that the crop keeps where a model says nothing: 224 of 256

Size = int | tuple[int, int]
"""One number for both sides, or (rows, cols)."""


@settings
class Preprocessing:
    """A photo is resized, cropped to its centre, brought to the network's channels and to [0, 1], in this sense:

    - ``fit="crop"``: resized in its proportions until it covers ``resize``, then cropped to the centre;
    - ``fit="squash"``: resized to exactly ``resize``, out of proportion, then cropped to the centre.

    Args:
        size: (rows, cols) of what the network takes, in pixels.
        resize: (rows, cols) before the crop; a number is the shorter of the two, in the proportions of ``size``.
            ``None``: nothing is known of it. A photo of exactly ``size`` then stays as it is; any other is resized to
            ``size / 0.875`` (ImageNet's convention: 256, then 224), or squashed to ``size``.
        interpolation: of the resizing.
        antialias: whether shrinking averages over all pixels that a new one covers, as Pillow does.
        channels: that the network takes.
        alpha: the fourth channel is a photo's transparency; otherwise transparency is laid over white.
        range: the values that become 0 and 1 in photos of more than 8 bits, and what lies beyond is cut off. ``None``:
            0 and 65535 in 16 bits, 0 and 1 in floating point.

    Raises:
        InputError: sizes that are not positive, or a resizing that the crop does not fit into.

    >>> Preprocessing((96, 320), 120).resize, Preprocessing(224).box
    ((120, 400), (256, 256))
    """

    size: Size = 224
    resize: Size | None = None
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    channels: int = 3
    alpha: bool = False
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        size = _pair(self.size, "the input size")
        object.__setattr__(self, "size", size)
        if self.resize is not None:
            given = self.resize
            if isinstance(given, int):
                given = (round(given * size[0] / min(size)), round(given * size[1] / min(size)))
            resize = _pair(given, "resize")
            if resize[0] < size[0] or resize[1] < size[1]:
                raise InputError(
                    f"a photo that is resized to {shown(resize)} does not fill the network's {shown(size)}: resize "
                    "must be at least the input size, in rows and in columns"
                )
            object.__setattr__(self, "resize", resize)
        if self.fit not in get_args(Fit):
            raise InputError(f"a photo is fitted by one of {', '.join(get_args(Fit))}, got {self.fit!r}")
        if self.interpolation not in get_args(Interpolation):
            raise InputError(
                f"interpolation is one of {', '.join(get_args(Interpolation))}, got {self.interpolation!r}"
            )
        if not self.antialias and self.interpolation not in ("nearest", "bilinear", "bicubic"):
            raise InputError(f"{self.interpolation} is made with antialiasing only; give bilinear or bicubic without")
        if isinstance(self.channels, bool) or not isinstance(self.channels, int) or self.channels < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"a network takes at least 1 channel, got {self.channels!r}")
        if self.alpha and self.channels != 4:
            raise InputError(f"transparency is the fourth of 4 channels, got {self.channels} channels")
        if self.range is not None:
            low, high = self.range
            if not float("-inf") < low < high < float("inf"):
                raise InputError(f"range is (black, white) with black < white, got ({low}, {high})")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of what the network takes."""
        return _pair(self.size, "the input size")

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(rows, cols) that a photo has between the resizing and the crop.

        They are rounded as torchvision rounds them for a square box, and as timm does for any other.

        >>> Preprocessing(224).resized(100, 300), Preprocessing(224).resized(224, 224)
        ((256, 768), (224, 224))
        """
        if self.resize is None and (height, width) == self.shape:
            return self.shape
        rows, cols = self.box
        if self.fit == "squash":
            return rows, cols
        if rows == cols:
            long = int(rows * max(height, width) / min(height, width))
            return (rows, long) if height <= width else (long, rows)
        ratio = min(height / rows, width / cols)
        return round(height / ratio), round(width / ratio)

    def halved(self) -> "Preprocessing":
        """The same for photos of half the size, an odd side rounded up.

        >>> Preprocessing(225, 257).halved()
        Preprocessing(size=(113, 113), resize=(130, 130))
        """
        rows, cols = self.shape
        half = ((rows + 1) // 2, (cols + 1) // 2)
        resize = None if self.resize is None else (-(-self.box[0] * half[0] // rows), -(-self.box[1] * half[1] // cols))
        return replace(self, size=half, resize=resize)

    def plain(self) -> dict[str, Any]:
        """What differs from the defaults, as a run records it; :class:`Preprocessing` takes it again.

        >>> Preprocessing((96, 320), fit="squash").plain()
        {'size': [96, 320], 'fit': 'squash'}
        """
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "size"}
        given = {name: value for name, value in given.items() if value != getattr(type(self), name)}
        return {"size": list(self.shape)} | {
            name: list(value) if isinstance(value, tuple) else value for name, value in given.items()
        }

    @property
    def box(self) -> tuple[int, int]:
        """(rows, cols) that a photo is resized to, or until it covers them."""
        if self.resize is not None:
            return _pair(self.resize, "resize")
        rows, cols = self.shape
        return (rows, cols) if self.fit == "squash" else (round(rows / CROPPED), round(cols / CROPPED))


def _pair(given: Any, what: str) -> tuple[int, int]:
    sides: tuple[Any, ...] = (
        tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given, given)
    )
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
        raise InputError(f"{what} is a number of pixels, or (rows, cols), got {given!r}")
    if min(sides) < 1:
        raise InputError(f"{what} must be at least 1 pixel, got {given}")
    return sides


def shown(size: tuple[int, int]) -> str:
    """``96x320``, as the command line reads it.

    >>> shown((96, 320))
    '96x320'
    """
    return f"{size[0]}x{size[1]}"
