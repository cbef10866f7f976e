"""One photo: from a file, whatever is in it, to the pixels a network takes.

Pillow decodes and resizes here: it is what the published networks were evaluated with, and it works in one thread
without Python's lock, so that many photos can be read at once beside a busy network.
"""

import io
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from heatproof.errors import InputError

Fit = Literal["resize", "squash", "crop"]
"""How a photo comes to the model's input size, see :func:`fit`."""

MAX_PIXELS = 89_478_485
"""Photos with more pixels are taken for decompression bombs: Pillow's own limit, a quarter of a GiB in RGB."""

KEPT = 0.875  # of the resized short side the centre crop keeps this share: 224 of 256
LONGEST = 8  # times the short side: of longer photos only the middle is resized, for a strip would grow without bound


def read_photo(
    where: str | Path | bytes, *, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> UInt8[Tensor, "3 height width"]:
    """Read a photo as it is meant to be seen: upright, in RGB, 8 bits.

    - An EXIF orientation is applied; one that cannot be read counts as upright.
    - Palette, grey, CMYK and other colour spaces are converted to RGB; colour profiles are ignored.
    - Transparency is laid over white, as a page shows it; the colours stored under it are arbitrary.
    - 16-bit grey is scaled from 0..65535 (never clipped), floating-point grey from 0..1, 16-bit RGB loses its low byte.
    - Of an animation or a many-page file the first picture is taken.

    Args:
        where: A file, or the bytes of one.
        max_pixels: Larger photos are refused before they are decoded.
        name: What the error calls the photo; a file's own path if not given.

    Raises:
        InputError: The photo cannot be read; the text ends with a short reason, such as ``cannot be read: the file is
            truncated``.

    >>> buffer = io.BytesIO()
    >>> Image.new("LA", (2, 1), (0, 128)).save(buffer, "png")  # black, half transparent: grey on white
    >>> read_photo(buffer.getvalue())[:, 0, 0]
    tensor([127, 127, 127], dtype=torch.uint8)
    """
    if name is None:
        name = "" if isinstance(where, bytes) else str(where)
    try:
        content = where if isinstance(where, bytes) else _content(Path(where))
        return torch.from_numpy(_pixels(content, max_pixels)).permute(2, 0, 1)
    except InputError as error:
        raise InputError(f"{name} cannot be read: {error}".lstrip()) from error.__cause__


def fit(photo: UInt8[Tensor, "3 height width"], size: int, how: Fit = "resize") -> Float[Tensor, "3 size size"]:
    """Bring a photo to the model's input: ``size`` x ``size`` pixels in [0, 1].

    A photo of exactly this size comes through unchanged, whatever ``how`` is. Any other is

    - ``"resize"``: resized until its short side is ``round(size / 0.875)``, then cropped to its centre: the convention
      by which ImageNet networks are evaluated (256, then 224). It holds for photos near the input size and for small
      ones too, which are enlarged;
    - ``"crop"``: resized until its short side is ``size``, then cropped to its centre: nothing is lost along the
      short side, and a photo whose short side is ``size`` is only cropped;
    - ``"squash"``: resized to a square; all of it is seen, out of proportion.

    Resizing is bilinear with antialiasing and equals torchvision's evaluation transforms to the last bit.

    Raises:
        InputError: ``how`` is none of the three, or ``size`` is not positive.

    >>> photo = torch.arange(3 * 4 * 4, dtype=torch.uint8).reshape(3, 4, 4)
    >>> bool((fit(photo, 4) * 255 == photo).all()), tuple(fit(photo, 7).shape)
    (True, (3, 7, 7))
    """
    return scaled(fitted(photo, size, how))


def fitted(photo: UInt8[Tensor, "3 height width"], size: int, how: Fit = "resize") -> UInt8[Tensor, "3 size size"]:
    """:func:`fit` before the division: what a thread hands on, at a quarter of the memory."""
    if how not in get_args(Fit):
        raise InputError(f"a photo is fitted by one of {', '.join(get_args(Fit))}, got {how!r}")
    if size < 1:
        raise InputError(f"the input size must be at least 1 pixel, got {size}")
    height, width = photo.shape[-2:]
    if height == width == size:
        return photo
    if how == "squash":
        return resized(photo, (size, size))
    longest = LONGEST * min(height, width)
    photo = _centre(photo, min(height, longest), min(width, longest))
    height, width = photo.shape[-2:]
    short = size if how == "crop" else round(size / KEPT)
    long = int(short * max(height, width) / min(height, width))
    if min(height, width) != short:
        photo = resized(photo, (short, long) if height <= width else (long, short))
    return _centre(photo, size, size)


def scaled(pixels: UInt8[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """From 0..255 to [0, 1]."""
    return pixels.to(torch.float32).div_(255)


def resized(
    photo: UInt8[Tensor, "3 height width"],
    shape: tuple[int, int],
    box: tuple[float, float, float, float] | None = None,
) -> UInt8[Tensor, "3 rows cols"]:
    """The photo, or the part of it in ``box`` (left, top, right, bottom in pixels), at ``shape`` (rows, cols)."""
    image = Image.fromarray(photo.permute(1, 2, 0).contiguous().numpy())
    image = image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=box)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _centre(photo: Tensor, rows: int, cols: int) -> Tensor:
    # rounded as torchvision's center_crop rounds
    top, left = round((photo.shape[-2] - rows) / 2), round((photo.shape[-1] - cols) / 2)
    return photo[..., top : top + rows, left : left + cols]


def _content(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise InputError("it is a folder, not a photo")
        if path.exists() and not path.is_file():
            raise InputError("it is a device or a pipe, not a file")
        return path.read_bytes()
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError("there is no such file") from None
    except PermissionError as error:
        raise InputError("reading it is not permitted") from error
    except (OSError, ValueError) as error:  # a name that is too long, a null byte, a disk that fails
        raise InputError(f"the disk says {getattr(error, 'strerror', None) or error}") from error


def _pixels(content: bytes, max_pixels: int) -> np.ndarray:
    if not content:
        raise InputError("the file is empty")
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > max_pixels:
                raise InputError(_too_large(f"{image.width} x {image.height} pixels", max_pixels))
            image.load()
            return np.array(_rgb(_upright(image)))
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(_too_large("more pixels than Pillow opens", max_pixels)) from error
    except UnidentifiedImageError as error:
        raise InputError("it is not an image, or its first bytes are damaged") from error
    except MemoryError as error:
        raise InputError("the memory does not hold it") from error
    except Exception as error:  # what a damaged file raises inside Pillow has no common family
        if "truncated" in str(error).casefold():
            raise InputError("the file is truncated") from error
        raise InputError(f"the file is damaged ({error or type(error).__name__})") from error


def _too_large(what: str, max_pixels: int) -> str:
    return f"it has {what}, expected at most {max_pixels:,}; make it smaller first"


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged note about the photo is no reason to lose the photo
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_grey(np.asarray(image).astype(np.float64) / 65535, "0..65535")
    if image.mode == "F":
        return _from_grey(np.asarray(image).astype(np.float64), "0..1")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image).convert("RGB")
    return image.convert("RGB")


def _from_grey(shade: np.ndarray, expected: str) -> Image.Image:
    if not (shade >= 0).all() or not (shade <= 1).all():
        raise InputError(f"its grey values lie outside {expected}, so that white is unknown; save it in 8 or 16 bits")
    return Image.fromarray(np.round(shade * 255).astype(np.uint8)).convert("RGB")
