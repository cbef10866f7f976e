"""The witness on models whose answers under every square are known."""

import math

import pytest
import torch
from torch import Tensor, nn

from heatproof.commands.audit.covering import (
    Answers,
    agreement,
    jump,
    places,
    question,
    squares,
    trust,
    unseen,
    witness_map,
)
from heatproof.errors import InputError
from heatproof.models.classifier import Classifier


class Linear(nn.Module):
    """Two classes; the lead of the first is sum(weights * pixels)."""

    def __init__(self, weights: Tensor):
        super().__init__()
        self.weights = nn.Buffer(weights)
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += len(images)
        lead = (images * self.weights).sum((1, 2, 3))
        return torch.stack([lead, torch.zeros_like(lead)], 1)


def linear(size: int = 16) -> Classifier:
    weights = torch.randn(3, size, size, generator=torch.Generator().manual_seed(0))
    return Classifier(Linear(weights), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), ["yes", "no"], size)


def by_hand(model: Classifier, images: Tensor, covers: Tensor) -> Answers:
    """The answers with black squares, which a linear model's contributions foretell exactly."""
    covered = torch.stack([model(images * (1 - cover)) for cover in covers], 1)
    return Answers(model(images), covers, covered, (len(covers),))


def test_contributions_of_a_linear_model_agree_wholly_and_are_the_witness() -> None:
    model, images = linear(), torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    answers = by_hand(model, images, squares(16, 16, 4, 4))
    contributions = (images * model.network.get_buffer("weights")).sum(1)
    targets = torch.zeros(2, dtype=torch.long)
    torch.testing.assert_close(agreement(contributions, answers, targets, ("contrast",)), torch.ones(2))
    torch.testing.assert_close(agreement(-contributions, answers, targets, ("contrast",)), -torch.ones(2))
    # the squares tile: each pixel has the sum of its own square
    tiles = contributions.unfold(1, 4, 4).unfold(2, 4, 4).sum((3, 4))
    wanted = tiles.repeat_interleave(4, 1).repeat_interleave(4, 2)
    torch.testing.assert_close(witness_map(answers, answers.drops(targets, "contrast")), wanted, atol=1e-4, rtol=1e-4)


def test_the_other_class_sees_the_opposite() -> None:
    model, images = linear(), torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    answers = by_hand(model, images, squares(16, 16, 4, 4))
    one, other = (answers.drops(torch.full((2,), c), "contrast") for c in (0, 1))
    torch.testing.assert_close(one, -other)


def test_squares_reach_every_pixel_and_question_asks_as_often_as_it_may() -> None:
    model, images = linear(), torch.rand(3, 3, 16, 16)
    answers = question(model, images, 100)
    assert answers.covered.shape == (3, sum(step**2 for step in places(100)), 2)
    assert model.network.passes == 3 * (1 + answers.covered.shape[1])
    assert (answers.covers.sum(0) > 0).all()
    assert [int(cover.sum()) for cover in squares(16, 16, 2, 3)] == [4] * 9


@pytest.mark.parametrize("questions", [17, 30, 77, 150, 266, 400])
def test_questions_are_never_more_than_asked_for(questions: int) -> None:
    found = places(questions)
    assert sum(step**2 for step in found) <= questions
    assert min(found) >= 2


def test_too_few_questions() -> None:
    with pytest.raises(InputError, match="at least 17"):
        places(16)


def test_a_jump_is_one_square_that_changes_the_map_more_than_most() -> None:
    own = torch.tensor([[[1.0, 0.0]]]).expand(3, 1, 2)
    calm, turned, hidden = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 0.0]])
    maps = torch.stack([torch.stack([calm] * 4 + [last]) for last in (calm, turned, hidden)])
    covers = torch.zeros(6, 2, 2)
    found = jump(own, Answers(torch.zeros(3, 2), covers, torch.zeros(3, 6, 2), (1, 5), maps))
    wanted = [0.0, math.log((2**0.5 + 0.001) / 0.001), math.log(1.001 / 0.001)]
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-4, rtol=1e-4)
    covers[5, :, 0] = 1
    found = jump(own, Answers(torch.zeros(3, 2), covers, torch.zeros(3, 6, 2), (1, 5), maps))
    assert jump(0 * own, Answers(torch.zeros(3, 2), covers, torch.zeros(3, 6, 2), (1, 5), maps)).isnan().all()
    # what the map loses under the square itself is no jump
    wanted = [0.0, math.log(1.001 / 0.001), 0.0]
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-4, rtol=1e-4)


def test_trust_does_without_what_is_not_known() -> None:
    nothing = torch.tensor([torch.nan])
    assert trust(torch.tensor([0.5]), nothing, nothing).tolist() == [0.5]
    torch.testing.assert_close(
        trust(torch.tensor([0.5]), torch.tensor([2.0]), torch.tensor([1.0])), torch.tensor([0.5 - 0.7 * 2 - 2.0])
    )


def test_unseen_is_the_square_that_decides_and_that_the_map_does_not_show() -> None:
    covers = squares(16, 16, 4, 4)
    covered = torch.zeros(3, 16, 2)
    covered[:, 5, 0] = -1.0
    answers = Answers(torch.zeros(3, 2), covers, covered, (16,))
    where = covers[5]
    maps = torch.stack([where, torch.ones(16, 16), covers[0]])
    found = unseen(maps, answers, torch.zeros(3, dtype=torch.long))
    # one of 16 values stands out as far as one can; a map that is equal everywhere shows nothing
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 1.0]), atol=1e-4, rtol=1e-4)
