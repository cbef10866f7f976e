"""Class folders of a network whose classes have no names."""

from pathlib import Path

import pytest
from PIL import Image
from torch import nn

from heatproof.commands.photos import open_photos
from heatproof.errors import InputError, ModelError
from heatproof.models.classifier import Classifier


def network(classes: int, names: list[str] | None = None) -> Classifier:
    layers = nn.Sequential(nn.Conv2d(3, classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(layers, classes=names, input_size=8, name="mine").eval()


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("wolf", "bear", "cat"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    return tmp_path


def test_it_is_said_how_they_are_numbered(folders: Path) -> None:
    with pytest.warns(UserWarning, match="sorted order of their names, 0 = bear, 1 = cat, 2 = wolf;"):
        source = open_photos(network(3), folders)
    assert {photo.id: photo.label for photo in source} == {"bear/1.png": 0, "cat/1.png": 1, "wolf/1.png": 2}


def test_another_number_of_folders_than_logits_stops(folders: Path) -> None:
    with pytest.raises(
        InputError, match=r"has 3 classes \(bear, cat, wolf, \.\.\.\), and the model has 5 without names"
    ):
        open_photos(network(5), folders)
    # explaining needs no labels
    assert [photo.label for photo in open_photos(network(5), folders, labels_needed=False)] == [-1, -1, -1]


def test_numbers_beyond_the_logits_stop(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "7" / "1.png")
    with pytest.raises(InputError, match="has a class 7, and the model has 3, from 0 on"):
        open_photos(network(3), tmp_path)


def test_names_that_are_not_as_many_as_the_logits_stop(folders: Path) -> None:
    model = network(3, ["bear", "cat"])
    with pytest.raises(ModelError, match="names for 2 classes and returned 3 logits"):
        model(next(iter(open_photos(network(3, ["bear", "cat", "wolf"]), folders))).image[None] / 255)


def test_a_folder_that_is_no_class_is_opened_without_labels_where_none_are_needed(folders: Path) -> None:
    model = network(2, ["bear", "wolf"])
    assert sorted(photo.id for photo in open_photos(model, folders)) == ["bear/1.png", "wolf/1.png"]
    everything = open_photos(model, folders, labels_needed=False)
    assert {photo.id: photo.label for photo in everything} == dict.fromkeys(
        ["bear/1.png", "cat/1.png", "wolf/1.png"], -1
    )
