"""One photo: from a file, whatever is in it, to the pixels a network takes.

Pillow decodes and resizes here: it is what the published networks were evaluated with, and it works in one thread
without Python's lock, so that many photos can be read at once beside a busy network.
"""

import contextlib
import io
import math
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from heatproof.data.arrays import NPY, TIFF, as_pixels, check_array, npy_shape, read_npy, read_tiff, tiff_shape
from heatproof.data.channels import Pixels, as_channels, in_range
from heatproof.data.deep import deep_colours, joined_bytes, read_low_bytes
from heatproof.data.listing import open_file
from heatproof.errors import InputError
from heatproof.preprocessing import Preprocessing

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
"""What is decoded, whatever a file is called; Pillow knows more, and some of it starts other programs (EPS)."""

Fit = Literal["resize", "squash", "crop"]
"""How a photo comes to a size of which nothing else is known, see :func:`fit`."""

MAX_PIXELS = 89_478_485
"""Photos with more pixels are taken for decompression bombs: Pillow's own limit, a quarter of a GiB in RGB."""

MAX_BYTES = 1 << 30
"""Bytes that photos may take while they are decoded and fitted, those of all threads together."""

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
# of colours of 16 bits: both halves of their bytes, what is joined of them, and floating point
DEEP = 26
# bytes a pixel that the decoded photo takes with its copies until it is fitted; a progressive JPEG, whose scans are
# held until the last, takes no more
FITTING = 12
LONGEST = 8  # times the short side: of longer photos only the middle is resized, for a strip would grow without bound


def read_photo(
    where: str | Path | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    channels: int = 3,
    alpha: bool = False,
) -> Pixels:
    """Read a photo as it is meant to be seen: upright, and in RGB of 8 bits unless the file holds something else.

    - An EXIF orientation is applied; one that cannot be read counts as upright.
    - Palette, grey, CMYK and other colour spaces are converted to RGB; colour profiles are ignored.
    - Transparency is laid over white, as a page shows it; the colours stored under it are arbitrary.
    - Grey of 16 bits comes as ``[1, height, width]`` in uint16, RGB of 16 bits as ``[3, height, width]``, grey of more
      bits or in floating point in float32; :func:`fit` brings them to [0, 1].
    - A ``.npy`` array comes with the channels and the type that it has: ``[rows, cols]``, ``[channels, rows, cols]`` or
      ``[rows, cols, channels]``.
    - Of an animation or a many-page file the first picture is taken; but of a TIFF with as many grey pages, or bands,
      as the network takes channels (neither 1 nor 3), all of them.

    Only :data:`FORMATS` and ``.npy`` are decoded. Photos that are decoded at once, in whatever threads, take at most
    :data:`MAX_BYTES` together; a thread waits for its turn, and a photo that alone takes more is refused.

    Args:
        where: A file, or the bytes of one.
        max_pixels: Larger photos are refused before they are decoded.
        name: What the error calls the photo; a file's own path if not given.
        channels: That the network takes.
        alpha: Keep the transparency as a fourth channel, instead of laying the photo over white.

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
            return torch.from_numpy(_pixels(file, max_pixels, channels, alpha))
    except InputError as error:
        raise InputError(f"{name} cannot be read: {error}".lstrip()) from error.__cause__


def fit(photo: Pixels, size: int | Preprocessing, how: Fit = "resize") -> Float[Tensor, "seen rows cols"]:
    """Bring a photo to the model's input: its size, its channels, and [0, 1].

    With a :class:`~heatproof.preprocessing.Preprocessing` (``model.preprocessing``) as it says. With a number, of which
    nothing else is known, to RGB of ``size`` x ``size`` pixels: a photo of exactly this size comes through unchanged,
    whatever ``how`` is, and any other is

    - ``"resize"``: resized until its short side is ``round(size / 0.875)``, then cropped to its centre: the convention
      by which ImageNet networks are evaluated (256, then 224). It holds for photos near the input size and for small
      ones too, which are enlarged;
    - ``"crop"``: resized until its short side is ``size``, then cropped to its centre: nothing is lost along the
      short side, and a photo whose short side is ``size`` is only cropped;
    - ``"squash"``: resized to a square; all of it is seen, out of proportion.

    Resizing equals torchvision's and timm's evaluation transforms to the last bit.

    Raises:
        InputError: ``how`` is none of the three, ``size`` is not positive, or the photo's channels or values cannot
            become the network's.

    >>> photo = torch.arange(3 * 4 * 4, dtype=torch.uint8).reshape(3, 4, 4)
    >>> bool((fit(photo, 4) * 255 == photo).all()), tuple(fit(photo, 7).shape)
    (True, (3, 7, 7))
    """
    return scaled(fitted(photo, size, how))


def fitted(
    photo: Pixels, size: int | Preprocessing, how: Fit = "resize"
) -> UInt8[Tensor, "seen rows cols"] | Float[Tensor, "seen rows cols"]:
    """:func:`fit` before the division: what a thread hands on, at a quarter of the memory where it has 8 bits."""
    wanted = as_preprocessing(size, how)
    # what grey is repeated into is resized once
    grey = len(photo) == 1 and wanted.channels == 3
    photo = in_range(photo if grey else as_channels(photo, wanted), wanted.range)
    if wanted.fit == "crop":
        photo = _middle(photo, wanted.box)
    shape = wanted.resized(*photo.shape[-2:])
    if tuple(photo.shape[-2:]) != shape:
        photo = resized(photo, shape, wanted=wanted)
    return as_channels(_centre(photo, *wanted.shape), wanted)


def as_preprocessing(size: int | Preprocessing, how: Fit = "resize") -> Preprocessing:
    """What a model says of its photos; of a mere size, the convention called ``how``."""
    if isinstance(size, Preprocessing):
        return size
    if how not in get_args(Fit):
        raise InputError(f"a photo is fitted by one of {', '.join(get_args(Fit))}, got {how!r}")
    return Preprocessing(size, size if how == "crop" else None, "squash" if how == "squash" else "crop")


def _middle(photo: Tensor, box: tuple[int, int]) -> Tensor:
    """The photo, or its middle where it is very long: a strip would grow without bound until it covers the box."""
    height, width = photo.shape[-2:]
    ratio = min(height / box[0], width / box[1])
    return _centre(photo, min(height, round(LONGEST * ratio * box[0])), min(width, round(LONGEST * ratio * box[1])))


def scaled(pixels: UInt8[Tensor, "*any"] | Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """From 0..255 to [0, 1]; what is there already stays."""
    return pixels if pixels.is_floating_point() else pixels.to(torch.float32).div_(255)


def resized(
    photo: UInt8[Tensor, "channels height width"] | Float[Tensor, "channels height width"],
    shape: tuple[int, int],
    box: tuple[float, float, float, float] | None = None,
    *,
    wanted: Preprocessing | None = None,
) -> UInt8[Tensor, "channels rows cols"] | Float[Tensor, "channels rows cols"]:
    """The photo, or the part of it in ``box`` (left, top, right, bottom in pixels), at ``shape`` (rows, cols).

    Args:
        wanted: says how pixels are interpolated; bilinearly with antialiasing if not given.
    """
    wanted = wanted or Preprocessing()
    if not wanted.antialias and box is None:
        return _interpolated(photo, shape, wanted.interpolation)
    way = Image.Resampling[wanted.interpolation.upper()]
    if photo.dtype == torch.uint8 and len(photo) == 3:
        image = Image.fromarray(photo.permute(1, 2, 0).contiguous().numpy())
        return torch.from_numpy(np.array(image.resize((shape[1], shape[0]), way, box=box))).permute(2, 0, 1)
    bands = [Image.fromarray(band.contiguous().numpy()) for band in photo]
    found = np.stack([np.array(band.resize((shape[1], shape[0]), way, box=box)) for band in bands])
    # bicubic and Lanczos overshoot, which whole numbers cut off by themselves
    return torch.from_numpy(found if photo.dtype == torch.uint8 else found.clip(0, 1))


def _interpolated(photo: Tensor, shape: tuple[int, int], mode: str) -> Tensor:
    """Without antialiasing, as torchvision resizes tensors."""
    exact = {} if mode == "nearest" else {"align_corners": False}
    found = F.interpolate(photo[None].to(torch.float32), size=shape, mode=mode, **exact)[0]
    return found.clamp(0, 1) if photo.is_floating_point() else found.clamp(0, 255).round().to(torch.uint8)


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
def reading() -> Generator[None]:
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


def _pixels(file: BinaryIO, max_pixels: int, channels: int, alpha: bool) -> np.ndarray:
    """``[channels, rows, cols]``."""
    try:
        head = file.read(16)
    except OSError as error:
        raise InputError(f"the disk says {error.strerror or error}") from error
    if not head:
        raise InputError("the file is empty")
    file.seek(0)
    try:
        if head.startswith(NPY):
            _check_room(*npy_shape(file), max_pixels)
            return read_npy(file)
        if head.startswith(TIFF) and (found := _many_bands(file, channels, max_pixels)) is not None:
            return found
        file.seek(0)
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise InputError(_too_large(f"{image.width} x {image.height} pixels", max_pixels))
            deep = deep_colours(image)
            _memory.take(_bytes_wanted(image, deep))
            image.load()
            if not deep:
                return _bands(_upright(image), alpha)
            file.seek(0)
            with Image.open(file, formats=FORMATS) as low:
                read_low_bytes(low)
                return joined_bytes(np.asarray(_upright(image)), np.asarray(_upright(low)), alpha)
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


def _many_bands(file: BinaryIO, channels: int, max_pixels: int) -> np.ndarray | None:
    """The bands of a TIFF that has more than colours and transparency, or as many pages as the network has channels."""
    if channels in (1, 3):
        return None
    pages, bands = _layers(file)
    if bands != channels and pages != channels:
        return None
    by_page = bands != channels
    _check_room(*tiff_shape(file, by_page), max_pixels)
    return read_tiff(file, by_page)


def _layers(file: BinaryIO) -> tuple[int, int]:
    """How many pages a TIFF has, and how many bands its first one."""
    import tifffile

    with tifffile.TiffFile(file, name="photo") as tiff:
        return len(tiff.pages), int(tiff.pages.first.samplesperpixel)


def _check_room(shape: tuple[int, ...], dtype: np.dtype, max_pixels: int) -> None:
    """Take the memory for an array, or stop it before it is read."""
    check_array(shape, dtype)
    count = math.prod(shape)
    if count // min(shape) > max_pixels:
        raise InputError(_too_large(f"{' x '.join(map(str, shape))} numbers", max_pixels))
    # the array itself, and its copies in the order of channels and in float32
    _memory.take(_within_budget(count * (dtype.itemsize + 8), f"{' x '.join(map(str, shape))} numbers"))


def _bytes_wanted(image: Image.Image, deep: bool = False) -> int:
    """What decoding, turning and fitting this photo will take, by what its header says."""
    native = NATIVE.get(image.mode, 4)
    decoding = DECODING.get(image.format or "", 0)
    if deep:
        decoding = DEEP
    wanted = image.width * image.height * max(native + decoding, native + native + 3, FITTING)
    return _within_budget(wanted, f"{image.width} x {image.height} pixels")


def _within_budget(wanted: int, what: str) -> int:
    if wanted > MAX_BYTES:
        raise InputError(
            f"decoding its {what} takes about {wanted >> 20:,} MiB, expected at most "
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


def _bands(image: Image.Image, alpha: bool) -> np.ndarray:
    """``[channels, rows, cols]``: deep grey as it is, every other photo in RGB, with its transparency where asked."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        # Pillow holds some 16-bit files in 32 bits
        short = image.mode.startswith("I") and values.min() >= 0 and values.max() <= 65535
        return as_pixels(values.astype(np.uint16) if short else values)
    bands = 4 if alpha and _transparent(image) else 3
    # a few rows at a time: what lies between takes up to ten times the memory
    pixels = np.empty((image.height, image.width, bands), np.uint8)
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        pixels[top : top + rows] = np.asarray(band.convert("RGBA") if bands == 4 else _rgb(band))
    return pixels.transpose(2, 0, 1)


def _transparent(image: Image.Image) -> bool:
    return "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La")


def _rgb(image: Image.Image) -> Image.Image:
    if _transparent(image):
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image).convert("RGB")
    return image.convert("RGB")
