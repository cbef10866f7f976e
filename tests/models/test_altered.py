"""Networks altered beside their weights: softplus by hand, a blur by hand, and what a folder says of it is checked."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.networks import photos, small
from torch import nn

import heatproof as hp
from heatproof.errors import InputError, LayerError, ModelError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.images import blurred
from heatproof.models.altered import Alteration, alter, finest_layer, is_rectified
from heatproof.models.layers import record
from heatproof.models.record import ALTERED, alteration_of
from heatproof.models.smooth import smooth
from heatproof.training.split_at import split_at


def test_softplus_for_good_is_the_softplus_copy() -> None:
    model, images = small(), photos()
    copied = smooth(model, 3.0)
    altered = copy.deepcopy(model)
    alter(altered, Alteration(softplus=3.0))
    assert torch.equal(altered(images), copied(images))
    assert not torch.equal(altered(images), model(images))
    for explainer in (SimpleGrad(), GradCAM("last")):
        assert torch.equal(explainer(altered, images).heatmaps, explainer(copied, images).heatmaps)
    # copies carry it along, and a softplus copy of a network of softplus is itself
    assert torch.equal(copy.deepcopy(altered)(images), altered(images))
    assert torch.equal(smooth(altered, 100.0)(images), altered(images))
    assert is_rectified(model, images)
    assert not is_rectified(altered, images)
    assert "softplus of beta 3" in repr(altered)


class Bent(nn.Module):
    """One activation, to be written out as ReLU or as softplus."""

    def __init__(self, activation: nn.Module):
        super().__init__()
        self.first, self.activation, self.last = nn.Conv2d(3, 4, 3), activation, nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.activation(self.first(images)).mean((2, 3)))


@pytest.mark.parametrize("explainer", [hp.LRP(), hp.GuidedBackprop(), SimpleGrad(), GradCAM("first")], ids=repr)
def test_it_is_the_network_with_softplus_written_out(explainer: Any) -> None:
    torch.manual_seed(0)
    written, rectified = (Bent(activation).eval().double() for activation in (nn.Softplus(3.0), nn.ReLU()))
    rectified.load_state_dict(written.state_dict())
    one = hp.Classifier(written, input_size=10).double()
    other = hp.Classifier(rectified, input_size=10, softplus=3.0).double()
    expected, found = (explainer(model, photos(), torch.tensor([0, 1, 2])) for model in (one, other))
    assert torch.equal(found.logits, expected.logits)
    assert torch.allclose(found.heatmaps, expected.heatmaps, atol=1e-12)
    assert float(expected.heatmaps.abs().max()) > 0


def test_lrp_has_no_rule_for_a_blur() -> None:
    model = small()
    alter(model, Alteration(blur=1.0, layer="left"))
    with pytest.raises(ModelError, match="blurred, for which LRP has no rule"):
        hp.LRP()(model, photos())


def test_a_network_of_softplus_is_not_cut_in_two() -> None:
    model = hp.load("demo")
    assert split_at(model, "stage7") is not None
    alter(model, Alteration(softplus=100.0))
    assert split_at(model, "stage7") is None


def test_a_layers_maps_are_blurred_for_good() -> None:
    model, images = small(), photos()
    plain = record(model, images, ["left"], create_graph=False)[1]["left"]
    altered = copy.deepcopy(model)
    alter(altered, Alteration(blur=1.5, layer="left"))
    for one in (altered, copy.deepcopy(altered)):
        found = record(one, images, ["left"], create_graph=False)[1]["left"]
        assert torch.allclose(found, blurred(plain, 1.5))
        assert not torch.allclose(one(images), model(images))
    # what blurs has no weights
    assert altered.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("alteration", "error", "sentence"),
    [
        (lambda: Alteration(softplus=0.0), InputError, "beta of softplus must be positive and finite, got 0.0"),
        (lambda: Alteration(softplus=float("inf")), InputError, "positive and finite"),
        (lambda: Alteration(blur=-1.0, layer="left"), InputError, "a standard deviation in cells of a map"),
        (lambda: Alteration(blur=1.0), InputError, "a blur and its layer go together"),
        (lambda: Alteration(blur=1.0, layer="lft"), LayerError, "there is no layer 'lft'"),
        (lambda: Alteration(blur=1.0, layer="head"), LayerError, "this Linear puts out"),
    ],
)
def test_what_cannot_be_altered_is_said(alteration: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        alter(small(), alteration())


def test_a_network_without_relu_is_told_so() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    model = hp.Classifier(network.eval(), input_size=8, name="gentle")
    with pytest.raises(InputError, match=r"gentle has no ReLU, ReLU6 or leaky ReLU .* without beta"):
        alter(model, Alteration(softplus=1.0))
    assert not is_rectified(model, torch.rand(1, 3, 8, 8))


def test_the_finest_layer_is_the_last_of_the_first_size() -> None:
    assert finest_layer(hp.load("demo")) == "stage3"
    with pytest.raises(LayerError, match="no layer of Sequential puts out maps"):
        finest_layer(hp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), input_size=2, channels=3))


@pytest.mark.parametrize(
    "said",
    [
        "[]",
        "{",
        '{"softplus": "5", "blur": 0, "layer": null}',
        '{"softplus": -5, "blur": 0, "layer": null}',
        '{"softplus": true, "blur": 0, "layer": null}',
        '{"softplus": null, "blur": 1, "layer": 3}',
        '{"softplus": null, "blur": 1e9, "layer": "a"}',
        '{"softplus": null, "blur": NaN, "layer": "a"}',
    ],
)
def test_a_strangers_file_is_checked(said: str, tmp_path: Path) -> None:
    (tmp_path / ALTERED).write_text(said)
    with pytest.raises(ModelError, match="does not say how the network was altered"):
        alteration_of(tmp_path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert alteration_of(tmp_path) is None
    for alteration in (Alteration(softplus=5.0), Alteration(blur=1.0, layer="stage3")):
        (tmp_path / ALTERED).write_text(json.dumps(alteration.plain()))
        assert alteration_of(tmp_path) == alteration


def test_a_classifier_with_a_forward_of_its_own_takes_no_softplus() -> None:
    class Own(hp.Classifier):
        def forward(self, images):
            return super().forward(images)

    with pytest.raises(InputError, match="runs its network in a way of its own"):
        alter(Own(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()), input_size=8), Alteration(softplus=10.0))
