"""Photos of few and many channels, of 16 bits and more, and of sizes that are not square."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from heatproof.data.batches import batches
from heatproof.data.channels import luma
from heatproof.data.photos import fit, read_photo
from heatproof.data.sources import open_data
from heatproof.errors import InputError
from heatproof.preprocessing import Fit, Preprocessing

GREY = Preprocessing((24, 32), channels=1)


def ramp(rows: int = 24, cols: int = 32, top: float = 1.0) -> np.ndarray:
    return np.linspace(0, top, rows * cols).reshape(rows, cols)


def test_grey_networks_get_luma(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = np.asarray(Image.fromarray(pixels).convert("L"))
    got = fit(read_photo(tmp_path / "a.png"), GREY)
    assert torch.equal((got * 255).round().byte()[0], torch.from_numpy(expected.copy()))


@pytest.mark.parametrize("name", ["scan.png", "scan.tif"])
def test_16_bits_keep_their_range(tmp_path: Path, name: str) -> None:
    values = ramp(top=4000).round().astype(np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    whole = fit(read_photo(tmp_path / name), GREY)
    assert torch.equal(whole[0], torch.from_numpy(values.astype(np.float32)) / 65535)
    window = fit(read_photo(tmp_path / name), Preprocessing((24, 32), channels=1, range=(100, 3000)))
    expected = ((values.astype(np.float32) - 100) / 2900).clip(0, 1)
    torch.testing.assert_close(window[0], torch.from_numpy(expected))
    # an RGB network sees the same in each channel
    assert torch.equal(fit(read_photo(tmp_path / name), Preprocessing((24, 32))), whole.expand(3, -1, -1))


def test_a_dark_scan_is_remarked_with_its_range(tmp_path: Path) -> None:
    Image.fromarray(ramp(top=4000).round().astype(np.uint16)).save(tmp_path / "scan.png")
    source = open_data([tmp_path / "scan.png"])
    with pytest.warns(UserWarning, match=r"scan\.png: .*values of 0\.\.4000 only.*--range 0:4095"):
        list(batches(source, GREY, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(batches(source, Preprocessing((24, 32), channels=1, range=(0, 4095)), 1))
        Image.fromarray(ramp(top=60000).round().astype(np.uint16)).save(tmp_path / "bright.png")
        list(batches(open_data([tmp_path / "bright.png"]), GREY, 1))


def test_deep_photos_are_resized_as_finely_as_they_are(tmp_path: Path) -> None:
    values = ramp(48, 64, 65535).round().astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "scan.png")
    small = fit(read_photo(tmp_path / "scan.png"), Preprocessing((24, 32), (24, 32), channels=1))[0]
    # of a ramp, antialiased halving is the mean of 2x2 away from the border
    expected = torch.from_numpy(values.astype(np.float64).reshape(24, 2, 32, 2).mean((1, 3)) / 65535).float()
    torch.testing.assert_close(small[2:-2, 2:-2], expected[2:-2, 2:-2], atol=2e-5, rtol=0)
    assert len(torch.unique(small)) > 256


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (2, "uint16"), (6, "float32"), (13, "uint8")])
def test_arrays_of_numpy(tmp_path: Path, channels: int, dtype: str, last: bool) -> None:
    top = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    values = (np.random.default_rng(0).random((channels, 24, 32)) * top).astype(dtype)
    np.save(tmp_path / "a.npy", values.transpose(1, 2, 0) if last else values)
    got = fit(read_photo(tmp_path / "a.npy"), Preprocessing((24, 32), channels=channels))
    torch.testing.assert_close(got, torch.from_numpy(values.astype(np.float32) / np.float32(top)))


def test_an_array_of_rows_and_cols_is_grey(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ramp())
    assert torch.equal(fit(read_photo(tmp_path / "a.npy"), GREY)[0], torch.from_numpy(ramp()).float())


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((32, 32, 32)), "which one counts the channels is unknown"),
        (np.zeros((8, 4, 8)), "which one counts the channels is unknown"),
        (np.zeros(5), "its shape is"),
        (np.zeros((5, 6), complex), "complex128"),
        (np.full((5, 6), np.nan), "not finite"),
        (np.array([[None]]), "object"),
    ],
)
def test_arrays_that_are_no_photo_are_refused(tmp_path: Path, values: np.ndarray, reason: str) -> None:
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    with pytest.raises(InputError, match=reason):
        read_photo(tmp_path / "a.npy")


def test_hounsfield_units_want_a_range(tmp_path: Path) -> None:
    values = np.linspace(-1000, 3000, 24 * 32).reshape(24, 32).astype(np.int16)
    np.save(tmp_path / "ct.npy", values)
    with pytest.raises(InputError, match="--range -1000:3000"):
        fit(read_photo(tmp_path / "ct.npy"), GREY)
    got = fit(read_photo(tmp_path / "ct.npy"), Preprocessing((24, 32), channels=1, range=(-1000, 3000)))
    assert (float(got.min()), float(got.max())) == (0.0, 1.0)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_bands_of_a_tiff_are_channels(tmp_path: Path, planar: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (6, 24, 32), dtype=np.uint16)
    shown = values.transpose(1, 2, 0) if planar == "contig" else values
    tifffile.imwrite(tmp_path / "a.tif", shown, photometric="minisblack", planarconfig=planar)
    (photo,) = open_data([tmp_path / "a.tif"], preprocessing=Preprocessing((24, 32), channels=6))
    assert torch.equal(photo.image.to(torch.int32), torch.from_numpy(values.astype(np.int32)))


def test_pages_of_a_tiff_are_channels_where_the_network_takes_so_many(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 24, 32), dtype=np.uint8)
    pages = [Image.fromarray(page) for page in values]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    five = read_photo(tmp_path / "a.tif", channels=5)
    assert torch.equal(five, torch.from_numpy(values))
    assert torch.equal(read_photo(tmp_path / "a.tif"), torch.from_numpy(values[0]).expand(3, -1, -1))
    with pytest.raises(InputError, match="it has 3 channels and the network takes 6"):
        fit(read_photo(tmp_path / "a.tif", channels=6), Preprocessing((24, 32), channels=6))


def test_transparency_is_a_channel_only_where_asked(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    Image.fromarray(pixels[..., :3]).save(tmp_path / "b.png")
    asked = Preprocessing((24, 32), channels=4, alpha=True)
    clear, opaque = (
        fit(photo.image, asked) for photo in open_data([tmp_path / "a.png", tmp_path / "b.png"], preprocessing=asked)
    )
    assert torch.equal((clear * 255).round().byte(), torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
    assert torch.equal(opaque[3], torch.ones(24, 32))
    found = Preprocessing((24, 32), channels=4)
    source = open_data([tmp_path / "a.png"], preprocessing=found)
    assert list(batches(source, found, 1)) == []
    assert "it has 3 channels and the network takes 4" in source.skipped[0]["reason"]


def test_a_photo_that_cannot_be_made_fit_is_skipped_with_the_reason(tmp_path: Path) -> None:
    np.save(tmp_path / "six.npy", np.zeros((6, 24, 32), np.uint8))
    Image.new("RGB", (32, 24)).save(tmp_path / "three.png")
    wanted = Preprocessing((24, 32), channels=6)
    source = open_data(tmp_path, preprocessing=wanted)
    (batch,) = batches(source, wanted, 4)
    assert batch.ids == ["six.npy"]
    assert batch.images.shape == (1, 6, 24, 32)
    assert source.skipped == [{"image": "three.png", "reason": "it has 3 channels and the network takes 6"}]


def test_sizes_that_are_not_square(tmp_path: Path) -> None:
    """A photo in the proportions of its resizing is only scaled and cropped: as timm does it."""
    from timm.data import create_transform

    pixels = np.random.default_rng(0).integers(0, 256, (150, 410, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    ways: tuple[tuple[str, Fit], ...] = (("center", "crop"), ("squash", "squash"))
    for mode, how in ways:
        theirs: Any = create_transform(
            (3, 96, 320), crop_pct=0.9, crop_mode=mode, interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1)
        )
        wanted = Preprocessing((96, 320), (106, 355), how, "bicubic")
        torch.testing.assert_close(fit(photo, wanted), theirs(Image.fromarray(pixels)), atol=1e-6, rtol=0)


def test_without_antialiasing_it_is_torchvisions_tensor_path() -> None:
    from heatproof.vision import torchvision

    photo = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    theirs = torchvision.transforms.functional.resize(photo, [40, 40], antialias=False)
    ours = fit(photo, Preprocessing(40, 40, "squash", antialias=False))
    assert int((ours * 255 - theirs).abs().max().round()) <= 1


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"size": 0}, "at least 1 pixel"),
        ({"size": (1, 2, 3)}, r"or \(rows, cols\)"),
        ({"size": 224, "resize": 200}, "does not fill"),
        ({"fit": "stretch"}, "crop, squash"),
        ({"interpolation": "magic"}, "bicubic"),
        ({"channels": 0}, "at least 1 channel"),
        ({"range": (5, 5)}, "black < white"),
        ({"interpolation": "lanczos", "antialias": False}, "lanczos is made with antialiasing only"),
        ({"alpha": True}, "fourth of 4"),
    ],
)
def test_preprocessings_that_make_no_sense(given: dict, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Preprocessing(**given)


def test_pages_of_different_sizes_are_no_channels(tmp_path: Path) -> None:
    first, second = Image.new("L", (32, 24)), Image.new("L", (16, 24))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    with pytest.raises(InputError, match="its 2 pages are not all grey, of one size and of one type"):
        read_photo(tmp_path / "a.tif", channels=2)


def test_grey_of_colours_in_floating_point_is_luma_as_well() -> None:
    colours = torch.eye(3).view(3, 3, 1)
    assert luma(colours).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114], abs=1e-5)
