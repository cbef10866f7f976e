"""A classifier finds the class that is meant, and says what it cannot take."""

import pytest
import torch
from tests.shapes import unchecked
from torch import nn

import heatproof as hp
from heatproof.errors import InputError, ModelError, Remark
from heatproof.models.bare import as_classifier
from heatproof.models.classifier import class_number
from heatproof.models.hardware import Hardware

CLASSES = ["African elephant", "Indian elephant", "fire engine", "7"]


def model(classes: list[str] | None = CLASSES) -> hp.Classifier:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return hp.Classifier(network, classes=classes, name="small").eval()


@pytest.mark.parametrize(
    ("wanted", "index"), [("fire engine", 2), ("FIRE ENGINE", 2), ("african", 0), ("engine", 2), (3, 3), ("1", 1)]
)
def test_a_class_is_found_by_number_name_or_part(wanted: str | int, index: int) -> None:
    assert model().class_index(wanted) == index


def test_a_name_of_several_classes_is_the_first_one_and_the_others_are_said() -> None:
    """ImageNet has two cranes and two maillots, and some lists of its classes do not tell them apart."""
    twice = model(["tabby", "crane", "Crane", "crane", "maillot"])
    said = "'crane' is the name of 2 classes of small: 1 is taken, the other is 3; give another by its number"
    with pytest.warns(Remark, match=said):
        assert twice.class_index("crane") == 1
    # as it is written comes before another case
    assert (twice.class_index("Crane"), twice.class_index("maillot"), twice.class_index("3")) == (2, 4, 3)
    with pytest.warns(Remark, match=r"'CRANE' is the name of 3 classes of small: 1 is taken, the others are 2 and 3"):
        assert class_number(twice, "CRANE") == 1


def test_a_class_that_was_not_named_in_full_is_said_in_python_too() -> None:
    with pytest.warns(Remark, match=r"the class is read as engin: fire engine \(2\)"):
        assert (
            hp.explain(model(), torch.rand(1, 3, 8, 8), explainer="simple_grad()", target="engin").rows[0]["target"]
            == 2
        )
    assert class_number(model(), "Fire Engine") == 2


@pytest.mark.parametrize(
    ("classes", "wanted", "told"),
    [
        (CLASSES, "elephant", r"fits several classes of small: African elephant \(0\), Indian elephant \(1\)"),
        (CLASSES, "fire engin e", "has no class 'fire engin e'; did you mean fire engine"),
        (CLASSES, 4, "there is no class 4: small has 4 classes"),
        (None, "elephant", "small has no class names; give the class as a number"),
    ],
)
def test_a_class_that_is_not_there_is_named(classes: list[str] | None, wanted: str | int, told: str) -> None:
    with pytest.raises(InputError, match=told):
        model(classes).class_index(wanted)


@unchecked()
def test_what_is_no_batch_of_images_is_refused() -> None:
    images = torch.rand(2, 3, 8, 8)
    for wrong, told in (
        (images[0], "must be a floating-point batch"),
        ((images * 255).byte(), "got .* of uint8"),
        (images[:0], "there is no image"),
        (
            images.masked_fill(images > 0.99, torch.nan),
            r"lie in \[0, 1\], and [\d,]+ of 384 values (is|are) no numbers? \(NaN\)",
        ),
        (images * 4 - 2, r"must lie in \[0, 1\], got \[-"),
    ):
        with pytest.raises(InputError, match=told):
            hp.GradCAM("0")(model(), wrong)
    with pytest.raises(InputError, match=r"one target per image: expected \[2\], got \[3\]"):
        hp.GradCAM("0")(model(), images, torch.tensor([0, 1, 2]))
    with pytest.raises(InputError, match=r"targets must lie in 0\.\.3, got 4$"):
        hp.GradCAM("0")(model(), images, torch.tensor([0, 4]))


def test_targets_that_are_no_class_are_named_one_by_one() -> None:
    for wrong, told in ((-1, r"targets must lie in 0\.\.3, got -1$"), (7, r"0\.\.3, got 7$")):
        with pytest.raises(InputError, match=told):
            hp.GradCAM("0")(model(), torch.rand(2, 3, 8, 8), torch.tensor([0, wrong]))


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ModelError, match="is a Classifier already"):
        hp.Classifier(model())
    with pytest.raises(ModelError, match="mean must be finite and std positive in every channel"):
        hp.Classifier(nn.Flatten(), std=(0.2, 0.0, 0.2))


def test_a_grey_batch_does_not_become_three_channels_in_silence() -> None:
    grey = hp.Classifier(model().network, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), name="small")
    with pytest.raises(InputError, match=r"small takes images of 3 channels, got 1; .*expand\(-1, 3, -1, -1\)"):
        hp.GradCAM("0")(grey, torch.rand(2, 1, 10, 10))


def test_a_path_is_no_batch_and_the_way_out_is_said() -> None:
    with unchecked(), pytest.raises(InputError, match=r"got str; hp.open_photo\(photo, model\)"):
        model()("dog.jpg")


def test_a_classifier_is_told_in_five_lines() -> None:
    told = repr(model())
    assert len(told.splitlines()) == 5
    assert "4 (African elephant, Indian elephant, fire engine, ...)" in told
    assert "224 x 224 pixels" in told


def test_as_many_names_as_logits() -> None:
    with pytest.raises(ModelError, match="small has names for 3 classes and returned 4 logits"):
        model(CLASSES[:3])(torch.rand(1, 3, 8, 8))


def test_targets_made_in_inference_mode_serve_outside() -> None:
    with torch.inference_mode():
        targets = torch.tensor([1, 2])
    found = hp.SimpleGrad()(model(), torch.rand(2, 3, 8, 8), targets)
    assert found.targets.tolist() == [1, 2]
    assert not found.targets.is_inference()


def test_hardware_that_is_not_there_is_told() -> None:
    with pytest.raises(InputError, match="precision is fp32 or bf16, got 'fp16'"):
        Hardware(precision="fp16")  # type: ignore[arg-type]
    for device in ("cuda:99", "tpu"):
        with pytest.raises(InputError, match=f"device '{device}' cannot be used: .*; try --device cpu"):
            Hardware(device)


def test_a_bare_network_says_its_channels_and_whether_one_is_transparency() -> None:
    four = nn.Sequential(nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.warns(UserWarning, match="takes 4 channels and says no mean and std"):
        plain = as_classifier(four)
    assert (plain.channels, plain.preprocessing.alpha) == (4, False)
    setattr(four, "channels", 4)  # noqa: B010 - as a user does, whose module has no such field
    with pytest.warns(UserWarning, match="takes 4 channels"):
        assert as_classifier(four).preprocessing.alpha
    assert as_classifier(plain) is plain
    odd = as_classifier(nn.Sequential(nn.Flatten(), nn.Linear(10, 2)))  # what it takes is asked where it is needed
    with pytest.raises(ModelError, match=r"Sequential takes images of none of .* channels at 224x224 pixels; say what"):
        _ = odd.channels


@pytest.mark.parametrize("beta", [0.0, -1.0, float("inf")])
def test_a_beta_that_is_none_is_refused(beta: float) -> None:
    with pytest.raises(ModelError, match="beta of softplus"):
        hp.Classifier(nn.Flatten(), softplus=beta)
