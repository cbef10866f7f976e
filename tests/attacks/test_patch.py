"""The adversarial patch: only its pixels change, and it can hide itself from the map."""

import pytest
import torch

from heatproof.attacks.gradient import examine
from heatproof.attacks.objectives import misclassify, move_heatmap, reach
from heatproof.attacks.patch import Patch
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.heatmaps import mass
from heatproof.manipulation.penalties import Hide
from heatproof.models.intact import evaluating

BOX = (0.5, 0.25, 1.0, 0.75)
EXPLAINER = GradCAM("4")


def test_only_the_patch_changes_and_there_it_may_take_any_colour(model, images, labels) -> None:
    attacked = Patch(BOX, steps=30)(misclassify(model, labels), images)
    changed = (attacked != images).any(1)
    assert not changed[:, :8].any()
    assert not changed[:, 24:].any()
    assert not changed[:, :, :16].any()
    assert changed[:, 8:24, 16:].all(0).float().mean() > 0.9
    assert (attacked - images).abs().max() > 0.5
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    weak = Patch(BOX, epsilon=0.1, steps=5)(misclassify(model, labels), images)
    assert (weak - images).abs().max() <= 0.1 + 1e-6


def test_it_raises_its_objective_and_is_deterministic(model, images) -> None:
    with torch.no_grad(), evaluating(model):
        wanted = model(images).topk(2).indices[:, 1]
    goal = reach(model, wanted)
    done = [examine(goal, Patch(BOX, steps=40)(goal, images), images) for _ in range(2)]
    assert torch.equal(done[0].images, done[1].images)
    assert (done[0].value > examine(goal, images, images).value).all()
    assert done[0].success.float().mean() > 0.5
    alone = Patch(BOX, steps=40)(reach(model, wanted[2:3]), images[2:3])
    torch.testing.assert_close(alone, done[0].images[2:3], rtol=0, atol=1e-5)


def test_a_patch_that_changes_the_answer_hides_itself_from_the_map(model, images) -> None:
    with torch.no_grad(), evaluating(model):
        wanted = model(images).topk(2).indices[:, 1]
    attack, inside = Patch(BOX, steps=60), torch.zeros(16, 16)
    inside[4:12, 8:] = 1
    shown = {}
    for name, goal in {
        "open": reach(model, wanted),
        "hidden": move_heatmap(model, EXPLAINER, Hide(BOX), wanted=wanted),
    }.items():
        attacked = attack(goal, images)
        maps, logits, _ = EXPLAINER(model, attacked, wanted)
        reached = logits.argmax(1) == wanted
        assert reached.float().mean() > 0.5
        shown[name] = mass(maps, inside)[reached].mean()
    assert shown["hidden"] < 0.7 * shown["open"]


@pytest.mark.parametrize("box", [(0.5, 0, 0.5, 1), (0, 0, 1.2, 1), (0, 0, 1), (0.6, 0, 0.2, 1)])
def test_no_box_is_refused(box) -> None:
    for kind in (Patch, Hide):
        with pytest.raises(InputError, match="left, top, right, bottom"):
            kind(box)


def test_a_patch_smaller_than_a_pixel_is_refused(model, images, labels) -> None:
    with pytest.raises(InputError, match="no pixel"):
        Patch((0.0, 0.0, 0.01, 0.01))(misclassify(model, labels), images)


def test_hidden_is_judged_by_the_share_that_is_trained_on() -> None:
    maps = torch.tensor([[[3.0, 1.0], [0.0, -1.0]]], requires_grad=True)
    hide = Hide((0.0, 0.0, 0.5, 0.5))
    judged = hide.test_loss(maps, torch.zeros(1, 2, 2))
    assert judged.tolist() == [0.75]
    assert not judged.requires_grad
