"""What people are used to from other packages: it works, or one sentence says how it is done here."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from jaxtyping import config
from PIL import Image
from torch import nn

import heatproof as hp
from heatproof.errors import Remark

EXPLAINERS = [
    hp.GradCAM(),
    hp.HiResCAM(),
    hp.ScoreCAM(),
    hp.SimpleGrad(layer="pixels"),
    hp.IntegratedGradients(steps=2),
    hp.GuidedBackprop(),
    hp.LRP(),
    hp.Occlusion(patch=8, stride=8),
    hp.RISE(masks=2),
]
CLASSES = ["tiger cat", "tabby", "lynx", "fox"]


class ClassifierOutputTarget:
    """As pytorch-grad-cam's."""

    def __init__(self, category: int):
        self.category = category

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output[self.category]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)
    ).eval()


@pytest.fixture
def model() -> hp.Classifier:
    return hp.Classifier(network(), classes=CLASSES, input_size=16)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Types are not checked, as where the package is used."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_a_module_names_the_layer(model: hp.Classifier) -> None:
    by_module = hp.GradCAM(layer=model.network[1])(model, IMAGES)  # type: ignore[index]
    assert torch.equal(by_module.heatmaps, hp.GradCAM("1")(model, IMAGES).heatmaps)
    assert by_module.numpy().shape == (2, 16, 16)


@pytest.mark.usefixtures("unchecked")
def test_a_list_of_layers_is_refused(model: hp.Classifier) -> None:
    with pytest.raises(hp.LayerError, match=r"got list; a map is of one layer: .* give layer=module"):
        hp.GradCAM(layer=[model.network[1]])(model, IMAGES)  # type: ignore[index,arg-type]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("explainer", EXPLAINERS, ids=repr)
def test_a_class_by_name(explainer: hp.GradCAM, model: hp.Classifier) -> None:
    assert explainer(model, IMAGES, "lynx").targets.tolist() == [2, 2]
    assert explainer(model, IMAGES, targets=["lynx", np.int64(1)]).targets.tolist() == [2, 1]  # type: ignore[list-item]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("explainer", EXPLAINERS, ids=repr)
@pytest.mark.parametrize("photo", ["photo.jpg", Image.new("RGB", (20, 20)), np.zeros((20, 20, 3), np.uint8)])
def test_a_photo_is_opened_first(explainer: hp.GradCAM, photo: object, model: hp.Classifier) -> None:
    with pytest.raises(hp.InputError, match=r"hp\.open_photo\(photo, model\) makes one, and hp\.explain takes paths"):
        explainer(model, photo, "lynx")  # type: ignore[arg-type]


def test_what_the_sentence_says_works(model: hp.Classifier) -> None:
    photo = Image.new("RGB", (20, 20), "red")
    assert hp.GradCAM("1")(model, hp.open_photo(photo, model), "lynx").targets.tolist() == [2]
    assert hp.explain(model, photo, explainer=hp.GradCAM("1"), target="lynx").classes == ["lynx"]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("target", [ClassifierOutputTarget(1), [ClassifierOutputTarget(1)], 1.5, [0.5, 1]])
def test_what_is_no_class(target: object, model: hp.Classifier) -> None:
    with pytest.raises(hp.InputError, match=r"a target is a class, by its number or its name, got .*give 281"):
        hp.GradCAM("1")(model, IMAGES, target)  # type: ignore[arg-type]


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=repr)
def test_a_grey_batch(explainer: hp.GradCAM, model: hp.Classifier) -> None:
    """Also where one mean serves all channels, so that only the network knows how many it takes."""
    with pytest.raises(hp.InputError, match=r"takes images of 3 channels, got 1; .*images\.expand\(-1, 3, -1, -1\)"):
        explainer(model, IMAGES[:, :1])


@pytest.mark.usefixtures("unchecked")
def test_forms_of_a_batch(model: hp.Classifier) -> None:
    for images, way in ((IMAGES[0], r"images\[None\]"), ((255 * IMAGES).byte(), r"images\.float\(\) / 255")):
        with pytest.raises(hp.InputError, match=way):
            hp.GradCAM("1")(model, images)


@pytest.mark.usefixtures("unchecked")
def test_pixels_of_another_range(model: hp.Classifier) -> None:
    for images, way in ((255 * IMAGES, "images / 255"), (4 * IMAGES - 2, "as they were before")):
        with pytest.raises(hp.InputError, match=rf"must lie in \[0, 1\].*{way}"):
            hp.GradCAM("1")(model, images)


@pytest.mark.parametrize(
    ("images", "said"),
    [(IMAGES, "as pixels do before they are normalised. "), (255 * IMAGES, "even before they are divided by 255")],
)
def test_a_bare_network_is_given_plain_pixels(images: torch.Tensor, said: str) -> None:
    bare = network()
    with pytest.warns(Remark, match=f"Sequential is a bare network.*{said}"):
        hp.GradCAM("1")(bare, images)


@pytest.mark.filterwarnings("error")
def test_a_bare_network_is_given_what_it_takes() -> None:
    bare = network()
    hp.GradCAM("1")(bare, 4 * IMAGES - 2)
    # and it is said once
    known = network()
    with pytest.warns(Remark):
        hp.GradCAM("1")(known, IMAGES)
    hp.GradCAM("1")(known, IMAGES)


def test_a_map_of_one_cell(model: hp.Classifier) -> None:
    with pytest.warns(Remark, match=r"the map of layer '2' is 1x1: it says how much, not where"):
        hp.GradCAM("2")(model, IMAGES)
    with pytest.warns(Remark, match="1x1"):
        hp.explain_together(model, IMAGES, [hp.GradCAM("2")])


@pytest.mark.usefixtures("unchecked")
def test_the_class_of_an_explainer_is_not_one(model: hp.Classifier) -> None:
    with pytest.raises(hp.SpecError, match=r"did you mean GradCAM\(\)\?"):
        hp.explain(model, IMAGES, explainer=hp.GradCAM)  # type: ignore[arg-type]
