"""Attackers of a defended map: one who does not know the defence, and one who climbs through it."""

import pytest
import torch

from heatproof.attacks.gradient import PGD
from heatproof.attacks.objectives import Goal, begin, move_heatmap
from heatproof.defences.certified_pixels import CertifiedPixels
from heatproof.defences.smoothed import Smoothed
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SmoothGrad
from heatproof.manipulation.penalties import Location, TopK
from heatproof.types import redrawn

DEFENDED = Smoothed(GradCAM("4", relu=False), n=8, sigma=0.2)
PLAIN = GradCAM("4", relu=False)


def value(goal: Goal, clean, images) -> float:
    with torch.no_grad():
        return float(begin(goal, clean).look(images).value.mean())


def test_knowing_the_defence_raises_the_objective_more_than_not_knowing_it(model, images) -> None:
    attack = PGD(8 / 255, 10, seed=1)
    naive = attack(move_heatmap(model, DEFENDED, TopK(), through=PLAIN), images)
    knowing = attack(move_heatmap(model, DEFENDED, TopK(), draws=4), images)
    seeing = attack(move_heatmap(model, DEFENDED, TopK()), images)
    # judged by the noise of the map itself, and by noise that nobody climbed
    own, fresh = (move_heatmap(model, one, TopK()) for one in (DEFENDED, redrawn(DEFENDED, 77)))
    for goal in (own, fresh):
        assert value(goal, images, images) < value(goal, images, naive) < value(goal, images, knowing)
    # who knows the very draw moves that draw's map most, and others' less
    assert value(own, images, seeing) > value(own, images, knowing)
    assert value(fresh, images, seeing) < value(fresh, images, knowing)


def test_through_climbs_the_other_map_and_is_judged_by_the_own(model, images) -> None:
    attack = PGD(8 / 255, 3, keep="last")
    through = attack(move_heatmap(model, DEFENDED, TopK(), through=PLAIN), images)
    assert torch.equal(through, attack(move_heatmap(model, PLAIN, TopK()), images))
    assert not torch.equal(through, attack(move_heatmap(model, DEFENDED, TopK()), images))
    started = begin(move_heatmap(model, DEFENDED, TopK(), through=PLAIN), images)
    own = begin(move_heatmap(model, DEFENDED, TopK()), images)
    torch.testing.assert_close(started.look(through).value, own.look(through).value)


def test_noise_is_fresh_in_every_step_and_the_same_in_equal_attacks(model, images) -> None:
    goal = begin(move_heatmap(model, DEFENDED, TopK(), draws=2), images)
    assert goal.climb is not None
    values = [goal.climb(images, done).detach() for done in (0.0, 0.1, 0.2, 0.1)]
    assert not torch.equal(values[0], values[1])
    assert not torch.equal(values[1], values[2])
    torch.testing.assert_close(values[1], values[3], rtol=0, atol=0)
    attack = PGD(8 / 255, 3)
    again = [attack(move_heatmap(model, DEFENDED, TopK(), draws=1), images) for _ in range(2)]
    assert torch.equal(*again)
    # more draws are nearer to the expectation
    seen = {
        draws: torch.stack([_climbed(model, images, draws, step / 20) for step in range(20)]).std(0).mean()
        for draws in (1, 8)
    }
    assert seen[8] < 0.6 * seen[1]


def _climbed(model, images, draws: int, done: float):
    goal = begin(move_heatmap(model, Smoothed(PLAIN, n=1, sigma=0.2), TopK(), draws=draws), images)
    assert goal.climb is not None
    return goal.climb(images, done).detach()


def test_votes_are_attacked_through_their_surrogate(model, images) -> None:
    votes = CertifiedPixels(GradCAM("4"), n=24, sigma=0.1, tau=0.5, alpha=0.2, top=0.2)
    with pytest.raises(InputError, match="votes, which have no derivative"):
        PGD(0.1, 2)(move_heatmap(model, votes, TopK()), images)
    goal = move_heatmap(model, votes, TopK(), draws=1)
    attacked = PGD(16 / 255, 8)(goal, images)
    assert value(goal, images, attacked) > value(goal, images, images)


def test_smoothgrad_of_the_library_is_redrawn_too(model, images) -> None:
    goal = begin(move_heatmap(model, SmoothGrad(samples=2), Location(), draws=1, betas=(10, 100)), images)
    assert goal.climb is not None
    assert not torch.equal(goal.climb(images, 0.3), begin(goal, images).climb(images, 0.4))  # type: ignore[misc]


def test_negative_draws_are_refused(model) -> None:
    with pytest.raises(InputError, match="draws of the noise, fresh in every step, must not be negative, got -1"):
        move_heatmap(model, GradCAM(), Location(), draws=-1)
