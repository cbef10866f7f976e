"""From which layers a repair trains, and which filters it cuts."""

import pytest
import torch
from tests.networks import small
from torch import nn

import heatproof as hp
from heatproof.errors import InputError, LayerError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.explainers.occlusion import Occlusion
from heatproof.models.classifier import Classifier
from heatproof.repairs.channels import cut_channels, last_convolution
from heatproof.repairs.layers import beginnings
from heatproof.studies.small_networks import vgg
from heatproof.training.split_at import split_at
from heatproof.vision import torchvision


def test_the_last_third_of_a_vgg() -> None:
    network = vgg()
    model = Classifier(network, network.mean, network.std, network.classes, 32).eval()
    # six convolutions: the fifth and sixth, and the third to sixth
    assert beginnings(model, GradCAM(), torch.zeros(1, 3, 32, 32)) == ["features.14", "features.7"]


def test_whole_stages_of_a_residual_network_at_which_it_can_be_cut() -> None:
    network = torchvision.models.resnet18(weights=None, num_classes=4).eval()
    model = Classifier(network, (0.5,) * 3, (0.2,) * 3, ["a", "b", "c", "d"], 64).eval()
    found = beginnings(model, GradCAM(), torch.zeros(1, 3, 64, 64))
    assert len(found) == 2
    assert all(split_at(model, layer) is not None for layer in found)
    assert all(layer.startswith(("layer2", "layer3", "layer4")) for layer in found)


def test_an_explainer_of_the_pixels_reads_all_layers() -> None:
    model = hp.load("demo")
    found = beginnings(model, SimpleGrad(), torch.zeros(1, 3, 64, 64))
    assert found
    # and so does one that knows no layers
    assert beginnings(model, Occlusion(), torch.zeros(1, 3, 64, 64)) == found


def test_a_cut_filter_puts_out_nothing_and_the_others_what_they_did() -> None:
    model, images = small(dtype=torch.float32), torch.rand(2, 3, 10, 10)
    name = last_convolution(model, None, images)
    assert name == "last"
    with torch.no_grad():
        before = model.network.get_submodule(name)(torch.ones(1, 7, 5, 5))
        cut_channels(model, name, torch.tensor([1, 3]), images)
        after = model.network.get_submodule(name)(torch.ones(1, 7, 5, 5))
    assert (after[:, [1, 3]] == 0).all()
    torch.testing.assert_close(after[:, [0, 2, 4]], before[:, [0, 2, 4]])


def test_the_batch_norm_behind_is_cut_too() -> None:
    model, images = small(dtype=torch.float32), torch.rand(2, 3, 10, 10)
    cut_channels(model, "stem", torch.tensor([0]), images)
    network = model.network
    with torch.no_grad():
        out = network.get_submodule("norm")(network.get_submodule("stem")(images))
    assert (out[:, 0] == 0).all()
    assert (out[:, 1] != 0).any()


def test_what_is_no_convolution_is_refused() -> None:
    model, images = small(dtype=torch.float32), torch.rand(1, 3, 10, 10)
    with pytest.raises(InputError, match="head is a Linear"):
        cut_channels(model, "head", torch.tensor([0]), images)
    with pytest.raises(LayerError, match="did you mean last"):
        cut_channels(model, "lst", torch.tensor([0]), images)
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(300, 2)), (0.5,) * 3, (0.2,) * 3, ["a", "b"], 10).eval()
    with pytest.raises(LayerError, match="no convolution up to the logits"):
        last_convolution(flat, None, images)


def test_shares_that_mean_the_same_layer_name_it_once() -> None:
    model = hp.load("demo")
    images = torch.zeros(1, 3, 64, 64)
    (last,) = beginnings(model, GradCAM(), images, (0.01,))
    assert beginnings(model, GradCAM(), images, (0.01, 0.01)) == [last]
