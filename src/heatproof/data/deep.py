"""Colours of 16 bits, of which Pillow keeps the high bytes: the low ones are decoded beside them."""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NATIVE = {"little": "L", "big": "B"}
OTHER = {"B": "L", "L": "B"}


def deep_colours(image: Image.Image) -> bool:
    """Whether a photo that was opened and not loaded yet holds RGB of 16 bits, with or without transparency."""
    tiles = getattr(image, "tile", None) or []
    return "transparency" not in image.info and bool(tiles) and all(_order(tile.args) for tile in tiles)


def read_low_bytes(image: Any) -> None:
    """Load the low bytes where Pillow would keep the high ones: the order of bytes is turned round."""
    image.tile = [tile._replace(args=_turned(tile.args)) for tile in image.tile]
    image.load()


def joined_bytes(high: NDArray[np.uint8], low: NDArray[np.uint8], alpha: bool) -> NDArray[np.uint16]:
    """``[channels, rows, cols]`` from the two halves of ``[rows, cols, channels]``.

    Args:
        alpha: keep the transparency as a fourth channel, instead of laying the photo over white.

    >>> joined_bytes(np.array([[[0x12, 0]]], np.uint8), np.array([[[0x34, 7]]], np.uint8), alpha=True).tolist()
    [[[4660]], [[7]]]
    """
    values = high.astype(np.uint16)
    values <<= 8
    values |= low
    if values.shape[2] == 4 and not alpha:
        white, opaque = np.uint32(65535), values[..., 3:].astype(np.uint32)
        over = values[..., :3] * opaque + white * (white - opaque)
        values = ((over + white // 2) // white).astype(np.uint16)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _mode(args: Any) -> str:
    return str(args[0] if isinstance(args, tuple) else args)


def _order(args: Any) -> str | None:
    """The order of bytes in what a tile says of its pixels, ``RGB;16B``; ``None`` where they have 8 bits."""
    colours, _, depth = _mode(args).partition(";")
    return depth[2:] if colours in ("RGB", "RGBA") and depth[:2] == "16" and depth[2:] in "BLN" else None


def _turned(args: Any) -> Any:
    order = _order(args) or ""
    mode = f"{_mode(args)[:-1]}{OTHER[NATIVE[sys.byteorder] if order == 'N' else order]}"
    return (mode, *args[1:]) if isinstance(args, tuple) else mode
