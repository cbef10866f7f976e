"""Images of each listed format, damaged, disguised, enormous or odd."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from tests.fuzz.hostile import cases, damaged, encoded, judged, noise, read_all

from heatproof.data.photos import FORMATS, fit, read_photo

pytestmark = pytest.mark.fuzz
ENDINGS = ("jpg", "png", "webp", "bmp", "gif", "tif", "ppm", "avif")


def exif(seed: int) -> bytes:
    told = Image.Exif()
    told[0x112] = seed % 12
    told[0x10F] = "x" * (seed * 37 % 500)
    return told.tobytes()


def originals(seed: int) -> list[tuple[str, bytes]]:
    """Every format in several modes."""
    colour, grey = Image.fromarray(noise(seed)), Image.fromarray(noise(seed)[..., 0])
    deep = Image.fromarray(noise(seed)[..., 0].astype(np.uint16) * 257)
    clear = Image.fromarray(noise(seed, channels=4))
    frames = [Image.fromarray(noise(seed + n)) for n in range(3)]
    return [
        ("JPEG", encoded(colour, "JPEG", exif=exif(seed))),
        ("JPEG", encoded(colour, "JPEG", progressive=True)),
        ("JPEG", encoded(colour.convert("CMYK"), "JPEG")),
        ("JPEG", encoded(grey, "JPEG")),
        ("PNG", encoded(colour, "PNG", exif=exif(seed))),
        ("PNG", encoded(deep, "PNG")),
        ("PNG", encoded(clear, "PNG")),
        ("PNG", encoded(colour.quantize(16), "PNG", transparency=3)),
        ("PNG", encoded(colour, "PNG", save_all=True, append_images=frames)),
        ("WEBP", encoded(colour, "WEBP", exif=exif(seed))),
        ("WEBP", encoded(clear, "WEBP", lossless=True)),
        ("WEBP", encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])),
        ("BMP", encoded(colour, "BMP")),
        ("BMP", encoded(colour.quantize(16), "BMP")),
        ("GIF", encoded(colour, "GIF")),
        ("GIF", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], transparency=0)),
        ("TIFF", encoded(deep, "TIFF")),
        ("TIFF", encoded(colour.convert("CMYK"), "TIFF", compression="tiff_lzw")),
        ("TIFF", encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:], compression="tiff_deflate")),
        ("TIFF", encoded(Image.fromarray(noise(seed)[..., 0].astype(np.float32) / 255), "TIFF")),
        ("PPM", encoded(colour, "PPM")),
        ("PPM", encoded(grey, "PPM")),
        *([("AVIF", encoded(colour, "AVIF", speed=10))] if "AVIF" in Image.SAVE or Image.init() else []),
    ]


def test_whole_images_of_every_format_are_read():
    found = originals(0)
    assert {kind for kind, _ in found} == set(FORMATS)
    for _, content in found:
        with judged("images whole"):
            assert read_photo(content).shape[0] in (1, 3)  # deep grey keeps its one channel


@pytest.mark.parametrize("seed", cases(6))
def test_damaged(seed, canary):
    draw = np.random.default_rng([1, seed])
    for number, (_, content) in enumerate(originals(seed)):
        for turn in range(8):
            with judged("images damaged"):
                photo = read_photo(damaged(content, np.random.default_rng([seed, number, turn])))
                fit(photo, int(draw.integers(1, 64)))


@pytest.mark.parametrize("seed", cases(3))
def test_cut_at_every_length_and_under_every_name(seed, tmp_path, canary):
    for number, (_, content) in enumerate(originals(seed)):
        draw = np.random.default_rng([2, seed, number])
        folder = tmp_path / str(number)
        folder.mkdir()
        for place, ending in enumerate(ENDINGS):
            length = int(draw.integers(len(content) + 1)) if place else len(content)
            (folder / f"{place}.{ending}").write_bytes(content[:length])
        with judged("images cut, wrong names"):
            read, skipped = read_all(folder, "images cut, wrong names")
            assert len(read) + len(skipped) == len(ENDINGS)


OTHER = [
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(canary-ran) (w) file closefile\n%%EOF\n",
    b"%PDF-1.7\n",
    b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
    b"\0\0\0\x18ftypheic\0\0\0\0heic",
    b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50),
    b"8BPS\0\x01" + bytes(60),
    b"SIMPLE  =                    T",
    b"FORM\0\0\0\0ILBM",
    b"\x0a\x05\x01\x08" + bytes(124),
    b"MSIM" + bytes(30),
    b"ID3\x03" + bytes(40),
    b"PK\x03\x04" + bytes(40),
    b"\x7fELF" + bytes(60),
    b"#!/bin/sh\ntouch canary-ran\n",
    b"\0" * 1000,
    b"\xff" * 1000,
    b"RIFF\xff\xff\xff\xffWEBPVP8X\xff\xff\xff\xff",
    b"import os; os.system('touch canary-ran')\n",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"BM",
    b"II*\0\x08\0\0\0",
    b"P6 99999 99999 255\n",
    b"P5\n99999999999999999999 1\n255\n",
    b"P4 -1 -1\n",
    b"P7\nWIDTH 1\nENDHDR\n",
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_other_formats_start_nothing(ending, tmp_path, canary):
    for number, content in enumerate(OTHER):
        (tmp_path / f"{number}.{ending}").write_bytes(content)
    with judged("images of other formats"):
        read, skipped = read_all([tmp_path / f"{n}.{ending}" for n in range(len(OTHER))], "images of other formats")
        assert (read, len(skipped)) == ([], len(OTHER))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("depth", [1, 8, 16])
@pytest.mark.parametrize("colour", [0, 2, 3, 4, 6])
@pytest.mark.parametrize("side", [9_400, 30_000, 2**31 - 1])
def test_bombs_are_refused_by_their_header(depth, colour, side):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0))
    body = chunk(b"PLTE", bytes(6)) + chunk(b"IDAT", zlib.compress(bytes(100_000)))
    with judged("images bombs"):
        read_photo(b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b""), max_pixels=50_000_000)
        pytest.fail("it was read")


@pytest.mark.parametrize("seed", cases(200))
def test_random_bytes_after_each_magic_word(seed):
    draw = np.random.default_rng([3, seed])
    for _, content in originals(0):
        with judged("images random"):
            read_photo(content[: int(draw.integers(2, 40))] + draw.bytes(int(draw.integers(0, 400))))
