"""What looking for the default layer costs: one forward pass of one image, once."""

import pytest
import torch
from torch import Tensor, nn

import heatproof as hp
from networks import photos


class Counting(nn.Module):
    """A small network that counts its forward passes and their images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, 3)
        self.passes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append(len(x))
        return self.head(self.features(x).mean((2, 3)))


def test_the_default_layer_is_found_in_one_pass_of_one_image() -> None:
    network = Counting().double().eval()
    model = hp.Classifier(network, input_size=10)
    assert hp.default_layer(model, photos(4)) == "features"
    assert network.passes == [1]
    assert hp.default_layer(model, photos(4)) == "features"
    assert network.passes == [1]


@pytest.mark.parametrize("explainer", [hp.GradCAM(), hp.LRP(layer="default")])
def test_a_first_map_looks_once_and_a_second_never(explainer: hp.GradCAM | hp.LRP) -> None:
    network = Counting().double().eval()
    model, images = hp.Classifier(network, input_size=10), photos(4)
    explainer(model, images)
    assert network.passes.count(1) == 1
    looked = len(network.passes)
    explainer(model, images)
    assert 1 not in network.passes[looked:]
