"""Photos that Pillow does not hold whole: NumPy's arrays, and TIFF with many bands or pages."""

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from heatproof.errors import InputError

NPY = b"\x93NUMPY"
"""How a file of ``numpy.save`` begins."""
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF files begin, those of more than 4 GiB too."""
HEADER = 10_000  # bytes of a header that are read, as NumPy itself does


def npy_shape(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array in a ``.npy`` file, by its header; nothing else is read."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file, max_header_size=HEADER)
    return shape, dtype


def read_npy(file: BinaryIO) -> NDArray[Any]:
    """The array of a ``.npy`` file as ``[channels, rows, cols]`` of uint8, uint16 or float32; no pickles."""
    file.seek(0)
    return as_pixels(np.load(file, allow_pickle=False, max_header_size=HEADER))


def check_array(shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Stop what is no photo, by its header."""
    if dtype.kind not in "buif":
        raise InputError(f"it holds {dtype}, expected whole or floating-point numbers")
    if len(shape) not in (2, 3) or 0 in shape:
        raise InputError(
            f"its shape is {list(shape)}, expected [rows, cols], [channels, rows, cols] or [rows, cols, channels]"
        )


def as_pixels(values: NDArray[Any]) -> NDArray[Any]:
    """``[channels, rows, cols]`` of uint8, uint16, or float32 (whatever else it was) from an array.

    Of three axes the channels are the first or the last, whichever is the shortest of the three.

    Raises:
        InputError: neither is; or the numbers are not finite.

    >>> as_pixels(np.zeros((5, 6), "uint8")).shape, as_pixels(np.zeros((5, 6, 4), "int32")).shape
    ((1, 5, 6), (4, 5, 6))
    """
    check_array(values.shape, values.dtype)
    if values.ndim == 2:
        values = values[None]
    elif values.shape[2] < min(values.shape[:2]):
        values = values.transpose(2, 0, 1)
    elif values.shape[0] >= min(values.shape[1:]):
        raise InputError(
            f"its shape is {list(values.shape)}, of which neither the first nor the last number is the smallest: which "
            "one counts the channels is unknown; save one photo as [channels, rows, cols]"
        )
    if values.dtype.kind != "u" or values.dtype.itemsize > 2:
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise InputError("it holds numbers that are not finite")
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


def tiff_shape(file: BinaryIO, pages: bool) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of what :func:`read_tiff` would read."""
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file, name="photo") as tiff:
        first = tiff.pages.first
        shape = (len(tiff.pages), *first.shape) if pages else first.shape
        return shape, np.dtype(first.dtype)


def read_tiff(file: BinaryIO, pages: bool) -> NDArray[Any]:
    """The bands of a TIFF's first page, or all of its grey pages, as ``[channels, rows, cols]``."""
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file, name="photo") as tiff:
        if not pages:
            first = tiff.pages.first
            values = first.asarray()
            # of a page the file says where its bands are
            if values.ndim == 3 and first.axes.startswith("S"):
                return _typed(values)
            return _typed(values.transpose(2, 0, 1)) if values.ndim == 3 else as_pixels(values)
        found = [page.asarray() for page in tiff.pages]
    if any(page.ndim != 2 or page.shape != found[0].shape or page.dtype != found[0].dtype for page in found):
        raise InputError(f"its {len(found)} pages are not all grey, of one size and of one type")
    return _typed(np.stack(found))


def _typed(values: NDArray[Any]) -> NDArray[Any]:
    """:func:`as_pixels` of an array whose channels are known to come first."""
    return np.concatenate([as_pixels(band) for band in values])
