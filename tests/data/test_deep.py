"""RGB of 16 bits in PNG and TIFF: every bit of it, upright, over white, with a remark where it is dark."""

import io
import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tifffile
import torch

from heatproof.data.batches import batches
from heatproof.data.photos import fit, read_photo
from heatproof.data.sources import open_data
from heatproof.preprocessing import Preprocessing


def png(pixels: np.ndarray, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits by hand, which Pillow does not write; every second row is filtered by the pixel before."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = pixels.shape
    content = b""
    for number, row in enumerate(pixels.astype(">u2")):
        own = np.frombuffer(row.tobytes(), np.uint8)
        before = np.concatenate([np.zeros(2 * channels, np.uint8), own])[: len(own)]
        content += (b"\1" + (own - before).tobytes()) if number % 2 else b"\0" + own.tobytes()
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(content)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def tiff(pixels: np.ndarray, order: Literal["<", ">"] = "<", compression: str | None = None) -> bytes:
    buffer = io.BytesIO()
    extra = ["unassalpha"] if pixels.shape[2] == 4 else None
    tifffile.imwrite(buffer, pixels, photometric="rgb", byteorder=order, compression=compression, extrasamples=extra)
    return buffer.getvalue()


def colours(channels: int = 3, top: int = 65536) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, (5, 7, channels), dtype=np.uint16)


KINDS = {
    "png": png,
    "tiff": tiff,
    "tiff, big end first": lambda pixels: tiff(pixels, ">"),
    "tiff, zlib": lambda pixels: tiff(pixels, compression="zlib"),
    "tiff, zlib, big end first": lambda pixels: tiff(pixels, ">", "zlib"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_is_kept(kind: str) -> None:
    pixels = colours()
    photo = read_photo(KINDS[kind](pixels))
    assert photo.dtype == torch.uint16
    assert np.array_equal(photo.permute(1, 2, 0).numpy(), pixels)
    seen = fit(photo, Preprocessing((5, 7)))
    torch.testing.assert_close(seen, torch.from_numpy(pixels.astype(np.float32) / 65535).permute(2, 0, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_transparency_lies_over_white_or_is_kept(kind: str) -> None:
    pixels = colours(4)
    content = KINDS[kind](pixels)
    assert np.array_equal(read_photo(content, alpha=True, channels=4).permute(1, 2, 0).numpy(), pixels)
    opaque = pixels[..., 3:].astype(float) / 65535
    wanted = (pixels[..., :3] * opaque + 65535 * (1 - opaque)).round()
    assert np.array_equal(read_photo(content).permute(1, 2, 0).numpy(), wanted)


def test_a_transparent_colour_is_read_in_8_bits() -> None:
    """tRNS names one colour, by which Pillow finds what is transparent once it has 8 bits."""
    photo = read_photo(png(colours(), (b"tRNS", struct.pack(">HHH", 1, 2, 3))))
    assert photo.dtype == torch.uint8


def test_a_dark_photo_is_remarked_and_range_lights_it(tmp_path: Path) -> None:
    pixels = colours(top=4096)
    (tmp_path / "scan.png").write_bytes(png(pixels))
    source = open_data([tmp_path / "scan.png"])
    with pytest.warns(UserWarning, match=r"scan\.png: it has 16 bits .*--range 0:4095"):
        list(batches(source, Preprocessing((5, 7)), 1))
    (batch,) = batches(source, Preprocessing((5, 7), range=(0, 4095)), 1)
    expected = torch.from_numpy(pixels.astype(np.float32) / 4095).permute(2, 0, 1)
    torch.testing.assert_close(batch.images[0], expected)


def test_a_torn_one_is_refused_as_any_other() -> None:
    with pytest.raises(ValueError, match="cannot be read: the file is"):
        read_photo(png(colours())[:120])
