"""What people are used to from other packages: it works, or one sentence says how it is done here."""

from collections.abc import Callable, Iterator
from typing import Any

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


def of(model: hp.Classifier, place: int = 1) -> nn.Module:
    return model.network[place]  # type: ignore[index,return-value]


HABITS: dict[str, tuple[Callable[[hp.Classifier], Any], str]] = {
    "pytorch-grad-cam": (
        lambda m: hp.GradCAM(model=m, target_layers=[of(m)]),  # type: ignore[call-arg]
        r"without a model, and called with one: GradCAM\(layer=module\)\(model, images, targets\)\. .*'target_layers'",
    ),
    "its places": (lambda m: hp.ScoreCAM(m, [of(m)]), r"ScoreCAM\(layer=module\)\(model, images, targets\)$"),  # type: ignore[arg-type]
    "use_cuda": (lambda m: hp.GradCAM(use_cuda=True), "no setting 'use_cuda'; maps are made where the model is"),  # type: ignore[call-arg]
    "torchcam": (lambda m: hp.GradCAM(target_layer="1"), "'target_layer'; it is called layer here$"),  # type: ignore[call-arg]
    "LayerGradCam": (lambda m: hp.GradCAM(m, of(m)), r"^GradCAM is made without a model"),  # type: ignore[arg-type]
    "IntegratedGradients": (
        lambda m: hp.IntegratedGradients(m),  # type: ignore[arg-type]
        r"made without a model, and called with one: IntegratedGradients\(\.\.\.\)\(model, images, targets\)$",
    ),
    "GuidedBackprop": (lambda m: hp.GuidedBackprop(m), "GuidedBackprop is made without a model"),  # type: ignore[arg-type]
    "n_steps": (lambda m: hp.IntegratedGradients(n_steps=9), "'n_steps'; it is called steps here"),  # type: ignore[call-arg]
    "torchattacks": (
        lambda m: hp.PGD(m, eps=8 / 255, alpha=2 / 255, steps=10),  # type: ignore[call-arg,arg-type]
        r"PGD\(\.\.\.\)\(hp\.misclassify\(model, labels\), images\).*'eps'; it is called epsilon here; .* step_size",
    ),
    "attack(x, y)": (
        lambda m: hp.FGSM()(IMAGES, torch.tensor([0, 1])),  # type: ignore[arg-type]
        r"FGSM\(\.\.\.\)\(hp\.misclassify\(model, labels\), images\)$",
    ),
    "cam(x)": (lambda m: hp.GradCAM()(IMAGES), r"GradCAM\(\.\.\.\)\(model, images, targets\)$"),  # type: ignore[call-arg,arg-type]
    "cam(input_tensor=x)": (
        lambda m: hp.GradCAM()(input_tensor=IMAGES, targets=None),  # type: ignore[call-arg]
        r"GradCAM is called with a model: .*'input_tensor'; it is called images here",
    ),
    "target_layers": (lambda m: hp.GradCAM(target_layers=[of(m)]), "layer here, and takes one module or name: explain"),  # type: ignore[call-arg]
    "a setting that is not needed, misspelt": (
        lambda m: hp.defend(m, IMAGES, quik=True),  # type: ignore[call-arg]
        r"hp\.defend has no setting 'quik'; of quick, if that is meant: a first look is limit=60",
    ),
    "a setting that is like no other": (
        lambda m: hp.audit(m, IMAGES, zzzz=True),  # type: ignore[call-arg]
        r"'zzzz'; there are: model, data, explainer, .*overwrite$",
    ),
    "a misspelt setting": (lambda m: hp.GradCAM(rellu=False), r"no setting 'rellu'; did you mean relu\?"),  # type: ignore[call-arg]
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("habit", HABITS)
def test_how_other_packages_make_and_call(habit: str, model: hp.Classifier) -> None:
    call, said = HABITS[habit]
    with pytest.raises(hp.SpecError, match=said):
        call(model)


def test_what_that_sentence_says_works(model: hp.Classifier) -> None:
    assert hp.GradCAM(layer=of(model))(model, images=IMAGES, targets=2).targets.tolist() == [2, 2]
    with pytest.raises(hp.SpecError, match=r"fgsm has no setting 'eps'; it is called epsilon here"):
        hp.shift(model, IMAGES, attack="fgsm(eps=8/255)")


def test_the_network_is_no_layer_of_itself(model: hp.Classifier) -> None:
    for whole in (model, model.network):
        with pytest.raises(hp.LayerError, match=r"this is Sequential itself; .*GradCAM\(\)\(model, images, targets\)"):
            hp.GradCAM(whole)(model, IMAGES)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("explainer", EXPLAINERS, ids=repr)
def test_a_class_by_name(explainer: hp.GradCAM, model: hp.Classifier) -> None:
    assert explainer(model, IMAGES, "lynx").targets.tolist() == [2, 2]
    assert explainer(model, IMAGES, targets=["lynx", np.int64(1)]).targets.tolist() == [2, 1]  # type: ignore[list-item]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("photo", ["photo.jpg", Image.new("RGB", (20, 20)), np.zeros((20, 20, 3), np.uint8)])
def test_the_network_itself_takes_tensors(photo: object, model: hp.Classifier) -> None:
    for ask in (model, lambda given: hp.explain_together(model, given, [hp.GradCAM("1")])):
        with pytest.raises(hp.InputError, match=r"hp\.open_photo\(photo, model\) makes one, and explainers take paths"):
            ask(photo)
    with pytest.raises(hp.InputError, match=r"FGSM changes the pixels of a tensor of images; hp\.open_photo"):
        hp.FGSM()(hp.misclassify(model, 1), photo)  # type: ignore[arg-type]


def test_what_the_sentence_says_works(model: hp.Classifier) -> None:
    photo = Image.new("RGB", (20, 20), "red")
    assert hp.GradCAM("1")(model, hp.open_photo(photo, model), "lynx").targets.tolist() == [2]
    assert hp.explain(model, photo, explainer=hp.GradCAM("1"), target="lynx").classes == ["lynx"]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "target",
    [ClassifierOutputTarget(1), [ClassifierOutputTarget(1)], 1.5, [0.5, 1], True, [True], torch.tensor(True)],
)
def test_what_is_no_class(target: object, model: hp.Classifier) -> None:
    with pytest.raises(hp.InputError, match=r"a target is a class, by its number or its name, got .*give 281"):
        hp.GradCAM("1")(model, IMAGES, target)  # type: ignore[arg-type]


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=repr)
def test_a_grey_batch(explainer: hp.GradCAM, model: hp.Classifier) -> None:
    """Also where one mean serves all channels, so that only the network knows how many it takes."""
    with pytest.raises(hp.InputError, match=r"takes images of 3 channels, got 1; .*images\.expand\(-1, 3, -1, -1\)"):
        explainer(model, IMAGES[:, :1])


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=repr)
def test_a_grey_batch_and_a_bare_network(explainer: hp.GradCAM) -> None:
    with pytest.raises(hp.InputError, match=r"^Sequential takes images of 3 channels, got 1; of a grey photo"):
        explainer(network(), 4 * IMAGES[:, :1] - 2)


def test_a_bare_network_of_other_channels() -> None:
    """One that makes three of one itself is asked, and goes on."""
    grey = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    assert hp.GradCAM("1")(grey, 4 * IMAGES[:, :1] - 2).heatmaps.shape == (2, 14, 14)
    with pytest.raises(hp.InputError, match="takes images of 1 channels, got 3"):
        hp.GradCAM("1")(grey, 4 * IMAGES - 2)
    thrice = nn.Sequential(nn.Upsample(16), nn.ZeroPad3d((0, 0, 0, 0, 1, 1)), *network())
    assert hp.GradCAM("3")(thrice, 4 * IMAGES[:, :1] - 2).heatmaps.shape == (2, 16, 16)


def test_a_grey_batch_and_the_classifier_itself() -> None:
    """Mean and std of three channels made three of one in silence."""
    model = hp.Classifier(network(), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3), input_size=16)
    for ask in (model, lambda x: hp.FGSM()(hp.misclassify(model, torch.tensor([0, 1])), x)):
        with pytest.raises(hp.InputError, match="takes images of 3 channels, got 1"):
            ask(IMAGES[:, :1])


def test_a_verb_takes_grey_images_for_grey_photos() -> None:
    model = hp.load("demo")
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    with pytest.warns(Remark, match="the images have 1 channel, and demo takes 3: each is taken for a grey photo"):
        told = hp.shift(model, images, epsilon=8 / 255).rows
    assert told == hp.shift(model, images.expand(-1, 3, -1, -1), epsilon=8 / 255).rows


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
