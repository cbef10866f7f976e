"""What metrics refuse, and answers and fillings by hand."""

import pytest
import torch
from tests.shapes import unchecked

from heatproof.errors import InputError
from heatproof.metrics.confidence import chosen, read
from heatproof.metrics.localisation import pointing_game
from heatproof.metrics.removal import filling, turns
from heatproof.metrics.road import ROAD

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def model(images: torch.Tensor) -> torch.Tensor:
    return images.mean((2, 3))


def test_the_answer_correct_is_one_where_the_target_is_predicted() -> None:
    logits = torch.tensor([[1.0, 2.0], [4.0, 3.0], [0.0, 1.0]])
    assert read(logits, torch.tensor([1, 1, 1]), "correct").tolist() == [1.0, 0.0, 1.0]
    assert read(logits, torch.tensor([1, 1, 0]), "logit").tolist() == [2.0, 3.0, 0.0]


@unchecked()
def test_one_target_serves_all_images() -> None:
    assert chosen(model, IMAGES, torch.tensor(2)).tolist() == [2, 2]
    with pytest.raises(InputError, match=r"one target per image: expected \[2\], got \[3\]"):
        chosen(model, IMAGES, torch.tensor([0, 1, 2]))


def test_a_filling_is_a_grey_value_or_the_images_own_mean() -> None:
    filled = filling(IMAGES, "mean", 0)
    for image, own in zip(filled, IMAGES, strict=True):
        for channel, pixels in zip(image, own, strict=True):
            assert channel.unique().tolist() == pytest.approx([pixels.mean().item()])
    assert filling(IMAGES, 0.25, 0).unique().tolist() == [0.25]
    with pytest.raises(InputError, match=r"grey value must lie in \[0, 1\], got 1.5"):
        filling(IMAGES, 1.5, 0)


def test_the_tolerance_of_the_pointing_game_reaches_out_on_each_side() -> None:
    # the highest cell's centre is (0.375, 0.625): x, y
    heatmaps = torch.zeros(1, 4, 4)
    heatmaps[0, 2, 1] = 1
    sides = {
        "left": (0.45, 0.5, 0.9, 0.9),
        "right": (0.0, 0.5, 0.3, 0.9),
        "above": (0.2, 0.7, 0.9, 0.9),
        "below": (0.2, 0.0, 0.9, 0.55),
    }
    for side, box in sides.items():
        hits = [pointing_game(heatmaps, torch.tensor([box]), tolerance).item() for tolerance in (0.0, 0.07, 0.08)]
        assert hits == [0, 0, 1], side


@unchecked()
def test_what_makes_no_sense_is_named() -> None:
    with pytest.raises(InputError, match=r"expected heatmaps \[batch, rows, cols\], got \[2, 1, 8, 8\]"):
        turns(torch.rand(2, 1, 8, 8), (8, 8), 1, "most", seed=0)
    with pytest.raises(InputError, match="noise must not be negative, got -1"):
        ROAD(noise=-1.0)
    with pytest.raises(InputError, match="one heatmap per image: expected 2, got 3"):
        ROAD()(model, IMAGES, torch.rand(3, 8, 8))
