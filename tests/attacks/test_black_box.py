"""Attacks that see values and no gradient, and the probability of what is rare."""

import math

import pytest
import torch

from heatproof.attacks.balls import distance
from heatproof.attacks.black_box import NES, Genetic
from heatproof.attacks.gradient import PGD, examine
from heatproof.attacks.objectives import misclassify, move_heatmap
from heatproof.attacks.rare import SubsetSimulation
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.manipulation.penalties import TopK

EXPLAINER = GradCAM("4", relu=False)
SMALL = [NES(8 / 255, steps=8, draws=8), Genetic(8 / 255, population=8, generations=12)]


@pytest.mark.parametrize("attack", SMALL, ids=repr)
def test_it_moves_the_map_within_the_ball_while_the_class_stays_and_asks_for_no_gradient(model, images, attack) -> None:
    goal = move_heatmap(model, EXPLAINER, TopK())
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    attacked = attack(goal, images)
    done = examine(goal, attacked, images)
    assert done.success.float().mean() > 0.5
    assert distance(attacked, images).max() <= 8 / 255 + 1e-6
    assert (examine(goal, images, images).value <= done.value).all()
    assert torch.equal(attack(goal, images), attacked)
    alone = attack(move_heatmap(model, EXPLAINER, TopK()), images[1:2])
    torch.testing.assert_close(alone, attacked[1:2], rtol=0, atol=1e-4)


def test_questions_are_images(images) -> None:
    """Photos have black and white pixels, and whoever explains photos refuses what lies outside [0, 1]."""
    photos = images.round()
    asked: list[torch.Tensor] = []

    def objective(images: torch.Tensor) -> torch.Tensor:
        asked.append(images)
        return images.mean((1, 2, 3))

    attacked = NES(8 / 255, steps=3, draws=4, sigma=0.1)(objective, photos)
    assert all(question.min() >= 0 and question.max() <= 1 for question in asked)
    assert (attacked.mean((1, 2, 3)) > photos.mean((1, 2, 3))).all()


def test_an_objective_without_a_gradient_is_climbed(images) -> None:
    """Steps have no derivative: PGD cannot, the others can."""

    def stepped(images: torch.Tensor) -> torch.Tensor:
        return (images.mean((1, 2, 3)) * 1e4).round()

    for attack in SMALL:
        assert (stepped(attack(stepped, images)) > stepped(images)).all()


def test_the_estimated_gradient_is_the_true_one_for_a_linear_objective() -> None:
    weights = torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(3))
    images = torch.full((2, 2, 3, 3), 0.5)

    def linear(images: torch.Tensor) -> torch.Tensor:
        return (images * weights).sum((1, 2, 3))

    estimated = NES(0.1, steps=1, draws=4000, norm="l2", step_size=0.1)(linear, images) - images
    cosine = torch.cosine_similarity(estimated.flatten(1), weights.flatten(1).expand(2, -1))
    assert cosine.min() > 0.99
    exact = PGD(0.1, 1, "l2", step_size=0.1, random_start=False)(linear, images)
    assert (linear(images + estimated) > 0.99 * linear(exact)).all()


def test_more_generations_find_worse_cases(model, images) -> None:
    goal = move_heatmap(model, EXPLAINER, TopK())
    found = [
        examine(goal, Genetic(8 / 255, population=8, generations=n)(goal, images), images).value.mean()
        for n in (1, 10, 40)
    ]
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: NES(draws=0),
        lambda: NES(sigma=0.0),
        lambda: NES(epsilon=8),
        lambda: Genetic(population=5),
        lambda: Genetic(mutation=2.0),
        lambda: SubsetSimulation(share=0.0),
        lambda: SubsetSimulation(samples=5, share=0.05),
        lambda: SubsetSimulation(moves=0),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong) -> None:
    with pytest.raises(InputError):
        wrong()


@pytest.mark.parametrize("exponent", [0.5, 2, 4])
def test_rare_events_have_the_probability_of_the_closed_form(exponent: float) -> None:
    """The first pixel is uniform in the ball: P(it is in the highest p of it) = p."""
    probability, epsilon = 10**-exponent, 0.1
    images = torch.full((2, 1, 2, 2), 0.5)
    level = 0.5 + epsilon * (1 - 2 * probability)
    found = torch.stack(
        [
            SubsetSimulation(epsilon, samples=200, seed=seed)(lambda images: images[:, 0, 0, 0], images, level)
            for seed in range(12)
        ]
    )
    torch.testing.assert_close(found.mean(0), torch.full((2,), -float(exponent)), rtol=0, atol=0.3)


def test_what_was_never_seen_is_minus_infinity_and_what_always_happens_is_certain() -> None:
    images = torch.full((1, 1, 2, 2), 0.5)
    rare = SubsetSimulation(0.1, samples=20, most=3)
    assert rare(lambda images: images[:, 0, 0, 0], images, 0.7).item() == -math.inf
    assert rare(lambda images: images[:, 0, 0, 0], images, 0.3).item() == 0.0


def test_the_probability_that_a_map_moves(model, images, labels) -> None:
    goal = move_heatmap(model, EXPLAINER, TopK())
    started = goal.start(images) if goal.start else goal
    values = started.look(images).value.detach()
    rare = SubsetSimulation(8 / 255, samples=20, most=3)
    often, seldom = (rare(lambda images: started.look(images).value - values, images, level) for level in (0.0, 0.05))
    assert (often >= seldom).all()
    assert (often > -3).any()
    assert torch.isfinite(misclassify(model, labels)(images)).all()


@pytest.mark.parametrize("attack", [NES(0.0), Genetic(0.0)], ids=repr)
def test_a_ball_of_no_size_holds_the_clean_image(images, attack) -> None:
    assert torch.equal(attack(lambda images: images.mean((1, 2, 3)), images), images)
