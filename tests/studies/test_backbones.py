"""A backbone's head is exchanged, and what has none or no classes is told."""

import pytest
import torch
from PIL import Image
from torch import nn

from heatproof.data.sources import open_data
from heatproof.errors import InputError, ModelError
from heatproof.models.classifier import Classifier
from heatproof.results.run import Run
from heatproof.studies.backbones import Training, new_head, split, train


class Auxiliary(nn.Module):
    """A second head that takes part in training only, as GoogLeNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.aux1, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), nn.Linear(4, 5)
        self.aux_logits = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).mean((2, 3)))


def test_a_new_head_takes_the_auxiliary_ones_away() -> None:
    model = Classifier(Auxiliary().eval(), input_size=8)
    new_head(model, ["a", "b"])
    assert model(torch.rand(1, 3, 8, 8)).shape == (1, 2)
    assert (model.network.aux1, model.network.aux_logits) == (None, False)


def test_a_network_without_weights_has_no_head() -> None:
    model = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), input_size=8, name="mean")
    with pytest.raises(ModelError, match="mean has no linear layer or convolution that could be its head"):
        new_head(model, ["a", "b"])


def test_photos_without_classes_are_not_split(tmp_path) -> None:
    for number in range(4):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    with pytest.raises(InputError, match=r"4 photos of .* have no class; expected a folder per class"):
        split(open_data(tmp_path))


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path) -> None:
    for label in "ab":
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (40 * number, 90, 20)).save(tmp_path / "photos" / label / f"{number}.png")
    source = open_data(str(tmp_path / "photos"))
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), input_size=8)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    run = Run.start(tmp_path / "run", command="study", settings={}, seed=0)
    with (
        pytest.raises(ModelError, match=r"own: the training loss is (nan|inf) at step 1; give a smaller lr"),
        run as into,
    ):
        train(model, source, Training(epochs=1, batch_size=4, lr=1e37), into, "own")
