"""How many channels a network takes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from heatproof.errors import ModelError
from heatproof.models.channels import input_channels
from heatproof.models.classifier import Classifier


class Late(nn.Module):
    """The convolution that is listed first runs last."""

    def __init__(self, channels: int):
        super().__init__()
        self.head = nn.Conv2d(8, 3, 1)
        self.stem = nn.Conv2d(channels, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.stem(x))).mean((2, 3))


class Repeating(Late):
    """Takes grey and repeats it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.repeat(1, 3, 1, 1))


class Functional(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(2, channels, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.kernel).mean((2, 3))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 13])
def test_the_first_convolution_that_runs_decides(channels: int) -> None:
    network = Late(channels)
    assert input_channels(network, (16, 24), "late") == channels
    assert Classifier(network).preprocessing.channels == channels
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_what_comes_before_the_convolution_counts() -> None:
    assert input_channels(Repeating(3), (16, 16), "repeating") == 1
    assert input_channels(nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 2, 1)), (16, 16), "unshuffled") == 3
    assert input_channels(nn.Sequential(nn.Flatten(), nn.Linear(2 * 8 * 9, 2)), (8, 9), "flat") == 2
    assert input_channels(Functional(4), (8, 8), "functional") == 4


def test_it_leaves_training_and_statistics_alone() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3)).train()
    before = [value.clone() for value in network.state_dict().values()]
    assert input_channels(network, (8, 8), "normed") == 1
    assert network.training
    assert all(torch.equal(a, b) for a, b in zip(before, network.state_dict().values(), strict=True))


def test_what_takes_no_image_is_refused() -> None:
    with pytest.raises(ModelError, match=r"channels=\.\.\."):
        input_channels(nn.Linear(7, 2), (8, 8), "mine")


def test_statistics_must_fit_the_channels() -> None:
    with pytest.raises(ModelError, match="takes 1 channels, and its mean and std are of 3"):
        _ = Classifier(Late(1), mean=(0.5, 0.5, 0.5)).preprocessing
    assert Classifier(Late(6), mean=(0.1,) * 6).preprocessing.channels == 6
