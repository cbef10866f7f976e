"""Photos that are in memory already: an open picture, an array, a batch of tensors."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from heatproof.data.channels import Pixels
from heatproof.data.listing import UNLABELLED, Listing
from heatproof.data.photos import read_photo
from heatproof.data.sources import Source
from heatproof.errors import InputError
from heatproof.types import Images, Labels

Picture = str | Path | Image.Image | NDArray[Any] | Tensor
"""One photo: a file, a picture that Pillow has opened, or an array."""


def pixels_of(photo: Picture) -> Pixels:
    """A photo at its own size, from whatever it is in, as :func:`~heatproof.data.photos.read_photo` hands it out.

    Arrays and tensors are ``[rows, cols]``, ``[rows, cols, channels]`` or ``[channels, rows, cols]`` with 1, 3 or 4
    channels: of 8 bits, or of numbers in [0, 1], which are rounded to 8 bits.

    Raises:
        InputError: it cannot be read, or has another shape, type or range.

    >>> pixels_of(np.full((2, 5), 0.2)).shape
    torch.Size([3, 2, 5])
    """
    if isinstance(photo, str | Path):
        return read_photo(photo)
    if isinstance(photo, Image.Image):
        return read_photo(_file(photo), name="the picture")
    tensor = isinstance(photo, Tensor)
    array = photo.detach().cpu().numpy() if isinstance(photo, Tensor) else np.asarray(photo)
    return read_photo(_file(Image.fromarray(_in_8_bits(_channels_last(array, tensor)))), name="the array")


def open_tensors(images: Images, labels: Labels | Sequence[int] | None = None, name: str = "tensors") -> Source:
    """A batch of images as data that every verb takes; their ids are their places.

    Args:
        images: ``[batch, channels, rows, cols]`` in [0, 1], rounded to 8 bits as photos are.
        labels: the true class of each.
        name: what runs call the data.

    Raises:
        InputError: images that are no batch of pixels in [0, 1], or labels of another number.
    """
    if images.ndim != 4 or len(images) == 0:
        raise InputError(f"images must be a batch [batch, channels, rows, cols], got {list(images.shape)}")
    photos = [pixels_of(image) for image in images]
    known = [UNLABELLED] * len(photos) if labels is None else [int(label) for label in labels]
    if len(known) != len(photos):
        raise InputError(f"one label per image: expected {len(photos)}, got {len(known)}")
    width = len(str(len(photos) - 1))
    listing = Listing(
        [f"{place:0{width}d}" for place in range(len(photos))],
        known,
        fetch=photos.__getitem__,
        stamp=lambda place: photos[place].numpy().tobytes(),
    )
    return Source(name, listing, range(len(photos)))


def _file(image: Image.Image) -> bytes:
    """The picture as a file's bytes, so that it is turned, blended and converted as every other photo."""
    picture = image if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "F") else image.convert("RGB")
    buffer = io.BytesIO()
    if picture.mode == "F":  # PNG holds no such numbers
        picture.save(buffer, "tiff")
    else:
        picture.save(buffer, "png", compress_level=0, exif=image.getexif())
    return buffer.getvalue()


def _channels_last(array: NDArray[Any], tensor: bool) -> NDArray[Any]:
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 2:
        return array
    # where both ends could be channels: torch has them first, all others last
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and (tensor or array.shape[2] not in (1, 3, 4)):
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise InputError(
            "a photo is [rows, cols], [rows, cols, channels] or [channels, rows, cols] with 1, 3 or 4 channels, got "
            f"the shape {list(array.shape)}"
        )
    return array[..., 0] if array.shape[2] == 1 else array


def _in_8_bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"a photo's array is of uint8, or of numbers in [0, 1], got {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if not (low >= -1e-4 and high <= 1 + 1e-4):
        raise InputError(
            f"a photo's numbers must lie in [0, 1], got [{low:.3g}, {high:.3g}]; divide 0..255 by 255, and leave the "
            "normalisation to the model"
        )
    return np.round(np.clip(array, 0, 1) * 255).astype(np.uint8)
