"""The stage that a heatmap is read from: where the maps become as small as it is."""

import pytest
import torch
from torch import Tensor, nn

from heatproof.explainers.cam import GradCAM
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.models.stages import last_stage
from heatproof.vision import torchvision


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        # the branch that shortens begins last, and lies in the stage as its first convolution does
        ("resnet18", "layer4"),
        ("resnet50", "layer4"),
        # of the last convolution's maps, before the closing pooling
        ("vgg11", "features.15"),
        ("densenet121", "features.transition3"),
        ("mobilenet_v2", "features.14"),
    ],
)
def test_of_torchvisions_networks(name: str, stage: str) -> None:
    model = Classifier(torchvision.models.get_model(name, weights=None), input_size=64).eval()
    images = torch.full((1, 3, 64, 64), 0.5)
    rows, cols = GradCAM()(model, images).heatmaps.shape[1:]
    assert last_stage(model, images, (rows, cols)) == stage


def test_of_the_demo_and_of_maps_as_large_as_the_image() -> None:
    model, images = load("demo"), torch.rand(2, 3, 64, 64)
    rows, cols = GradCAM()(model, images).heatmaps.shape[1:]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    assert last_stage(model, images, (rows, cols)) == "stage7"
    assert last_stage(model, images, (64, 64)) is None
    assert last_stage(model, images, (5, 5)) is None
    assert [len(module._forward_hooks) for module in model.modules()] == hooks


class Whole(nn.Module):
    """One module that is all, whose first layer makes the maps small."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.all(x).mean((2, 3))


def test_what_begins_with_the_image_is_everything() -> None:
    assert last_stage(Whole(), torch.rand(1, 3, 13, 13), (6, 6)) is None
