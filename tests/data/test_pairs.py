"""Images of two classes: which photos they hold, and where."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from heatproof.data.batches import batches, training_batches
from heatproof.data.pairs import TwoClass, two_class
from heatproof.data.sources import Source, open_data
from heatproof.errors import InputError

CLASSES = ["elephant", "mouse", "truck"]
PHOTOS = 5


@pytest.fixture
def source(paint, tmp_path: Path) -> Source:
    """Photo ``n`` of class ``c`` has the colour (100 c, n, 9)."""
    for label, name in enumerate(CLASSES):
        for number in range(PHOTOS):
            paint(f"{name}/{number}.png", colour=(100 * label, number, 9))
    return open_data(tmp_path, classes=CLASSES)


def blocks(image: torch.Tensor) -> list[tuple[int, int]]:
    """(class, photo) of the four blocks, row by row; each must be of one colour."""
    half = image.shape[-1] // 2
    parts = [image[:, top : top + half, left : left + half] for top in (0, half) for left in (0, half)]
    for part in parts:
        assert torch.equal(part, part[:, :1, :1].expand_as(part))
    return [(int(part[0, 0, 0]) // 100, int(part[1, 0, 0])) for part in parts]


def test_two_photos_of_each_class_in_shuffled_places(source: Source) -> None:
    pairs = TwoClass(source, "elephant", "truck", size=16, count=200)
    places, photos = Counter(), Counter()
    for position in range(len(pairs)):
        photo = pairs[position]
        assert (photo.id, photo.label) == (f"pair-{position:05}", -1)
        assert photo.image.shape == (3, 16, 16)
        shown = blocks(photo.image)
        assert sorted(label for label, _ in shown) == [0, 0, 2, 2]
        assert len(set(shown)) == 4  # no photo twice
        places[tuple(label for label, _ in shown)] += 1
        photos.update(shown)
    assert len(places) == 6  # every arrangement, about 33 times each
    assert min(places.values()) > 15
    assert len(photos) == 2 * PHOTOS  # every photo, about 80 times each
    assert min(photos.values()) > 50


def test_pure_in_seed_and_position(source: Source) -> None:
    pairs = TwoClass(source, 0, 2, size=16, count=8, seed=5)
    backwards = [pairs[position].image for position in reversed(range(8))][::-1]
    again = TwoClass(source, "elephant", "truck", size=16, count=4, seed=5)
    assert all(torch.equal(again[position].image, backwards[position]) for position in range(4))
    assert torch.equal(pairs[-1].image, pairs[7].image)
    other = TwoClass(source, 0, 2, size=16, count=8, seed=6)
    assert any(not torch.equal(other[position].image, backwards[position]) for position in range(8))
    with pytest.raises(IndexError):
        pairs[8]


def test_batches_leave_its_images_as_they_are(source: Source) -> None:
    pairs = TwoClass(source, 0, 1, size=14, count=7)
    stream = list(batches(pairs, 14, 3))
    assert [name for batch in stream for name in batch.ids] == pairs.ids
    images = torch.cat([batch.images for batch in stream])
    assert torch.equal(images * 255, torch.stack([pairs[position].image for position in range(7)]).float())
    assert [batch.labels.tolist() for batch in stream] == [[-1] * 3, [-1] * 3, [-1]]
    whole = list(training_batches(pairs, 14, 3, steps=5, seed=1))
    rest = list(training_batches(pairs, 14, 3, steps=5, seed=1, start=3))
    assert [batch.ids for batch in whole[3:]] == [batch.ids for batch in rest]


def test_odd_size(source: Source) -> None:
    image = TwoClass(source, 0, 1, size=15, count=1)[0].image
    assert image.shape == (3, 15, 15)
    assert len({tuple(image[:, row, col].tolist()) for row in (0, 14) for col in (0, 14)}) == 4


def test_the_text_tells_the_settings(source: Source) -> None:
    assert repr(TwoClass(source, 0, "truck", size=16, count=3)).endswith("first=0, second='truck', size=16, count=3)")


def test_unreadable_photos_are_left_out(source: Source, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"mouse/{number}.png").write_bytes(b"")
    pairs = TwoClass(source, "elephant", "mouse", size=16, count=20)
    for position in range(20):
        assert {number for label, number in blocks(pairs[position].image) if label == 1} == {3, 4}
    assert [entry["image"] for entry in pairs.skipped] == [f"mouse/{number}.png" for number in range(3)]
    (tmp_path / "mouse/3.png").write_bytes(b"")
    with pytest.raises(InputError, match="fewer than two photos of class 'mouse' can be read"):
        pairs[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"first": 7}, "has 0 photos of 7: expected at least 2"),
        ({"first": "mouze"}, r"'mouze' is none of the model's 3 classes; did you mean mouse\?"),
        ({"second": "elephant"}, "expected two classes, got 0 and 'elephant'"),
        ({"size": 1}, "expected size >= 2"),
        ({"count": 0}, "got 16, 0 and 0"),
        ({"seed": -1}, "seed >= 0"),
    ],
)
def test_what_is_wrong_is_said(source: Source, wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TwoClass(**{"source": source, "first": 0, "second": 1, "size": 16, "count": 2, **wrong})


def test_one_photo_is_too_few(paint, tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        paint(name)
    with pytest.raises(InputError, match="has 1 photos of 'b': expected at least 2"):
        TwoClass(open_data(tmp_path), "a", "b", size=16, count=2)


@pytest.mark.weights
def test_the_papers_kind_of_pair(shared: Path) -> None:
    classes = [str(number) for number in range(1000)]
    source = open_data(shared / "data/imagenette2-160/val", classes=classes)
    image = TwoClass(source, 569, 571, size=224, count=3)[0].image
    assert image.shape == (3, 224, 224)
    assert float(image.float().std()) > 20


def test_photos_of_16_bits_beside_those_of_8(source: Source, tmp_path: Path) -> None:
    for number in range(PHOTOS):
        Image.fromarray(np.full((8, 8), 65535, np.uint16)).save(tmp_path / "elephant" / f"{number}.png")
    pairs = two_class(open_data(tmp_path, classes=CLASSES), (0, 2), 16, count=3)
    assert pairs.labels == [-1, -1, -1]
    image = pairs[0].image
    assert image.is_floating_point()
    assert sorted(image[0, 4::8, 4::8].flatten().tolist()) == pytest.approx([200 / 255] * 2 + [1.0] * 2)


def test_classes_need_names_and_pairs_need_photos(source: Source) -> None:
    unnamed = replace(source, listing=replace(source.listing, classes=None))
    with pytest.raises(InputError, match=r"the classes of .* have no names: give a number, got 'truck'"):
        TwoClass(unnamed, 0, "truck", size=16, count=1)
    with pytest.raises(InputError, match="makes its images from opened photos"):
        two_class([torch.rand(3, 8, 8)], (0, 1), 16, 3)
