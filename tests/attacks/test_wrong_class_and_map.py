"""ADV^2: one perturbation that reaches a wrong class and shows the map it wants."""

import pytest
import torch

from heatproof.attacks.balls import distance
from heatproof.attacks.gradient import PGD, examine
from heatproof.attacks.objectives import begin, misclassify, move_heatmap, reach
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.heatmaps import normalise
from heatproof.manipulation.penalties import SameMap, TargetMap
from heatproof.models.intact import evaluating

EXPLAINER = GradCAM("4", relu=False)
PLANTED = TargetMap(target="corner")
ATTACK = PGD(48 / 255, 40, seed=1)


def another(model, images: torch.Tensor) -> torch.Tensor:
    """For each image the class that it is taken for second."""
    with torch.no_grad(), evaluating(model):
        return model(images).topk(2).indices[:, 1]


@pytest.mark.parametrize("penalty", [PLANTED, SameMap()])
def test_the_wanted_class_is_predicted_and_its_map_is_nearer_to_the_aim(model, images, penalty) -> None:
    wanted, clean = another(model, images), EXPLAINER(model, images)
    goal = move_heatmap(model, EXPLAINER, penalty, wanted=wanted)
    done = examine(goal, ATTACK(goal, images), images)
    before = EXPLAINER(model, images, wanted).heatmaps
    after = EXPLAINER(model, done.images, wanted)
    lowered = penalty(after.heatmaps, clean.heatmaps) < penalty(before, clean.heatmaps)
    assert torch.equal(done.success, (after.logits.argmax(1) == wanted) & lowered)
    assert done.success.float().mean() > 0.6
    assert (after.logits.argmax(1) != clean.logits.argmax(1))[done.success].all()
    assert distance(done.images, images).max() <= 48 / 255 + 1e-6
    # who only reaches the class moves the map as it happens to move
    plain = EXPLAINER(model, ATTACK(reach(model, wanted), images), wanted).heatmaps
    assert penalty(after.heatmaps, clean.heatmaps).mean() < penalty(plain, clean.heatmaps).mean()


def test_one_wanted_class_for_all_images(model, images) -> None:
    goal = begin(move_heatmap(model, EXPLAINER, PLANTED, wanted=3), images)
    each = begin(move_heatmap(model, EXPLAINER, PLANTED, wanted=torch.full((len(images),), 3)), images)
    torch.testing.assert_close(goal.look(images).value, each.look(images).value)
    with pytest.raises(InputError, match="wanted classes"):
        begin(move_heatmap(model, EXPLAINER, PLANTED, wanted=5), images)


def test_the_value_is_the_penalty_against_the_clean_prediction_s_map_and_the_margin_of_the_wanted_class(
    model, images
) -> None:
    """A literal replica of the formula."""
    wanted = another(model, images)
    goal = begin(move_heatmap(model, EXPLAINER, SameMap(), wanted=wanted, hold=0.5), images)
    moved = (images + 0.02).clamp(0, 1)
    reference = normalise(EXPLAINER(model, images).heatmaps)
    now = EXPLAINER(model, moved, wanted)
    rows = torch.arange(len(images))
    own, others = now.logits[rows, wanted], now.logits.clone()
    others[rows, wanted] = -torch.inf
    expected = -(normalise(now.heatmaps) - reference).square().mean((1, 2)) - 0.5 * (others.amax(1) - own).clamp(min=0)
    torch.testing.assert_close(goal.look(moved).value, expected)


@pytest.mark.parametrize("other", [reach, misclassify])
def test_to_hold_and_to_change_the_class_at_once_is_refused(model, images, labels, other) -> None:
    holding = move_heatmap(model, EXPLAINER, PLANTED)
    for made in (lambda: holding + other(model, labels), lambda: 2.0 * other(model, labels) + holding):
        with pytest.raises(InputError, match=r"move_heatmap\(\.\.\., wanted=CLASS\)"):
            made()
    # beside the wanted class, and with another model, they add
    both = move_heatmap(model, EXPLAINER, PLANTED, wanted=labels) + reach(model, labels)
    assert torch.isfinite(begin(both, images).look(images).value).all()
    assert (holding + other(torch.nn.Flatten(), labels)).holds == (model,)
