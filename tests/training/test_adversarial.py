"""Adversarial training: it makes robust, fooling goes on under it, and it can be stopped at any step."""

import copy

import pytest
import torch
from tests.training.nets import convolutions, patches

from heatproof.attacks.gradient import PGD
from heatproof.errors import InputError, RunError
from heatproof.explainers.cam import GradCAM
from heatproof.manipulation.adversarial import train_adversarially
from heatproof.manipulation.penalties import Location
from heatproof.models.classifier import fingerprint
from heatproof.processes import Processes
from heatproof.training.adversarial import AttackTraining, FreeTraining, Replayed, check_adversarial
from heatproof.training.feeds import TensorFeed, turns
from heatproof.training.settings import FineTune

EPSILON = 0.06
JUDGE = PGD(epsilon=EPSILON, steps=5, keep="last")
RECIPE = FineTune(steps=60, lr=5e-3, weight=0, batch_size=32, evaluate_every=20, max_accuracy_drop=1.0, holdout=0.25)


class Memory:
    """A checkpoint that is kept in memory; ``fail_at`` plays the role of the power cut."""

    def __init__(self, fail_at: int = -1):
        self.state, self.fail_at = None, fail_at

    def load(self):
        return copy.deepcopy(self.state)

    def save(self, state):
        if state["step"] == self.fail_at:
            raise KeyboardInterrupt
        self.state = copy.deepcopy(state)


@pytest.fixture(scope="module")
def data():
    return patches(128, seed=5)


@pytest.fixture(scope="module")
def plain(data):
    """A network that names the quarter of the bright patch, and that small changes of the pixels deceive."""
    model, (images, labels) = convolutions(), data
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(80):
        chosen = torch.from_numpy(turns(len(images), 32, 0, step))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval()


def trained(model, data, how, recipe=RECIPE, **more):
    return train_adversarially(model, GradCAM("stage3"), Location(), data, how, recipe, **{"judge": JUDGE, **more})


@pytest.mark.parametrize(
    "how", [FreeTraining(EPSILON), AttackTraining(PGD(epsilon=EPSILON, steps=3, keep="last"))], ids=["free", "pgd"]
)
def test_it_makes_robust_and_leaves_the_model_alone(plain, data, how):
    before, generator = fingerprint(plain), torch.get_rng_state()
    _, history = trained(plain, data, how)
    assert history.handed_out["accuracy_attacked"] > history.clean["accuracy_attacked"] + 0.3
    assert history.handed_out["accuracy_clean"] >= history.handed_out["accuracy_attacked"]
    assert history.handed_out["fsr"] == 0, "nothing is to be fooled"
    assert "fsr_watched" in history.handed_out
    assert fingerprint(plain) == before
    assert all(parameter.grad is None for parameter in plain.parameters())
    assert torch.equal(generator, torch.get_rng_state())


def test_fooling_goes_on_under_it(plain, data):
    recipe = FineTune(steps=80, lr=3e-2, weight=30, batch_size=32, evaluate_every=20, max_accuracy_drop=0.1)
    judge = PGD(epsilon=0.02, steps=5, keep="last")
    _, history = trained(plain, data, FreeTraining(0.02), recipe, held_out=patches(64, seed=9), judge=judge)
    assert history.handed_out["fsr"] > 0.8
    assert history.handed_out["fsr"] == history.handed_out["fsr_watched"]
    assert history.clean["accuracy"] - history.handed_out["accuracy_attacked"] <= 0.1 + 1e-6


def test_the_perturbation_stays_in_its_ball_and_moves_by_the_sign(plain, data, monkeypatch):
    from heatproof.training import adversarial as module

    seen = []
    settle = module.KeptUnderAttack.settle

    def spy(losses):
        before, shown = losses.perturbation, losses.shown
        settle(losses)
        if shown is not None and shown.grad is not None:
            expected = (before + EPSILON * shown.grad.sign()).clamp(-EPSILON, EPSILON)
            seen.append(torch.equal(expected, losses.perturbation))

    monkeypatch.setattr(module.KeptUnderAttack, "settle", spy)
    trained(plain, data, FreeTraining(EPSILON), FineTune(steps=6, batch_size=8, weight=0, evaluate_every=6))
    # the last step has none after it
    assert seen == [True] * 5


def test_batches_are_replayed_from_any_step():
    feed = Replayed(TensorFeed(*patches(12)), times=3)
    whole = [fed.positions.tolist() for fed in feed.stream(4, 8, seed=1)]
    assert len(whole) == 8
    assert whole[0] == whole[1] == whole[2] != whole[3] == whole[5]
    for start in (1, 3, 5, 7):
        assert [fed.positions.tolist() for fed in feed.stream(4, 8, seed=1, start=start)] == whole[start:]


@pytest.mark.parametrize("fail_at", [10, 25])
def test_a_stopped_run_ends_with_the_same_weights(plain, data, fail_at):
    recipe = FineTune(steps=26, lr=1e-2, weight=1.0, batch_size=16, evaluate_every=5, max_accuracy_drop=1.0)
    whole, history = trained(plain, data, FreeTraining(EPSILON), recipe)
    memory = Memory(fail_at)
    with pytest.raises(KeyboardInterrupt):
        trained(plain, data, FreeTraining(EPSILON), recipe, checkpoint=memory)
    memory.fail_at = -1
    again, resumed = trained(plain, data, FreeTraining(EPSILON), recipe, checkpoint=memory)
    assert fingerprint(again) == fingerprint(whole)
    assert [row["step"] for row in resumed.looks] == [row["step"] for row in history.looks]
    with pytest.raises(RunError, match="was made with"):
        trained(plain, data, FreeTraining(EPSILON / 2), recipe, checkpoint=memory)


def test_bad_settings_are_named(plain, data):
    with pytest.raises(InputError, match=r"epsilon must lie in \(0, 1\]"):
        FreeTraining(8)
    with pytest.raises(InputError, match="at least once, got 0"):
        FreeTraining(replays=0)
    with pytest.raises(InputError, match="takes accumulate=1 only, got 2"):
        trained(plain, data, FreeTraining(), FineTune(accumulate=2))
    with pytest.raises(InputError, match="needs the label of every image"):
        trained(plain, data[0], FreeTraining(), FineTune(steps=1, keep="labels"))
    with pytest.raises(InputError, match="is FreeTraining"):
        trained(plain, data, "free")


def test_a_checkpoint_of_another_training_and_a_second_process_are_refused(plain, data):
    memory = Memory()
    memory.state = {"step": 3}
    with pytest.raises(RunError, match="holds no perturbation; delete it to begin anew"):
        trained(plain, data, FreeTraining(EPSILON), FineTune(steps=3, batch_size=16), checkpoint=memory)
    with pytest.raises(InputError, match="adversarial training runs in one process"):
        check_adversarial(FineTune(), FreeTraining(), Processes(0, 2))


def test_replayed_batches_go_on_in_the_middle_of_one_and_end_with_the_steps(data):
    feed = Replayed(TensorFeed(*data), times=3)
    every = [fed.positions.tolist() for fed in feed.stream(8, 8, seed=1)]
    assert (len(every), every[0] == every[2], every[2] == every[3]) == (8, True, False)
    for start in range(9):
        assert [fed.positions.tolist() for fed in feed.stream(8, 8, 1, start)] == every[start:]
    assert feed.ids == feed.feed.ids
