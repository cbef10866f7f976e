"""File names made from ids: unique in every file system, and short."""

import pytest

from heatproof.results.names import LONGEST, figure_names, file_names, slug

ODD = [
    "猫.png",
    "犬.png",
    "a/b.jpg",
    "a-b.jpg",
    "x_1.png",
    "x-1.png",
    "n" * 306 + ".png",
    "n" * 306 + ".jpg",
    "A.png",
    "a.png",
    "bad\udcff.png",
    "..",
    "",
    "a\nb.png",
    "[x]*~.png",
]


def test_figures_of_odd_ids_do_not_overwrite_each_other() -> None:
    names = figure_names(ODD)
    assert len({name.casefold() for name in names.values()}) == len(ODD)
    assert all(len(name) <= LONGEST + 4 and not set(name) & set("/\\\n[]*~:") for name in names.values())
    assert figure_names(list(reversed(ODD))) == names  # whatever the order


def test_names_that_could_be_told_apart_stay_as_they_were() -> None:
    assert figure_names(["a/dog.png", "cat.jpg"]) == {"a/dog.png": "a-dog.png", "cat.jpg": "cat.png"}
    assert file_names(["GradCAM()", "LRP()"]) == {"GradCAM()": "GradCAM", "LRP()": "LRP"}


def test_a_text_that_is_called_as_the_hash_of_another() -> None:
    hashed = file_names(["x y", "x-y"])["x y"]
    names = file_names(["x y", "x-y", hashed])
    assert len(set(names.values())) == 3


@pytest.mark.parametrize("length", [99, 100, 101, 5000])
def test_a_long_text_is_cut_and_hashed(length: int) -> None:
    assert len(slug("a" * length)) <= LONGEST
    assert slug("a" * length) != slug("a" * (length + 1))
