"""Mosaics on a network that sees one colour per class, so that honest and swapped maps are known."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from heatproof.commands.audit.mosaic import exchanged, look_at_mosaics, pointing
from heatproof.data.mosaics import arranged, joined, tile
from heatproof.explainers.cam import GradCAM
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.types import Explanation

SIZE = 8


def colours() -> Classifier:
    """Three classes: how red, green and blue the image is."""
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        network.get_parameter("0.weight").copy_(torch.eye(3)[:, :, None, None])
    return Classifier(network, input_size=SIZE, default_layer="0").eval()


class Swapped:
    """Grad-CAM of the other class, for two classes."""

    def __init__(self, first: int, second: int):
        self.of = {first: second, second: first}

    def __call__(self, model: Any, images: Tensor, targets: Tensor, **named: Any) -> Explanation:
        others = torch.tensor([self.of.get(int(c), int(c)) for c in targets])
        return GradCAM()(model, images, others)._replace(targets=targets)


def photos(predicted: Tensor) -> Tensor:
    return torch.eye(3)[predicted][:, :, None, None].expand(-1, -1, SIZE, SIZE).clone()


def worst(shares: Tensor, classes: Tensor) -> tuple[list[float], tuple[int, int]]:
    found = exchanged(shares, classes)
    assert found is not None
    return found


PREDICTED = torch.tensor([0, 1] * 20)


def looked(explainer: Any, predicted: Tensor = PREDICTED) -> Any:
    return look_at_mosaics(
        colours(), explainer, tile(photos(predicted)), predicted, (SIZE, SIZE), Hardware(device="cpu"), seed=0
    )


def test_an_honest_map_lies_in_its_own_photos() -> None:
    found = looked(GradCAM())
    assert len(found.classes) == 2 * len(PREDICTED)
    assert found.quarters.tolist() == [2] * len(found.classes)
    torch.testing.assert_close(found.shares, torch.eye(2).expand_as(found.shares))
    assert pointing(found.shares, found.quarters) == pytest.approx([1.0] * len(found.classes))
    values, pair = worst(found.shares, found.classes)
    assert pair == (0, 1)
    assert values == pytest.approx([-1.0] * len(values))


def test_a_swap_lies_in_the_other_photos_and_is_named_among_honest_classes() -> None:
    found = looked(Swapped(0, 2), torch.tensor([0, 1, 2] * 12))
    values, pair = worst(found.shares, found.classes)
    assert pair == (0, 2)
    assert sum(values) / len(values) > 0.5
    assert math.isclose(min(pointing(found.shares, found.quarters)), -1.0, abs_tol=1e-6)


def test_a_map_without_mass_is_left_out_and_one_class_gives_no_mosaic() -> None:
    shares = torch.tensor([[[torch.nan, torch.nan], [0.0, 1.0]]])
    assert pointing(shares, torch.tensor([2])) == [1.0]
    assert exchanged(shares, torch.tensor([[0, 1]])) is None
    assert looked(GradCAM(), torch.zeros(6, dtype=torch.long)) is None
    # nor do two classes of which one has four photos
    assert looked(GradCAM(), torch.tensor([0] * 20 + [1] * 4)) is None
    assert looked(GradCAM(), torch.tensor([0] * 20 + [1] * 5)) is not None


def test_four_classes_where_there_are_four_each_in_its_own_photo() -> None:
    predicted = torch.tensor([5, 6, 7, 8] * 5 + [9] * 20 + [3] * 4)
    tiles, classes = arranged(predicted, 50, 0)
    for own, shown in zip(tiles, classes, strict=True):
        assert sorted(predicted[own].tolist()) == sorted(shown.tolist())
    # a class with four photos does not come; the rare ones of the others come as often as the one with half of them
    assert 3 not in classes
    counts = torch.bincount(classes.flatten())[5:]
    assert counts.min() > 0.6 * counts.max()
    assert torch.equal(arranged(predicted, 50, 0)[0], tiles)


def test_one_mosaic_among_many_pairs_does_not_decide() -> None:
    honest, lie = torch.eye(2), torch.eye(2).flip(0)
    shares = torch.stack([*[honest] * 30, lie])
    classes = torch.tensor([[0, 1]] * 30 + [[2, 3]])
    values, pair = worst(shares, classes)
    assert pair == (2, 3)
    assert sum(values) / len(values) < 0
    values, _ = worst(torch.cat([shares, lie.expand(19, 2, 2)]), torch.cat([classes, torch.tensor([[2, 3]] * 19)]))
    assert sum(values) / len(values) > 0.5


def test_tiles_make_the_photo_again_also_of_odd_size() -> None:
    image = torch.rand(1, 3, 5, 5)
    assert tile(image).shape == (1, 3, 3, 3)
    tiles = torch.arange(4.0).view(1, 4, 1, 1, 1).expand(1, 4, 3, 3, 3)
    whole = joined(tiles, (5, 5))
    assert whole.shape == (1, 3, 5, 5)
    assert [whole[0, 0, row, col].item() for row, col in ((0, 0), (0, 4), (4, 0), (4, 4))] == [0, 1, 2, 3]
