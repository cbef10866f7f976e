"""Boxes from a table: shares, pixels through the resize and the crop, and what makes no box."""

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from heatproof.data import demo
from heatproof.data.boxes import cropped, read_boxes
from heatproof.data.photos import fit, read_photo
from heatproof.data.scenes import scenes
from heatproof.errors import InputError


@pytest.mark.parametrize(("width", "height"), [(64, 64), (200, 120), (90, 300), (50, 50)])
def test_a_bright_rectangle_lies_in_its_box_after_the_crop(tmp_path, width, height):
    pixels = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = (int(width * 0.4), int(height * 0.45), int(width * 0.6), int(height * 0.55))
    pixels[y1:y2, x1:x2] = 255
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    seen = fit(read_photo(tmp_path / "photo.png"), 64)[0] > 0.5
    rows, cols = (torch.nonzero(seen.any(axis)).flatten() for axis in (1, 0))
    box = cropped((x1, y1, x2, y2), width, height, 64)
    assert box is not None
    expected = [float(cols[0]), float(rows[0]), float(cols[-1]) + 1, float(rows[-1]) + 1]
    assert [64 * corner for corner in box] == pytest.approx(expected, abs=1.01)


def test_shares_and_pixels_say_the_same_of_a_photo_of_the_networks_size(tmp_path):
    pl.DataFrame(
        {"image": ["a", "a"], "x1": [0.0, 0.5], "y1": [0.0, 0.5], "x2": [0.5, 1.0], "y2": [0.5, 1.0]}
    ).write_csv(tmp_path / "shares.csv")
    pixels = {"image": ["a", "a"], "x1": [0, 32], "y1": [0, 32], "x2": [32, 64], "y2": [32, 64]}
    pl.DataFrame({**pixels, "width": [64, 64], "height": [64, 64]}).write_parquet(tmp_path / "pixels.parquet")
    assert read_boxes(tmp_path / "shares.csv", 64) == read_boxes(tmp_path / "pixels.parquet", 64)
    assert len(read_boxes(tmp_path / "shares.csv", 64)["a"]) == 2


def test_the_demos_boxes_hold_its_digits():
    photos, boxes = demo.photos(count=4), demo.boxes(count=4)
    assert list(boxes) == [name for name, _, _ in photos]
    drawn = scenes(4, seed=0)  # whose boxes hold the ink tightly: see test_scenes.py
    for (name, pixels, _), image, corners in zip(photos, drawn.images, drawn.boxes, strict=True):
        assert torch.equal(pixels / 255, image)
        assert [[64 * corner for corner in box] for box in boxes[name]] == corners.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,x1,y1,x2\na,0,0,1", "lacks y2"),
        ("image,x1,y1,x2,y2\na,0.5,0,0.4,1", "row 1 of boxes.csv is no box"),
        ("image,x1,y1,x2,y2\na,0,0,1,1\na,one,0,1,1", "row 2 of boxes.csv holds no numbers"),
        ("image,x1,y1,x2,y2,width,height\na,0,0,70,10,64,64", "pixels of the photo of 64 x 64"),
        ("", "no boxes can be read"),
    ],
)
def test_what_is_no_box_is_named(tmp_path, text, message):
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_boxes(tmp_path / "boxes.csv", 64)


def test_a_box_that_the_crop_cuts_off_is_none(tmp_path):
    corners = {"image": ["a", "a"], "x1": [0, 80], "y1": [0, 20], "x2": [20, 120], "y2": [20, 60]}
    pl.DataFrame({**corners, "width": [200, 200], "height": [100, 100]}).write_csv(tmp_path / "boxes.csv")
    found = read_boxes(tmp_path / "boxes.csv", 64)
    assert found == {"a": (cropped((80, 20, 120, 60), 200, 100, 64),)}
