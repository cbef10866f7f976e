"""Nasty photos come out as they look, and what cannot be read says why."""

import contextlib
import io
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.testing import assert_close

from heatproof.data import photos
from heatproof.data.photos import fit, read_photo
from heatproof.errors import InputError
from heatproof.preprocessing import Preprocessing
from heatproof.vision import torchvision

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colours(photo: torch.Tensor) -> list[list[list[int]]]:
    """Rows of columns of [red, green, blue]."""
    return photo.permute(1, 2, 0).tolist()


def test_rgb_comes_through_as_stored(tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    Image.fromarray(NOISE).save(path)
    expected = torch.from_numpy(NOISE).permute(2, 0, 1)
    for where in (path, str(path), path.read_bytes()):
        assert read_photo(where).dtype == torch.uint8
        assert torch.equal(read_photo(where), expected)


def test_grey_and_bilevel() -> None:
    grey = Image.fromarray(np.array([[0, 7], [200, 255]], dtype=np.uint8))
    assert colours(read_photo(encoded(grey))) == [[[0] * 3, [7] * 3], [[200] * 3, [255] * 3]]
    bits = Image.fromarray(np.array([[True, False]]))
    assert bits.mode == "1"
    assert colours(read_photo(encoded(bits))) == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    shades = np.array([[0, 257, 128 * 257, 40000, 65535]], dtype=np.uint16)
    photo = read_photo(encoded(Image.fromarray(shades), kind))
    assert photo[0].to(torch.int32).tolist() == shades.tolist()
    seen = fit(photo, Preprocessing((1, 5)))
    torch.testing.assert_close(seen[0], torch.from_numpy(shades.astype(np.float32)) / 65535)


def test_floating_point_grey() -> None:
    def seen(
        values: Sequence[Sequence[float]], kind: type, limits: tuple[float, float] | None = None
    ) -> list[list[float]]:
        photo = read_photo(encoded(Image.fromarray(np.array(values, dtype=kind)), "tiff"))
        return fit(photo, Preprocessing((1, len(values[0])), channels=1, range=limits))[0].tolist()

    assert seen([[0, 0.5, 1]], np.float32) == [[0, 0.5, 1]]
    # of these nothing says what is white
    for beyond, kind in (([[0, 3]], np.float32), ([[-1, 0]], np.float32), ([[0, 70000]], np.int32)):
        with pytest.raises(InputError, match=r"values lie outside 0\.\.1, .* give them as range"):
            seen(beyond, kind)
    assert seen([[0, 35000, 70000]], np.int32, (0, 70000)) == [[0, 0.5, 1]]
    with pytest.raises(InputError, match="not finite"):
        seen([[float("nan"), 0]], np.float32)


def test_palette_with_and_without_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert colours(read_photo(encoded(image))) == [[[255, 0, 0], [0, 0, 255]]]
    assert colours(read_photo(encoded(image, transparency=1))) == [[[255, 0, 0], [255, 255, 255]]]
    assert colours(read_photo(encoded(image, transparency=bytes([0, 255])))) == [[[255, 255, 255], [0, 0, 255]]]
    assert colours(read_photo(encoded(image, "gif"))) == [[[255, 0, 0], [0, 0, 255]]]


def test_transparency_lies_over_white() -> None:
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    assert colours(read_photo(encoded(Image.fromarray(pixels)))) == [[[10, 20, 30], [255] * 3, [204] * 3]]
    key = encoded(Image.fromarray(pixels[..., :3].copy()), transparency=(10, 20, 30))
    assert colours(read_photo(key)) == [[[255] * 3, [255] * 3, [0] * 3]]


def test_cmyk() -> None:
    # no ink is white, all magenta and yellow is red
    image = Image.merge("CMYK", [Image.new("L", (16, 16), ink) for ink in (0, 255, 255, 0)])
    for kind in ("jpeg", "tiff"):
        assert_close(read_photo(encoded(image, kind))[:, 8, 8].int(), torch.tensor([255, 0, 0]).int(), atol=3, rtol=0)
    blank = read_photo(encoded(Image.new("CMYK", (16, 16)), "jpeg"))
    assert int(blank.min()) >= 253


# where the stored top-left pixel is seen, by EXIF orientation
CORNERS = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}


@pytest.mark.parametrize(("orientation", "corner"), CORNERS.items())
def test_exif_turns_the_photo(orientation: int, corner: tuple[int, int]) -> None:
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = read_photo(encoded(Image.fromarray(pixels), exif=exif))
    assert tuple(photo.shape) == ((3, 2, 3) if orientation < 5 else (3, 3, 2))
    assert photo[:, *corner].tolist() == [255] * 3
    assert int(photo.sum()) == 3 * 255


def test_damaged_exif_costs_only_the_turn() -> None:
    photo = read_photo(encoded(Image.fromarray(NOISE), exif=b"Exif\0\0II*\0\xff\xff\xff\xff\xff\xff"))
    assert torch.equal(photo, torch.from_numpy(NOISE).permute(2, 0, 1))


def test_first_picture_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    animation = encoded(frames[0], "gif", save_all=True, append_images=frames[1:])
    assert colours(read_photo(animation))[0][0] == [255, 0, 0]


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "bmp", "tiff"])
def test_truncated(kind: str) -> None:
    content = encoded(Image.fromarray(NOISE), kind)
    with pytest.raises(InputError, match=r"^cannot be read: the file is truncated$"):
        read_photo(content[: len(content) * 2 // 3])


def test_damaged_inside() -> None:
    content = bytearray(encoded(Image.fromarray(NOISE)))
    content[4000:4040] = bytes(40)
    with pytest.raises(InputError, match=r"^cannot be read: the file is damaged \(.+\)$"):
        read_photo(bytes(content))


def test_empty_text_folder_missing_pipe(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("Dear diary, this is no photo. " * 9)
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, reason in {
        "empty.jpg": "the file is empty",
        "text.jpg": "it is not an image, or its first bytes are damaged",
        "pipe.jpg": "it is a device or a pipe, not a file",
        "gone.jpg": "there is no such file",
        ".": "it is a folder, not a photo",
        "x" * 300: "the disk says File name too long",
        "a\0b": "the disk says .*null",
    }.items():
        with pytest.raises(InputError, match=f"cannot be read: {reason}") as caught:
            read_photo(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may read everything")
def test_forbidden(tmp_path: Path) -> None:
    (tmp_path / "mine.png").touch(mode=0)
    with pytest.raises(InputError, match="cannot be read: reading it is not permitted"):
        read_photo(tmp_path / "mine.png")


def test_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = encoded(Image.new("L", (500, 300)))
    assert tuple(read_photo(bomb, max_pixels=150_000).shape) == (3, 300, 500)
    with pytest.raises(InputError, match="cannot be read: it has 500 x 300 pixels, expected at most 149,999"):
        read_photo(bomb, max_pixels=149_999)
    for limit in (100_000, 10_000):  # Pillow's own warning (an error in these tests), and its own error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InputError, match="cannot be read: it has more pixels"):
            read_photo(bomb)


def test_only_the_listed_formats_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "ran"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {canary}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "eps")
    for name, content, reason in (
        ("a.jpg", buffer.getvalue(), "it is EPS, which is not read here; save it as JPEG or PNG"),
        ("b.jpg", b"%PDF-1.7 ", "it is PDF"),
        ("c.png", b"\0\0\0\x18ftypheic\0\0\0\0", "it is HEIC"),
        ("d.png", b"\0\0\0\x0cjP  \r\n\x87\n", "it is JPEG 2000"),
        ("e.png", encoded(Image.new("L", (8, 8)), "tga"), "it is not an image, or its first bytes are damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"cannot be read: {reason}"):
            read_photo(tmp_path / name)
    assert not canary.exists()


def test_the_budget_holds_in_bytes_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "MAX_BYTES", 120_000)
    assert read_photo(encoded(Image.new("RGB", (100, 100)))).shape == (3, 100, 100)
    large = [encoded(Image.new("RGB", (101, 100))), encoded(Image.new("RGB", (99, 99)), "webp")]
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("it was decoded"))
    for content in large:
        with pytest.raises(InputError, match=r"decoding its \d+ x \d+ pixels takes about 0 MiB, expected at most"):
            read_photo(content)


def test_threads_share_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.new("RGB", (100, 100)))
    monkeypatch.setattr(photos, "MAX_BYTES", 250_000)  # two of them at once
    at_once, most = [0], [0]
    original = photos._rgb

    def watched(image: Image.Image) -> object:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        time.sleep(0.01)
        at_once[0] -= 1
        return original(image)

    monkeypatch.setattr(photos, "_rgb", watched)

    def one(number: int) -> None:
        with photos.reading():
            read_photo(content)
            read_photo(content)  # never waits for itself

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(16)))
        assert most[0] == 2
        list(pool.map(lambda number: read_photo(content), range(16)))
    assert photos._memory.taken == 0


def test_rows_in_bands_are_the_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (37, 23, 4), dtype=np.uint8)
    for image in (
        Image.fromarray(noise),
        Image.fromarray(noise[..., 0].astype(np.uint16) * 200),
        Image.fromarray(noise[..., 0]),
    ):
        whole = read_photo(encoded(image))
        with monkeypatch.context() as patched:
            patched.setattr(photos, "BAND", 100)
            assert torch.equal(read_photo(encoded(image)), whole)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0"]))
def test_no_bytes_cause_any_other_error(content: bytes, head: bytes) -> None:
    with contextlib.suppress(InputError):
        read_photo(head + content)


def photo_of(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng([height, width]).integers(0, 256, (3, height, width), dtype=np.uint8))


@pytest.mark.parametrize("how", ["resize", "squash", "crop"])
@pytest.mark.parametrize("size", [32, 64, 224])
def test_a_photo_of_the_input_size_is_left_alone(size: int, how) -> None:
    photo = photo_of(size, size)
    fitted = fit(photo, size, how)
    assert fitted.dtype == torch.float32
    assert torch.equal(fitted * 255, photo.float())
    assert torch.equal(fitted, photo.float() / 255)


@pytest.mark.parametrize("shape", [(375, 500), (500, 333), (227, 227), (160, 213), (64, 64), (256, 300), (30, 41)])
def test_resize_equals_torchvisions_evaluation(shape: tuple[int, int]) -> None:
    from torchvision import transforms

    photo = photo_of(*shape)
    preset = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()])
    assert torch.equal(fit(photo, 224), preset(transforms.ToPILImage()(photo)))
    assert torchvision.__name__ == "torchvision"


def test_crop_only_crops_where_the_short_side_fits() -> None:
    photo = photo_of(10, 16)
    assert torch.equal(fit(photo, 10, "crop") * 255, photo[:, :, 3:13].float())
    assert torch.equal(fit(photo.mT, 10, "crop") * 255, photo.mT[:, 3:13].float())


def test_squash_sees_all_of_it() -> None:
    photo = torch.zeros(3, 20, 40, dtype=torch.uint8)
    photo[..., :20] = 255
    squashed = fit(photo, 10, "squash")
    assert_close(squashed.mean(dim=(0, 1)), torch.tensor([1.0] * 5 + [0.0] * 5), atol=0.15, rtol=0)
    assert_close(squashed.mean(), torch.tensor(0.5), atol=0.01, rtol=0)


def test_a_strip_does_not_burst_the_memory() -> None:
    strip = torch.full((3, 1, 200_000), 77, dtype=torch.uint8)
    for photo in (strip, strip.mT):
        assert torch.equal(fit(photo, 32) * 255, torch.full((3, 32, 32), 77.0))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 50), st.sampled_from(["resize", "squash", "crop"]))
def test_any_shape_fits(height: int, width: int, size: int, how) -> None:
    fitted = fit(photo_of(height, width), size, how)
    assert tuple(fitted.shape) == (3, size, size)
    assert float(fitted.min()) >= 0
    assert float(fitted.max()) <= 1


def test_wrong_settings() -> None:
    with pytest.raises(InputError, match="resize, squash, crop, got 'stretch'"):
        fit(photo_of(4, 4), 4, "stretch")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 1 pixel, got 0"):
        fit(photo_of(4, 4), 0)


@pytest.mark.weights
def test_the_papers_photo(shared: Path) -> None:
    photo = read_photo(shared / "data/photos/both.png")
    assert tuple(photo.shape) == (3, 224, 224)
    assert torch.equal(fit(photo, 224) * 255, photo.float())


def test_a_disk_that_refuses_and_a_memory_that_is_full_are_sentences(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.new("L", (4, 4))))

    def raising(error: BaseException):
        def fail(*given, **named):
            raise error

        return fail

    with monkeypatch.context() as patch:
        patch.setattr(photos, "open_file", raising(PermissionError(13, "Permission denied")))
        with pytest.raises(InputError, match="cannot be read: reading it is not permitted"):
            read_photo(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", raising(MemoryError()))
    with pytest.raises(InputError, match="cannot be read: the memory does not hold it"):
        read_photo(tmp_path / "a.png")


def test_an_array_larger_than_any_photo_is_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((20, 30, 3), np.uint8))
    assert tuple(read_photo(tmp_path / "a.npy", max_pixels=600).shape) == (3, 20, 30)
    with pytest.raises(InputError, match="it has 20 x 30 x 3 numbers, expected at most 599"):
        read_photo(tmp_path / "a.npy", max_pixels=599)


def test_formats_that_are_not_read_are_named() -> None:
    for head, kind in ((b"\0\0\0\x20ftypavif", "AVIF"), (b"\0\0\0\x20ftypheic", "HEIC"), (b"%PDF-1.7", "PDF")):
        with pytest.raises(InputError, match=f"it is {kind}, which is not read here; save it as JPEG or PNG"):
            read_photo(head + bytes(40))
