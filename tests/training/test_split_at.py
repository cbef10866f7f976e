"""A network before a layer and from it on: the halves are the whole, or there are none."""

import pytest
import torch
from tests.training.nets import convolutions, patches
from torch import Tensor, nn

from heatproof.errors import LayerError
from heatproof.explainers.cam import GradCAM
from heatproof.training.split_at import explainer_on_rear, split_at


@pytest.mark.parametrize("bare", [False, True])
def test_the_halves_are_the_whole(bare: bool) -> None:
    model, images = convolutions(), patches(4)[0]
    whole = model.network if bare else model
    halves = split_at(whole, "stage3")
    assert halves is not None
    activation = halves.front(images)
    before = activation.clone()
    torch.testing.assert_close(halves.rear(activation), whole(images))
    assert torch.equal(activation, before)  # which may be stored
    assert activation.shape == (4, 16, 8, 8)


class Skips(nn.Module):
    """The pixels pass by the first convolution, and one layer is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.never = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.second(self.first(x))).mean((2, 3))


class Decides(Skips):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:  # which no trace can follow
            x = self.first(x)
        return self.second(x).mean((2, 3))


def test_where_a_network_cannot_be_parted() -> None:
    assert split_at(Skips(), "second") is None  # two activations lead past its beginning
    assert split_at(Skips(), "first") is None  # nothing lies before it
    assert split_at(Skips(), "never") is None
    assert split_at(Decides(), "second") is None
    with pytest.raises(LayerError, match="did you mean second"):
        split_at(Skips(), "secund")


def test_an_explainer_is_taken_to_the_rear_only_where_its_maps_stay() -> None:
    model, images = convolutions(), patches(4)[0]
    halves = split_at(model, "stage3")
    assert halves is not None
    later = explainer_on_rear(GradCAM("stage3"), model, halves, images)
    assert later is not None
    torch.testing.assert_close(
        later(halves.rear, halves.front(images)).heatmaps, GradCAM("stage3")(model, images).heatmaps
    )
    assert explainer_on_rear(GradCAM("stage1"), model, halves, images) is None  # it lies in the front
    assert explainer_on_rear(GradCAM("nowhere"), model, halves, images) is None
    assert explainer_on_rear(lambda *given, **more: GradCAM("stage3")(*given, **more), model, halves, images) is None
