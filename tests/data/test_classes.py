"""What data calls a class is found among the model's classes, or nothing is."""

import pytest

from heatproof.data.classes import class_indices, unknown_class
from heatproof.errors import InputError
from heatproof.vision import torchvision

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(scope="module")
def imagenet() -> list[str]:
    return list(torchvision.models.ResNet50_Weights.IMAGENET1K_V2.meta["categories"])


def index(text: str, classes: list[str] | None) -> int | None:
    return class_indices([text], classes)[0].get(text)


@pytest.mark.parametrize("text", ["bell pepper", "Bell_Pepper", "bell-pepper", " BELL  pepper", "n07720875", "1"])
def test_every_way_to_name_a_class(text: str) -> None:
    assert index(text, ["pizza", "bell pepper"]) == 1


def test_the_exact_name_wins() -> None:
    assert index("Polish", ["polish", "Polish"]) == 1
    assert index("1", ["0", "7", "1"]) == 2  # named 1, though another class has that number
    assert index("7", ["0", "7", "1"]) == 1
    assert index("2", ["a", "b", "c"]) == 2
    assert index("cat", ["cat, kitten", "cat"]) == 1


@pytest.mark.parametrize(
    ("wnid", "number"),
    [("n01440764", 0), ("n02504458", 386), ("n03345487", 555), ("n02108422", 243), ("n15075141", 999)],
)
def test_wordnet_ids_of_imagenet(imagenet: list[str], wnid: str, number: int) -> None:
    assert index(wnid, imagenet) == number
    # whatever the classes are called: numbers, ids, or (as in some lists) all names of each
    assert index(wnid, [str(place) for place in range(1000)]) == number
    assert index(wnid, [*["n00000000"] * number, wnid]) == number


def test_ambiguous_names_of_imagenet_are_settled_by_the_id(imagenet: list[str]) -> None:
    # two classes are called crane: the bird and the machine
    cranes = ["crane" if name == "crane bird" else name for name in imagenet]
    with pytest.raises(
        InputError, match=r"'crane' stands for classes 134 \(crane\) and 517 \(crane\); use a number or"
    ):
        index("crane", cranes)
    assert (index("n02012849", cranes), index("n03126707", cranes)) == (134, 517)


def test_wordnet_ids_of_other_models() -> None:
    assert index("n02958343", CIFAR10) == 1  # car, auto, automobile, machine, motorcar
    assert index("n02084071", CIFAR10) == 5  # dog, domestic dog
    assert index("n02504458", CIFAR10) is None
    assert index("n99999999", CIFAR10) is None
    assert index("automobile", ["n02084071", "n02958343"]) == 1


def test_unknown() -> None:
    assert class_indices(["cat", "zebra", "10", "-1", "²", ""], CIFAR10)[0] == {"cat": 3}
    assert unknown_class("hoarse", CIFAR10) == "'hoarse' is none of the model's 10 classes; did you mean horse?"


def test_without_a_model() -> None:
    assert class_indices(["b", "a", "b"], None) == ({"b": 1, "a": 0}, ["a", "b"])
    assert class_indices(["10", "2"], None) == ({"10": 10, "2": 2}, None)


@pytest.mark.weights
def test_all_of_imagenet(imagenet: list[str], shared) -> None:
    lines = (shared / "data/imagenet_synset_words.txt").read_text().splitlines()
    wnids, names = zip(*(line.split(" ", 1) for line in lines), strict=True)
    everyone = {wnid: number for number, wnid in enumerate(wnids)}
    for classes in (imagenet, list(names), [name.split(",")[0] for name in names]):
        assert class_indices(wnids, classes)[0] == everyone
