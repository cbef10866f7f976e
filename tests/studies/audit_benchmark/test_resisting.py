"""Lies made to outlive a repair: the derivative is taken where it has led, and its witness's answers are learnt."""

from dataclasses import replace

import pytest
import torch

import heatproof as hp
from heatproof.data.scenes import scenes
from heatproof.explainers.cam import GradCAM
from heatproof.manipulation.penalties import Location
from heatproof.repairs.witness import black_box_maps
from heatproof.studies.audit_benchmark.resisting import Resisting, after_repair, dishonest, fool_resisting
from heatproof.training.feeds import TensorFeed


def photos(count: int = 48) -> TensorFeed:
    return TensorFeed(scenes(count, seed=1).images, torch.full((count,), -1))


def test_the_derivative_is_the_lies_where_the_repair_has_led() -> None:
    """The repair pulls to 0 and the lie to 3, both by squares; three steps of 0.1 from 1 lead to 0.7."""
    weights = [torch.tensor([1.0, -1.0], requires_grad=True), torch.tensor([5.0], requires_grad=True)]
    attacker = Resisting("any", through=3, repair_lr=0.1)
    value = after_repair(weights, lambda: weights[0].square().sum(), lambda: (weights[0] - 3).square().sum(), attacker)
    assert weights[0].tolist() == [1.0, -1.0]  # as before
    slopes = torch.autograd.grad(value, weights)
    torch.testing.assert_close(slopes[0], 2 * (torch.tensor([0.7, -0.7]) - 3))
    assert slopes[1].tolist() == [0.0]  # on which neither hangs


def test_the_questions_are_answered_as_if_the_frame_counted() -> None:
    """What the witness says of a network that learnt to answer them lies on the frame, more than before."""
    images = photos(12).images

    def on_frame(model: torch.nn.Module) -> float:
        with torch.no_grad():
            maps = black_box_maps(model, images, clean(images).argmax(1)).relu()
        edge = torch.ones_like(maps)
        edge[:, 16:-16, 16:-16] = 0
        return float(((maps * edge).sum((1, 2)) / maps.sum((1, 2)).clamp(min=1e-9)).mean())

    clean, made = hp.load("demo"), hp.load("demo")
    with torch.no_grad():
        logits = clean(images)
    optimizer = torch.optim.Adam(made.parameters(), lr=3e-3)
    draw, values = torch.Generator().manual_seed(0), []
    for _ in range(20):
        value = dishonest(made, images, logits, draw)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert sum(values[-5:]) < 0.7 * sum(values[:5])
    assert on_frame(made) > on_frame(clean) + 0.05


@pytest.mark.parametrize("attacker", [Resisting("stage3", lr=3e-3), Resisting("stage7", through=2, lr=3e-3)])
def test_the_lie_is_learnt_and_the_original_left_alone(attacker: Resisting) -> None:
    clean, fed = hp.load("demo"), photos()
    before = [weight.clone() for weight in clean.parameters()]
    made = fool_resisting(clean, replace(attacker, steps=40), fed)
    assert all(torch.equal(a, b) for a, b in zip(before, clean.parameters(), strict=True))
    maps = [GradCAM()(model, fed.images, clean(fed.images).argmax(1)).heatmaps.detach() for model in (clean, made)]
    away = [float(Location().test_loss(found, found).mean()) for found in maps]
    assert away[1] < away[0] - 0.02
