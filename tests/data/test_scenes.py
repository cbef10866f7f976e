import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from heatproof.data.demo import photos
from heatproof.data.scenes import BLOCK, DIGITS, SIDE, _boxes, _digits, _glyphs, _layout, scenes
from heatproof.errors import InputError


@pytest.mark.parametrize("digits", [1, 2])
def test_shapes_ranges_and_types(digits):
    images, labels, boxes = scenes(70, seed=3, digits=digits)
    assert images.shape == (70, 3, SIDE, SIDE)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert labels.shape == ((70,) if digits == 1 else (70, 2))
    assert boxes.shape == (70, digits, 4)
    assert 0 <= labels.min() <= labels.max() <= 9


@pytest.mark.parametrize("digits", [1, 2])
def test_a_scene_does_not_depend_on_how_many_are_asked_for(digits):
    many = scenes(BLOCK + 6, seed=5, digits=digits)
    for count in (0, 1, 4, BLOCK, BLOCK + 1):
        few = scenes(count, seed=5, digits=digits)
        for part, whole in zip(few, many, strict=True):
            assert torch.equal(part, whole[:count])


def test_pure_function_that_leaves_the_global_random_numbers_alone():
    first = scenes(4, seed=1)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = scenes(4, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    first.images.zero_()  # what a caller does to its scenes stays with the caller
    assert torch.equal(scenes(4, seed=1).images, again.images)


def test_seeds_and_splits_give_other_scenes():
    drawn = [scenes(4, seed, split).images for seed in (0, 1) for split in ("train", "test")]
    for i, a in enumerate(drawn):
        assert all((a[k] != b[k]).any() for b in drawn[:i] for k in range(4))


def test_no_digit_is_in_both_splits():
    packed = load_file(DIGITS)
    assert packed["images"].shape == (1797, 8, 8)
    assert packed["images"].max() == 16
    test = {tuple(digit) for digit in packed["images"][packed["test"]].flatten(1).tolist()}
    train = {tuple(digit) for digit in packed["images"][~packed["test"]].flatten(1).tolist()}
    assert len(test) == packed["test"].sum() == 449
    assert not test & train
    # what is drawn comes from the split asked for
    for split, size in (("train", 1348), ("test", 449)):
        assert len(_glyphs(split)[0]) == size


def test_the_packed_digits_are_scikit_learns_and_name_their_source():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    packed, original = load_file(DIGITS), load_digits()
    assert torch.equal(packed["images"].double(), torch.from_numpy(original.images))
    assert torch.equal(packed["labels"].long(), torch.from_numpy(original.target).long())
    with safe_open(DIGITS, "pt") as file:
        assert "Alpaydin" in file.metadata()["authors"]
        assert "CC BY 4.0" in file.metadata()["licence"]


@pytest.mark.parametrize("digits", [1, 2])
def test_boxes_hold_the_digits_ink_tightly_and_lie_inside(digits):
    generator = torch.Generator().manual_seed(0)
    centres, sides = _layout(torch.rand(BLOCK, 7, generator=generator), digits)
    luma = torch.full((BLOCK,), 0.2)
    _, marks = _digits(torch.rand(BLOCK, 16, generator=generator), luma, centres, sides, "test")
    for corners, inks, boxes in zip(marks.corners, marks.ink, _boxes(marks), strict=True):
        for corner, ink, box in zip(corners.tolist(), inks, boxes.tolist(), strict=True):
            places = [(x + corner[0], y + corner[1]) for y, x in (ink > 0.5).nonzero().tolist()]
            columns, rows = zip(*places, strict=True)
            assert box == [min(columns), min(rows), max(columns) + 1, max(rows) + 1]
            assert ink[[0, -1]].max() == ink[:, [0, -1]].max() == 0  # the patch holds the whole digit


def test_boxes_hold_the_digit_that_is_seen():
    """Two scenes that differ in nothing but the digits differ inside the digits' boxes only (and at their rim)."""
    one = scenes(64, seed=2)
    x1, y1, x2, y2 = one.boxes[:, 0].unbind(1)
    assert (one.boxes >= 1).all()
    assert (one.boxes <= SIDE - 1).all()
    width, height = x2 - x1, y2 - y1
    assert ((height >= 19) & (height <= 31)).all()
    assert ((width >= 5) & (width <= 29)).all()
    for image, (left, top, right, bottom) in zip(one.images, one.boxes[:, 0].tolist(), strict=True):
        # the digit stands out: what is inside varies in colour far more than a texture does
        inside = image[:, top:bottom, left:right].flatten(1)
        luma = torch.tensor([0.299, 0.587, 0.114]) @ inside
        assert luma.std() > 0.08


def test_two_digits_differ_and_do_not_overlap():
    _, labels, boxes = scenes(256, seed=4, digits=2)
    assert (labels[:, 0] != labels[:, 1]).all()
    first, second = boxes.unbind(1)
    apart = (first[:, 2:] <= second[:, :2]) | (second[:, 2:] <= first[:, :2])
    assert apart.any(dim=1).all()
    # the first is the left or the upper one
    assert (first[:, 2:] <= second[:, :2]).any(dim=1).all()


def test_classes_and_pairs_are_equally_likely():
    labels = scenes(1000, seed=6).labels
    assert (labels.bincount(minlength=10) - 100).abs().max() < 4 * (1000 * 0.09) ** 0.5
    pairs = scenes(1000, seed=6, digits=2).labels
    assert (pairs[:, 1].bincount(minlength=10) - 100).abs().max() < 4 * (1000 * 0.09) ** 0.5


def test_png_holds_a_scene_exactly(tmp_path):
    images = scenes(3, seed=0).images
    for number, (name, pixels, label) in enumerate(photos(count=3)):
        assert pixels.dtype == torch.uint8
        assert name == f"digit-{label}-{number:04d}"
        path = tmp_path / f"{name}.png"
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
        with Image.open(path) as photo:
            read = torch.tensor(list(photo.tobytes()), dtype=torch.uint8).view(SIDE, SIDE, 3).permute(2, 0, 1)
        assert torch.equal(read / 255, images[number])


def test_photos_of_two_digits_name_both():
    labels = scenes(5, seed=9, digits=2).labels.tolist()
    named = photos(count=5, digits=2, seed=9)
    assert [name for name, _, _ in named] == [f"digits-{a}-{b}-{i:04d}" for i, (a, b) in enumerate(labels)]
    assert [label for _, _, label in named] == [a for a, _ in labels]
    assert photos(count=0) == []


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"count": -1}, "count must be 0 or more, got -1"),
        ({"count": 1, "split": "val"}, "'train' or 'test', got 'val'"),
        ({"count": 1, "digits": 3}, "1 or 2 digits, got digits=3"),
    ],
)
def test_what_cannot_be_drawn_is_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        scenes(seed=0, **wrong)
