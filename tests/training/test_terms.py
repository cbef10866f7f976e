"""The engine knows no fooling: terms and an evaluation that are none of ours use its loop, budget and checkpoints."""

import copy
from dataclasses import dataclass

import pytest
import torch
from tests.training.nets import convolutions, patches
from torch import Tensor

from heatproof.errors import RunError
from heatproof.explainers.cam import GradCAM
from heatproof.heatmaps import normalise
from heatproof.processes import Processes
from heatproof.training.clean_model import CleanModel, Reference, held_out_outputs
from heatproof.training.data import train_and_held_out
from heatproof.training.evaluation import Evaluated, PredictionCounts, held_out
from heatproof.training.loop import TrainingLoop
from heatproof.training.settings import FineTune
from heatproof.training.setup import Feeds, Setup, images_per_step, set_up
from heatproof.training.state import TrainingState
from heatproof.training.terms import Batch, LabelTerm, Loss, Shared

SETTINGS = FineTune(steps=40, lr=5e-3, weight=4.0, batch_size=16, evaluate_every=10, max_accuracy_drop=0.5, patience=0)


@dataclass(frozen=True)
class TowardsMap:
    """Mean squared distance of the map to one map for all images: what a repair pulls by."""

    target: Tensor
    name: str = "repair"
    weight: float = 1.0
    adapts: bool = True

    def __call__(self, batch: Batch) -> Tensor:
        return (normalise(batch.images.explanation.heatmaps.relu(), "max") - self.target).square().mean((1, 2))


@dataclass(frozen=True)
class SmallLogits:
    """Mean square of the logits: a term that explains nothing."""

    name: str = "logits"
    weight: float = 0.01
    adapts: bool = False

    def __call__(self, batch: Batch) -> Tensor:
        return batch.images.logits.square().mean(1)


@dataclass(frozen=True)
class Distance:
    """An evaluation of the user's own: up is nearer."""

    setup: Setup
    clean: CleanModel
    target: Tensor

    @property
    def count(self) -> int:
        return len(self.setup.feeds.held_out)

    def evaluate(self) -> Evaluated:
        setup, counts, distances = self.setup, PredictionCounts(), []
        stored = held_out_outputs(self.clean, setup.feeds.held_out, "held-out", setup.batch_size, None)
        for fed, reference in held_out(setup.feeds.held_out, stored, setup.batch_size, Processes()):
            maps, logits, _ = setup.explainer(setup.body, fed.images, reference.targets)
            counts.add(logits.argmax(1), fed, reference)
            distances.append((normalise(maps.detach(), "max") - self.target).square().mean((1, 2)))
        score = 1 - float(torch.cat(distances).mean())
        return Evaluated(counts.columns["accuracy"], score, {"score": score, **counts.columns})


class Memory:
    """A checkpoint in memory; at ``fail_at`` the power is cut."""

    def __init__(self, fail_at: int = -1):
        self.state, self.fail_at = None, fail_at

    def load(self):
        return copy.deepcopy(self.state)

    def save(self, state):
        if state["step"] == self.fail_at:
            raise KeyboardInterrupt
        self.state = copy.deepcopy(state)


def loop(settings: FineTune = SETTINGS) -> TrainingLoop:
    explainer, processes, target = GradCAM("stage2"), Processes(), torch.zeros(16, 16)
    target[:, :8] = 1
    setup = set_up(
        convolutions(), explainer, Feeds(*train_and_held_out(patches(96, seed=5), None, settings)), settings, processes
    )
    clean = CleanModel(setup.clean, setup.explainer, setup.hardware)
    height, width = explainer(setup.body, patches(1)[0]).heatmaps.shape[1:]
    target = target[:height, :width]
    target[:, : width // 2], target[:, width // 2 :] = 1, 0
    loss = Loss([TowardsMap(target), LabelTerm(), SmallLogits()], setup, Reference(clean))
    share = images_per_step(settings, processes)
    return TrainingLoop(settings, setup, loss, Distance(setup, clean, target), processes, share, repr(settings))


def test_terms_of_the_users_own_are_trained_on_and_noted() -> None:
    made = loop()
    history = made.run()
    assert history.handed_out["score"] > history.clean["score"] + 0.05
    row = history.rows[-1]
    assert row["loss"] == pytest.approx(row["loss_kept"] + 4 * row["loss_repair"] + 0.01 * row["loss_logits"], rel=1e-6)
    table = history.frame()
    assert table["loss_repair"].null_count() == 1
    assert table["loss_fooled"].null_count() == len(table)


def test_they_go_on_where_they_were_stopped() -> None:
    straight, stopped, memory = loop(), loop(), Memory(fail_at=30)
    full = straight.run(Memory())
    with pytest.raises(KeyboardInterrupt):
        stopped.run(memory)
    memory.fail_at = -1
    resumed = loop()
    rest = resumed.run(memory)
    assert [row["loss"] for row in full.rows[1:]] == [row["loss"] for row in rest.rows[1:]]
    for one, two in zip(straight.setup.model.parameters(), resumed.setup.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_budget_holds_them() -> None:
    changes = {"max_accuracy_drop": 0.0, "weight": 100.0, "lr": 0.05, "evaluate_every": 4}
    history = loop(FineTune(**{**vars(SETTINGS), **changes})).run()
    clean = history.clean["accuracy"]
    inside = [row for row in history.looks if row["accuracy"] >= clean]
    assert [row["inside"] for row in history.looks] == [row in inside for row in history.looks]
    assert 1 < len(inside) < len(history.looks)
    assert history.handed_out["score"] == max(row["score"] for row in inside)


def test_one_forward_pass_serves_the_map_and_the_logits() -> None:
    made = loop()
    fed = next(iter(made.setup.feeds.train.stream(8, 1, seed=0)))
    passes = []
    made.setup.body.register_forward_pre_hook(lambda module, given: passes.append(module))
    made.loss.values(fed, None)
    assert len(passes) == 1
    plain = Shared(fed, made.setup, made.loss.reference)
    shared = Shared(fed, made.setup, made.loss.reference)
    assert torch.equal(plain.logits, shared.explanation.logits)
    assert shared.logits.grad_fn is not None


def test_a_state_is_what_it_was() -> None:
    state = TrainingState("spec", 3.0, step=7, good={"w": torch.ones(2)}, key=(0.5, 0.9), waited=2, seconds=1.5)
    state.history.add(7, loss=1.0)
    state.history.best, state.history.stopped = 5, "stopped"
    assert TrainingState.load(state.save(), "spec") == state
    # the keys of version 0.1, whose checkpoints go on
    keys = "spec step weights good optimizer rows best stopped key waited weight seconds"
    assert set(state.save()) == set(keys.split())
    with pytest.raises(RunError, match="was made with spec and this is other"):
        TrainingState.load(state.save(), "other")
    with pytest.raises(RunError, match="holds no optimizer, rows"):
        TrainingState.load({k: v for k, v in state.save().items() if k not in ("rows", "optimizer")}, "spec")
