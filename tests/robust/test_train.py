"""A robust training from end to end: maps hold still, the budget holds, a killed one goes on, and what cannot be."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.training.nets import convolutions, patches
from tests.training.test_adversarial import Memory
from torch import Tensor, nn

import heatproof as hp
from heatproof.attacks.gradient import PGD
from heatproof.errors import InputError, LayerError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import InputXGradient, SimpleGrad
from heatproof.models.altered import Alteration
from heatproof.models.classifier import Classifier, fingerprint
from heatproof.robust.attack import MapAttack, reads_pixels
from heatproof.robust.methods import (
    SSR,
    Adversarial,
    Alignment,
    Hessian,
    Method,
    Plain,
    Softplus,
    Thickness,
    WeightDecay,
)
from heatproof.robust.train import RobustEvaluation, prepare, train_robustly
from heatproof.training.settings import FineTune

METHODS: tuple[Method, ...] = (
    Hessian(),
    Alignment(),
    Alignment(beta=5.0),
    Thickness(),
    Thickness(hessian=1e-6, beta=10.0),
    SSR(),
    Adversarial(),
    Adversarial(blur=1.0),
    WeightDecay(),
    Softplus(),
    Plain(),
)
QUICK = FineTune(
    steps=4, lr=1e-3, weight=1.0, batch_size=16, evaluate_every=2, patience=0, max_accuracy_drop=1.0, schedule="cosine"
)


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    return patches(64, seed=5)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_every_method_trains_and_leaves_the_model_alone(method: Method, data: tuple[Tensor, Tensor]) -> None:
    model = convolutions()
    before = fingerprint(model)
    found = train_robustly(model, SimpleGrad(), data, method, QUICK)
    assert fingerprint(model) == before != fingerprint(found.model)
    assert model.softplus is None
    assert found.history.best == 4  # the last one inside the budget
    assert found.alteration == method.alteration(model)
    assert found.model.softplus == found.alteration.softplus
    assert all(0 <= row["overlap"] <= 1 for row in found.history.looks)
    assert found.accuracy_after == found.history.looks[-1]["accuracy"]
    assert not found.model.training
    assert repr(eval(repr(method), {**globals(), "PGD": PGD})) == repr(method)


@pytest.mark.parametrize("method", [Hessian(), Alignment(), Adversarial(blur=1.0)], ids=repr)
@pytest.mark.parametrize("explainer", [SimpleGrad(), GradCAM("stage3")], ids=repr)
def test_killed_it_goes_on_to_the_same_weights(method: Method, explainer: Any, data: tuple[Tensor, Tensor]) -> None:
    whole = train_robustly(convolutions(), explainer, data, method, QUICK)
    stopped = Memory(fail_at=4)
    with pytest.raises(KeyboardInterrupt):
        train_robustly(convolutions(), explainer, data, method, QUICK, checkpoint=stopped)
    assert stopped.state is not None
    assert stopped.state["step"] == 2
    stopped.fail_at = -1
    again = train_robustly(convolutions(), explainer, data, method, QUICK, checkpoint=stopped)
    assert fingerprint(again.model) == fingerprint(whole.model)
    assert [row["overlap"] for row in again.history.looks] == [row["overlap"] for row in whole.history.looks]


def test_batches_without_a_watched_photo_count_for_the_accuracy_alone(data: tuple[Tensor, Tensor]) -> None:
    loop = prepare(convolutions(), GradCAM("stage3"), data, Plain(), QUICK, held_out=patches(48, seed=6))
    assert isinstance(loop.evaluation, RobustEvaluation)
    all_ = replace(loop.evaluation, watched=48).evaluate()
    # of three batches of 16 the last one, or the last two, hold none
    for watched in (2, 1):
        few = replace(loop.evaluation, watched=watched).evaluate()
        assert few.accuracy == all_.accuracy
        assert few.columns["agreement"] == all_.columns["agreement"] == 1
        assert 0 <= few.score <= 1
        assert few.score != all_.score


def test_what_is_prepared_is_what_is_trained(data: tuple[Tensor, Tensor]) -> None:
    given = (convolutions(), SimpleGrad(), data, Alignment(), QUICK)
    found, loop = train_robustly(*given), prepare(*given)
    assert loop.state.step == 0
    history = loop.run()
    assert [row.get("loss") for row in history.rows] == [row.get("loss") for row in found.history.rows]
    handed = loop.setup.handed_out(convolutions()).network.state_dict()
    for name, value in found.model.network.state_dict().items():
        assert torch.equal(handed[name], value)


def test_outside_the_budget_the_network_comes_back_as_it_was(data: tuple[Tensor, Tensor]) -> None:
    model = learned(data)
    wild = replace(QUICK, lr=3.0, max_accuracy_drop=0.0)
    found = train_robustly(model, SimpleGrad(), data, Softplus(0.5), wild)
    assert not found.changed
    assert found.alteration == Alteration()
    assert found.model.softplus is None
    assert fingerprint(found.model) == fingerprint(model)
    assert found.accuracy_after == found.accuracy_before


def test_the_budget_counts_from_the_network_before_it_was_altered(data: tuple[Tensor, Tensor]) -> None:
    model = learned(data)
    found = train_robustly(model, SimpleGrad(), data, Softplus(0.2), QUICK)
    with torch.no_grad():
        right = (model(data[0]).argmax(1) == data[1]).float().mean()
    assert right > 0.9
    assert found.accuracy_before > 0.8
    assert found.history.looks[0]["accuracy"] < found.accuracy_before


def learned(data: tuple[Tensor, Tensor]) -> Classifier:
    """A network that names the quarter of the bright patch."""
    model, (images, labels) = convolutions(), data
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("method", [Alignment(l2=0.0001, cosine=3.0, epsilon=0.05), Hessian(1e-4, beta=10.0)], ids=repr)
def test_a_longer_training_ends_inside_its_budget_and_another_than_a_plain_one(method: Method) -> None:
    """Whether maps hold still afterwards a network as small as this cannot tell: the study measures it."""
    data = patches(256, seed=5)
    model = learned(data)
    recipe = replace(QUICK, steps=150, lr=3e-3, evaluate_every=50, max_accuracy_drop=0.1)
    found, plain = (train_robustly(model, SimpleGrad(), data, one, recipe) for one in (method, Plain()))
    assert found.changed
    assert found.accuracy_after >= found.accuracy_before - 0.1
    pairs = zip(found.model.parameters(), plain.model.parameters(), strict=True)
    assert any(not torch.allclose(one, other) for one, other in pairs)


def test_without_labels_the_outputs_hold_the_function(data: tuple[Tensor, Tensor]) -> None:
    images = data[0]
    with pytest.raises(
        InputError, match=r"Alignment\(\) needs the label of every photo, and 58 of 58 have none; keep="
    ):
        train_robustly(convolutions(), SimpleGrad(), images, Alignment(), replace(QUICK, holdout=0.1))
    recipe = replace(QUICK, keep="outputs", steps=2)
    found = train_robustly(convolutions(), SimpleGrad(), images, Alignment(), recipe)
    assert found.accuracy_before == 1  # by its own predictions
    with pytest.raises(InputError, match=r"Adversarial.* every other method does without"):
        train_robustly(convolutions(), SimpleGrad(), images, Adversarial(), recipe)


def gentle() -> Classifier:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    return Classifier(network.eval(), input_size=16, name="gentle")


def test_what_cannot_be_is_said(data: tuple[Tensor, Tensor]) -> None:
    few = (data[0][:49], data[1][:49])
    cases: list[tuple[Classifier, Any, Method, type[Exception], str]] = [
        (convolutions(), few, Plain(), InputError, "needs at least 50 photos, .* got 49"),
        (convolutions(), data, Hessian(beta=None), InputError, "bends at ReLUs alone, .* give beta"),
        (convolutions(), data, Thickness(hessian=1.0), InputError, "bends at ReLUs alone"),
        (gentle(), data, Softplus(), InputError, "gentle has no ReLU"),
        (convolutions(), data, Adversarial(blur=1.0, layer="stag1"), LayerError, "there is no layer 'stag1'"),
        (convolutions(), 3, Plain(), InputError, "data to fine-tune on are"),
        (convolutions(), (data[0], data[1] + 7), Plain(), InputError, "labels must lie in"),
    ]
    for model, given, method, error, sentence in cases:
        with pytest.raises(error, match=sentence):
            train_robustly(model, SimpleGrad(), given, method, QUICK)
    # a network that bends without softplus needs none
    assert train_robustly(gentle(), SimpleGrad(), data, Hessian(beta=None), QUICK).changed


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Hessian(0.0), r"weight must be positive, got 0.0; a training that pays for nothing is plain\(\)"),
        (lambda: Alignment(cosine=0.0), "cosine must be positive"),
        (lambda: Alignment(l2=float("nan")), "l2 must be positive"),
        (lambda: Alignment(epsilon=4.0), r"epsilon must lie in \(0, 1\]"),
        (lambda: Alignment(beta=-1.0), "beta of softplus must be positive"),
        (lambda: Thickness(k=10.0), "k is a share of the cells"),
        (lambda: Thickness(pairs=0), "at least one pair"),
        (lambda: Thickness(hessian=-1.0), "must not be negative"),
        (lambda: SSR(alpha=1.0), "alpha is a share of the loss"),
        (lambda: SSR(classes=1), "at least 2"),
        (lambda: SSR(scale=-1.0), "scale must be positive"),
        (lambda: Adversarial(attack="pgd()"), "without quotes"),  # type: ignore[arg-type]
        (lambda: Adversarial(blur=-1.0), "a standard deviation in cells"),
        (lambda: Adversarial(layer="stage1"), "no blur was asked for"),
        (lambda: WeightDecay(0.0), "decay must be positive"),
        (lambda: Softplus(0.0), "beta of softplus must be positive"),
        (lambda: MapAttack(epsilon=4.0), "epsilon"),
        (lambda: MapAttack(steps=0), "at least 1 step"),
        (lambda: MapAttack(fraction=0.0), "fraction"),
    ],
)
def test_numbers_that_make_no_sense_are_told(make: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make()


def test_the_attack_moves_the_map_inside_the_ball_and_keeps_the_class(data: tuple[Tensor, Tensor]) -> None:
    model, images = learned(data), patches(6, seed=9)[0]
    targets = model(images).argmax(1)
    for altered in (None, 5.0):
        model.softplus = altered
        targets = model(images).argmax(1)
        attack = MapAttack(epsilon=0.05)
        moved = attack(model, SimpleGrad(), images, targets)
        assert float((moved.images - images).abs().max()) <= 0.05 + 1e-6
        assert torch.equal(moved.attacked.logits.argmax(1), targets)
        assert float(attack.overlap(moved).mean()) < 0.95
        still = replace(attack, epsilon=0.0)
        assert torch.equal(still.overlap(still(model, SimpleGrad(), images, targets)), torch.ones(6))


def test_which_maps_are_gradients_at_the_pixels() -> None:
    assert reads_pixels(SimpleGrad())
    assert reads_pixels(hp.Smoothed(InputXGradient()))
    assert not reads_pixels(GradCAM())
    assert not reads_pixels(hp.LRP())


def test_trained_from_a_layer_on_the_pixels_still_count(data: tuple[Tensor, Tensor]) -> None:
    recipe = replace(QUICK, trainable="stage3")
    found = train_robustly(convolutions(), GradCAM("stage3"), data, Alignment(), recipe)
    moved = {
        name
        for name, value in found.model.network.state_dict().items()
        if not torch.equal(value, convolutions().network.state_dict()[name])
    }
    assert moved
    assert all(name.startswith(("stage3", "head")) for name in moved)
