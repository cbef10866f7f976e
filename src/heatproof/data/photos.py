"""One photo: from a file, whatever is in it, to the pixels a network takes.

Pillow decodes and resizes here: it is what the published networks were evaluated with, and it works in one thread
without Python's lock, so that many photos can be read at once beside a busy network.
"""

import contextlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from heatproof.data.listing import open_file
from heatproof.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
"""What is decoded, whatever a file is called; Pillow knows more, and some of it starts other programs (EPS)."""

Fit = Literal["resize", "squash", "crop"]
"""How a photo comes to the model's input size, see :func:`fit`."""

MAX_PIXELS = 89_478_485
"""Photos with more pixels are taken for decompression bombs: Pillow's own limit, a quarter of a GiB in RGB."""

MAX_BYTES = 1 << 30
"""Bytes that photos may take while they are decoded and fitted, those of all threads together."""

KEPT = 0.875  # of the resized short side the centre crop keeps this share: 224 of 256
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How a photo becomes upright, by EXIF's orientation."""

BAND = 1 << 18  # pixels that are converted at once
# bytes a pixel takes in Pillow's memory (4 in the modes that are not listed), and beside it while it is decoded
NATIVE = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
DECODING = {"WEBP": 18, "AVIF": 20, "GIF": 4}
PROGRESSIVE = 8  # of a JPEG whose scans are held until the last
FITTING = 12  # bytes a pixel that the decoded photo takes with its copies until it is fitted
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

    Only :data:`FORMATS` are decoded. Photos that are decoded at once, in whatever threads, take at most
    :data:`MAX_BYTES` together; a thread waits for its turn, and a photo that alone takes more is refused.

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
        counted = contextlib.nullcontext() if _memory.counting else reading()
        with counted, io.BytesIO(where) if isinstance(where, bytes) else _opened(Path(where)) as file:
            return torch.from_numpy(_pixels(file, max_pixels)).permute(2, 0, 1)
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


class _Memory:
    """Bytes that threads take and give back; one that finds too few waits for the others."""

    def __init__(self) -> None:
        self.taken = 0
        self.changed = threading.Condition()
        self.own = threading.local()

    def take(self, wanted: int) -> None:
        """Wait for ``wanted`` bytes, to be given back at the end of the :func:`reading` block."""
        with self.changed:
            # a thread that holds some already never waits: two such would wait for each other
            while self.taken and self.taken + wanted > MAX_BYTES and not self.own.held:
                self.changed.wait()
            self.taken += wanted
        self.own.held += wanted

    @property
    def counting(self) -> bool:
        """Whether this thread is in a :func:`reading` block."""
        return getattr(self.own, "held", None) is not None

    def give_back(self, count: int) -> None:
        with self.changed:
            self.taken -= count
            self.changed.notify_all()


_memory = _Memory()


@contextmanager
def reading() -> Iterator[None]:
    """Photos that are read in this block, in this thread, count against :data:`MAX_BYTES` until it ends.

    Put it round the reading and the fitting of a photo, so that its pixels are gone when the next thread begins.
    """
    before, _memory.own.held = getattr(_memory.own, "held", None), 0
    try:
        yield
    finally:
        count, _memory.own.held = _memory.own.held, before
        _memory.give_back(count)


def _opened(path: Path) -> BinaryIO:
    try:
        return open_file(path)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError("there is no such file") from None
    except PermissionError as error:
        raise InputError("reading it is not permitted") from error
    except (OSError, ValueError) as error:  # a name that is too long, a null byte, a disk that fails
        raise InputError(f"the disk says {getattr(error, 'strerror', None) or error}") from error


def _pixels(file: BinaryIO, max_pixels: int) -> np.ndarray:
    try:
        head = file.read(16)
    except OSError as error:
        raise InputError(f"the disk says {error.strerror or error}") from error
    if not head:
        raise InputError("the file is empty")
    file.seek(0)
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise InputError(_too_large(f"{image.width} x {image.height} pixels", max_pixels))
            _memory.take(_bytes_wanted(image))
            image.load()
            return _rgb(_upright(image))
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(_too_large("more pixels than Pillow opens", max_pixels)) from error
    except UnidentifiedImageError as error:
        raise InputError(_unknown(head)) from error
    except MemoryError as error:
        raise InputError("the memory does not hold it") from error
    except Exception as error:  # what a damaged file raises inside Pillow has no common family
        if "truncated" in str(error).casefold():
            raise InputError("the file is truncated") from error
        raise InputError(f"the file is damaged ({error or type(error).__name__})") from error


def _bytes_wanted(image: Image.Image) -> int:
    """What decoding, turning and fitting this photo will take, by what its header says."""
    native = NATIVE.get(image.mode, 4)
    decoding = DECODING.get(image.format or "", 0)
    if image.info.get("progressive"):
        decoding = PROGRESSIVE
    wanted = image.width * image.height * max(native + decoding, native + native + 3, FITTING)
    if wanted > MAX_BYTES:
        raise InputError(
            f"decoding its {image.width} x {image.height} pixels takes about {wanted >> 20:,} MiB, expected at most "
            f"{MAX_BYTES >> 20:,} MiB; make it smaller first"
        )
    return wanted


def _unknown(head: bytes) -> str:
    known = {b"%!PS": "EPS", b"%PDF": "PDF", b"\x00\x00\x00\x0cjP": "JPEG 2000", b"\xffO\xffQ": "JPEG 2000"}
    kind = next((name for start, name in known.items() if head.startswith(start)), None)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        kind = "HEIC"
    elif head[4:12] in (b"ftypavif", b"ftypavis"):
        kind = "AVIF"
    if kind:
        return f"it is {kind}, which is not read here; save it as JPEG or PNG"
    return "it is not an image, or its first bytes are damaged"


def _too_large(what: str, max_pixels: int) -> str:
    return f"it has {what}, expected at most {max_pixels:,}; make it smaller first"


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged note about the photo is no reason to lose the photo
        return image
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> np.ndarray:
    """RGB ``[rows, cols, 3]``, a few rows at a time: what lies between takes up to ten times the memory."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        pixels[top : top + rows] = np.asarray(_converted(band))
    return pixels


def _converted(image: Image.Image) -> Image.Image:
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
