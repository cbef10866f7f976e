"""Tables of pairs, and pairs drawn from people."""

from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

from heatproof.data.photo_pairs import draw_pairs, open_pairs
from heatproof.data.sources import open_data
from heatproof.errors import InputError
from heatproof.preprocessing import Preprocessing


@pytest.fixture
def people(tmp_path):
    """Three people with four photos each, every photo of one colour of its own."""
    for number in range(12):
        path = tmp_path / "people" / "abc"[number // 4] / f"{number % 4}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 20 * number, dtype=np.uint8)).save(path)
    return tmp_path / "people"


def table(people, *rows, header="path,reference,same"):
    path = people / "pairs.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_table_gives_photos_and_their_references(people):
    pairs = open_pairs(table(people, "a/0.png,a/1.png,1", "a/0.png,b/2.png,different", "c/3.png,a/0.png,"))
    assert pairs.photos.ids == ["a/0.png~a/1.png", "a/0.png~b/2.png", "c/3.png~a/0.png"]
    assert pairs.photos.labels == [1, 0, -1]
    assert [int(photo.image[0, 0, 0]) for photo in pairs.photos] == [0, 0, 220]
    asked = [pairs.photos.ids[place] for place in (2, 0)]
    references = pairs.facing(asked, Preprocessing(8))
    assert references.shape == (2, 3, 8, 8)
    assert torch.equal(references[:, 0, 0, 0] * 255, torch.tensor([0.0, 20.0]))
    limited = open_pairs(people / "pairs.csv", limit=2, seed=3)
    assert len(limited.photos) == len(limited.references) == 2
    assert limited.photos.positions == limited.references.positions


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["a/0.png,a/1.png,maybe"], "path,reference,same", "row 1 of pairs.csv says 'maybe' of same: expected 1 or 0"),
        (["a/0.png,1"], "path,same", "pairs.csv lacks reference: expected the columns path, reference, same"),
        (["a/0.png,,1"], "path,reference,same", "pairs.csv has no reference in row 1"),
        (
            ["a/0.png,z/1.png,1"],
            "path,reference,same",
            "none of the 1 photos of pairs.csv is there, not even",
        ),
        ([], "path,reference,same", "pairs.csv has no rows"),
    ],
)
def test_a_table_of_anything_else_is_named(people, rows, header, message):
    with pytest.raises(InputError, match=message):
        open_pairs(table(people, *rows, header=header))


def test_a_folder_is_no_table_of_pairs_and_a_broken_reference_is_told(people):
    with pytest.raises(InputError, match="a likeness is that of a photo and its reference photo: expected a table"):
        open_pairs(people)
    (people / "a" / "1.png").write_bytes(b"no photo")
    pairs = open_pairs(table(people, "a/0.png,a/1.png,1"))
    with pytest.raises(InputError, match=r"the reference photo a/0\.png~a/1\.png cannot be read"):
        pairs.facing(pairs.photos.ids, Preprocessing(8))


def test_drawn_pairs_are_half_of_each_kind_and_no_pair_comes_twice(people):
    source = open_data(people)
    pairs = draw_pairs(source, 16, seed=1)
    assert sorted(pairs.photos.labels) == [0] * 8 + [1] * 8
    named = [tuple(text.split("~")) for text in pairs.photos.ids]
    assert len({frozenset(pair) for pair in named}) == 16
    for (a, b), label in zip(named, pairs.photos.labels, strict=True):
        assert (a[0] == b[0]) == bool(label)
        assert a != b
    assert {frozenset(p) for p, label in zip(named, pairs.photos.labels, strict=True) if label} <= {
        frozenset(pair) for person in "abc" for pair in combinations([f"{person}/{i}.png" for i in range(4)], 2)
    }
    assert draw_pairs(source, 16, seed=1).photos.ids == pairs.photos.ids
    assert draw_pairs(source, 16, seed=2).photos.ids != pairs.photos.ids
    with pytest.raises(InputError, match="60 pairs, half of one person and half of two, cannot be drawn"):
        draw_pairs(source, 60)
