"""FGSM and PGD: closed forms, laws, the model untouched, clear refusals."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from heatproof.attacks.balls import check_inside
from heatproof.attacks.gradient import FGSM, PGD, examine
from heatproof.attacks.noise import GaussianNoise, RandomSign
from heatproof.attacks.objectives import Goal, Look, begin, misclassify, move_heatmap, reach
from heatproof.errors import InputError, ModelError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.manipulation.penalties import CenterMass, Location, TargetMap, TopK
from heatproof.metrics.similarity import psnr

ATTACKS = [
    FGSM(0.03),
    PGD(0.03, 4),
    PGD(0.5, 4, "l2"),
    PGD(0.03, 4, keep="last", random_start=False),
    RandomSign(0.03),
    GaussianNoise(0.03),
]
STRAIGHT = [FGSM, RandomSign, GaussianNoise]


@pytest.mark.parametrize(
    ("epsilon", "decibel"), [(0.01, 40.0), (0.05, 26.0206), (0.075, 22.4988), (0.1, 20.0)], ids=str
)
def test_fgsm_of_an_interior_image_has_the_psnr_of_its_epsilon(model, images, labels, epsilon, decibel):
    adversarial = FGSM(epsilon)(misclassify(model, labels), images)
    torch.testing.assert_close(psnr(adversarial, images), torch.full((6,), decibel), rtol=0, atol=2e-3)
    noisy = RandomSign(epsilon)(misclassify(model, labels), images)
    torch.testing.assert_close(psnr(noisy, images), torch.full((6,), decibel), rtol=0, atol=2e-3)


def test_fgsm_is_its_formula(model, images, labels):
    point = images.clone().requires_grad_()
    model.eval()
    loss = nn.functional.cross_entropy(model(point), labels, reduction="sum")
    (slope,) = torch.autograd.grad(loss, point)
    expected = (images + 0.03 * slope.sign()).clamp(0, 1)
    assert torch.equal(FGSM(0.03)(misclassify(model, labels), images), expected)


def test_one_stored_sign_map_serves_every_epsilon(model, images, labels):
    goal = misclassify(model, labels)
    for kind in STRAIGHT:
        stored = kind().direction(goal, images)
        for epsilon in (0.0, 0.01, 0.1):
            assert torch.equal(kind(epsilon).along(images, stored), kind(epsilon)(goal, images))


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_epsilon_zero_is_the_identity(model, images, labels, attack):
    assert torch.equal(replace(attack, epsilon=0)(misclassify(model, labels), images), images)


@pytest.mark.parametrize("attack", [a for a in ATTACKS if not isinstance(a, GaussianNoise)], ids=repr)
def test_adversarial_images_stay_in_the_ball(model, images, labels, attack):
    adversarial = attack(misclassify(model, labels), images)
    check_inside(adversarial, images, attack.epsilon, getattr(attack, "norm", "linf"))
    assert (adversarial != images).any()


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_an_image_does_not_depend_on_its_batch_and_equal_calls_are_equal(model, images, labels, attack):
    torch.manual_seed(5)
    together = attack(misclassify(model, labels), images)
    state = torch.random.get_rng_state()
    torch.manual_seed(6)
    again = attack(misclassify(model, labels), images)
    assert torch.equal(together, again)
    torch.manual_seed(5)
    assert torch.equal(state, torch.random.get_rng_state())
    alone = [attack(misclassify(model, labels[i : i + 1]), images[i : i + 1]) for i in range(len(images))]
    torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=1e-6)


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_nothing_else_changed(model, images, labels, attack):
    next(model.parameters()).requires_grad_(False)
    flags = [p.requires_grad for p in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes, kept = [m.training for m in model.modules()], images.clone()
    attack(misclassify(model, labels), images)
    attack(move_heatmap(model, GradCAM("4"), Location(), betas=(10, 100)), images)
    assert torch.equal(images, kept)
    assert not images.requires_grad
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_attacks_work_under_no_grad_and_inference_mode(model, images, labels):
    expected = FGSM()(misclassify(model, labels), images)
    with torch.no_grad():
        assert torch.equal(FGSM()(misclassify(model, labels), images), expected)
    with torch.inference_mode():
        assert torch.equal(FGSM()(misclassify(model, labels), images * 1), expected)


def test_pgd_goes_farther_than_fgsm_and_keeps_the_best(model, images, labels):
    goal = misclassify(model, labels)
    model.eval()
    step = goal(FGSM(0.05)(goal, images))
    best = goal(PGD(0.05, 10)(goal, images))
    assert (best >= step - 1e-4).all()
    assert (best >= goal(PGD(0.05, 10, keep="last")(goal, images)) - 1e-6).all()
    # one huge step overshoots; the start is then the best image met
    overshot = PGD(0.05, 1, step_size=1.0, random_start=False)(goal, images)
    assert (goal(overshot) >= goal(images) - 1e-6).all()


def test_targeted_attacks_reach_the_wanted_class(model, images):
    model.eval()
    wanted = model(images).topk(2).indices[:, 1]
    goal = reach(model, wanted)
    attack = PGD(0.2, 10)
    done = examine(goal, attack(goal, images), images)
    assert done.success.any()
    assert torch.equal(done.success, model(done.images).argmax(1) == wanted)
    assert (done.linf <= 0.2 + 1e-6).all()
    everywhere = attack(reach(model, 3), images)
    assert torch.equal(everywhere, attack(reach(model, torch.full((6,), 3)), images))


def test_examine_records_norms(model, images, labels):
    done = examine(misclassify(model, labels), images + 0.1, images)
    torch.testing.assert_close(done.linf, torch.full((6,), 0.1))
    torch.testing.assert_close(done.l2, torch.full((6,), 0.1 * math.sqrt(3 * 32 * 32)))


def test_an_attack_that_loses_the_class_it_was_to_keep_is_no_success(model, images, labels):
    goal = begin(move_heatmap(model, GradCAM(), Location(), targets=labels), images)
    adversarial = FGSM(0.3)(misclassify(model, model(images).argmax(1)), images)
    attacked = examine(goal, adversarial, images)
    kept = model(adversarial).argmax(1) == model(images).argmax(1)
    assert not kept.all()
    assert not attacked.success[~kept].any()
    # there, but not to be handed out
    yes, no = torch.ones(6, dtype=torch.bool), torch.zeros(6, dtype=torch.bool)
    assert not examine(Goal(lambda pixels: Look(pixels.flatten(1).sum(1), yes, no)), images, images).success.any()
    # a plain function of the pixels says of no image that it is there
    assert not examine(lambda pixels: pixels.flatten(1).sum(1), images + 0.1, images).success.any()


def test_the_seed_is_that_of_the_random_start(model, images, labels):
    goal = misclassify(model, labels)
    start = [PGD(0.05, 1, step_size=1e-6, keep="last", seed=seed)(goal, images) for seed in (0, 0, 1)]
    assert torch.equal(start[0], start[1])
    assert (start[0] - start[2]).abs().max() > 0.05


def test_objectives_add(model, images, labels):
    a, b = misclassify(model, labels), reach(model, 2)
    model.eval()
    torch.testing.assert_close((a + 0.5 * b)(images), a(images) + 0.5 * b(images))
    look = (a + b).look(images)
    assert torch.equal(look.reached, a.look(images).reached & b.look(images).reached)
    assert begin(a + b, images).start is None


def test_any_function_is_an_objective(images):
    brighter = PGD(0.1, 2)(lambda x: x.flatten(1).mean(1), images)
    torch.testing.assert_close(brighter, images + 0.1)
    value, reached, allowed = begin(lambda x: x.flatten(1).mean(1), images).look(brighter)
    torch.testing.assert_close(value, images.flatten(1).mean(1) + 0.1)
    assert (reached.tolist(), allowed.tolist()) == ([False] * 6, [True] * 6)


@pytest.mark.parametrize("penalty", [Location(), TopK(), CenterMass(), TargetMap("corner")], ids=repr)
def test_the_heatmap_moves_while_the_class_stays(model, images, penalty):
    explainer = GradCAM("4", relu=False)
    goal = move_heatmap(model, explainer, penalty)
    done = examine(goal, PGD(0.1, 10)(goal, images), images)
    before, after = explainer(model, images), explainer(model, done.images, explainer(model, images).targets)
    assert torch.equal(before.logits.argmax(1), after.logits.argmax(1))
    lowered = penalty(after.heatmaps, before.heatmaps) < penalty(before.heatmaps, before.heatmaps)
    assert lowered.float().mean() > 0.8
    assert torch.equal(done.success, lowered)


def test_a_summed_heatmap_goal_is_bound_to_the_clean_images(model, images):
    goal = move_heatmap(model, GradCAM("4"), CenterMass()) + 0.1 * move_heatmap(model, GradCAM("4"), Location())
    started = begin(goal, images)
    assert started.start is None
    assert (started(images + 0.05) != goal(images + 0.05)).any()


def test_a_penalty_that_is_flat_at_the_clean_image_asks_for_a_random_start(model, images):
    with pytest.warns(UserWarning, match="needs a random start"):
        PGD(0.1, 2, random_start=False)(move_heatmap(model, GradCAM("4"), CenterMass()), images)


def test_a_flat_gradient_map_asks_for_the_softplus_copy_and_gets_it(model, images):
    target = torch.zeros(32, 32)
    target[:8, :8] = 1
    flat = move_heatmap(model, SimpleGrad(), TargetMap(target))
    with pytest.warns(UserWarning, match=r"no second derivative.*betas=\(10, 100\)"):
        assert torch.equal(PGD(0.1, 2, random_start=False)(flat, images), images)
    goal = move_heatmap(model, SimpleGrad(), TargetMap(target), betas=(10, 100))
    done = examine(goal, PGD(0.1, 10, random_start=False)(goal, images), images)
    assert done.success.float().mean() > 0.8


def test_a_model_without_gradients_is_named(images):
    class Detached(nn.Module):
        def forward(self, x):
            return x.detach().flatten(1)[:, :5]

    with pytest.raises(ModelError, match="no gradient with respect to the pixels"):
        FGSM()(misclassify(Detached(), torch.zeros(6).long()), images)


def test_a_gradient_that_is_nan_is_named(model, images, labels):
    def objective(x):
        return x.flatten(1).sum(1) * torch.tensor([1.0, 1, 1, 1, 1, torch.nan])

    with pytest.raises(ModelError, match=r"NaN or infinite for 1 of 6 images \(the first is number 5"):
        PGD()(objective, images)


def test_bad_settings_and_labels_are_named(model, images, labels):
    with pytest.raises(InputError, match=r"write 8/255"):
        PGD(epsilon=8)
    with pytest.raises(InputError, match="at least 1 step"):
        PGD(steps=0)
    with pytest.raises(InputError, match="step_size must be positive"):
        PGD(step_size=-0.1)
    with pytest.raises(InputError, match="'best' or 'last'"):
        PGD(keep="first")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="longer than any change"):
        PGD(500, norm="l2")(misclassify(model, labels), images)
    with pytest.raises(InputError, match=r"labels must lie in 0\.\.4, got 7"):
        FGSM()(misclassify(model, torch.tensor([0, 1, 2, 3, 4, 7])), images)
    with pytest.raises(InputError, match=r"wanted classes must lie in 0\.\.4"):
        FGSM()(reach(model, -1), images)
    with pytest.raises(InputError, match="one value per image"):
        FGSM()(lambda x: x.mean(), images)
    with pytest.raises(InputError, match="hold"):
        move_heatmap(model, GradCAM(), Location(), hold=-1)
    with pytest.raises(InputError, match="betas"):
        move_heatmap(model, GradCAM(), Location(), betas=(0, 1))


def test_specs_are_what_python_builds():
    assert repr(FGSM()) == "FGSM()"
    assert repr(PGD(epsilon=0.5, norm="l2")) == "PGD(epsilon=0.5, norm='l2')"


def test_goals_climb_on_their_softened_copies_and_add_there_too(model, images):
    soft = move_heatmap(model, SimpleGrad(), TopK(), betas=(10, 100))
    away = move_heatmap(model, GradCAM("4"), Location())
    near = images + 0.01 * images.flip(3)
    bound = begin(0.5 * soft + away, images)
    alone = begin(soft, images)
    assert bound.climb is not None
    assert alone.climb is not None
    value = bound.climb(near, 0.5)
    torch.testing.assert_close(value, 0.5 * alone.climb(near, 0.5) + begin(away, images).look(near).value)
    assert not torch.allclose(value, bound.look(near).value)  # which is judged on the network itself
    with pytest.raises(TypeError):
        _ = away + (lambda images: images.sum((1, 2, 3)))  # pyright: ignore[reportOperatorIssue]


def test_without_a_hold_the_value_is_the_penaltys_alone(model, images):
    goal = begin(move_heatmap(model, GradCAM("4"), TopK(), hold=0), images)
    near = (images + 0.2).clamp(max=1)
    reference = GradCAM("4")(model, images)
    maps = GradCAM("4")(model, near, reference.targets).heatmaps
    torch.testing.assert_close(goal.look(near).value, -TopK()(maps, reference.heatmaps))
