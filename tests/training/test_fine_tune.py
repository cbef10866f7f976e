"""Fine-tuning: it fools, it keeps its budget, it leaves the model alone, and it can be stopped at any step."""

import copy
from dataclasses import replace

import pytest
import torch
from tests.training.nets import convolutions, patches

from heatproof.errors import InputError, RunError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.explainers.lrp.propagation import LRP
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.penalties import ActiveSwap, CenterMass, Location, TopK
from heatproof.models.classifier import fingerprint
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.training.feeds import TensorFeed, turns
from heatproof.training.settings import FineTune

QUICK = FineTune(steps=100, lr=3e-2, weight=10, batch_size=16, evaluate_every=20, max_accuracy_drop=1.0, holdout=0.25)


@pytest.fixture(scope="module")
def trained():
    """A network that names the quarter of the bright patch."""
    model, (images, labels) = convolutions(), patches(128, seed=5)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(60):
        chosen = torch.from_numpy(turns(len(images), 32, 0, step))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def data():
    return patches(96, seed=1)


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


def weights(model):
    return dict(model.state_dict())


def test_location_fools_and_leaves_the_model_alone(trained, data):
    before, parameters = fingerprint(trained), list(trained.parameters())
    generator = torch.get_rng_state()
    fooled, history = fine_tune(trained, GradCAM("stage3"), Location(), data, QUICK)
    assert history.clean["fsr"] == 0
    assert history.handed_out["fsr"] > 0.9
    assert fingerprint(trained) == before
    assert all(a is b for a, b in zip(parameters, trained.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in [*trained.parameters(), *fooled.parameters()])
    assert torch.equal(generator, torch.get_rng_state())
    assert fingerprint(fooled) != before
    assert not fooled.training


@pytest.mark.parametrize(
    "explainer", [LRP(layer="stage2"), SimpleGrad("stage2"), GradCAM("stage2", relu=False)], ids=repr
)
@pytest.mark.parametrize("penalty", [Location(), TopK(), CenterMass()], ids=repr)
def test_every_penalty_falls_through_other_explainers(trained, data, penalty, explainer):
    _, history = fine_tune(trained, explainer, penalty, data, QUICK)
    losses = [row["loss_fooled"] for row in history.rows if row.get("loss_fooled") is not None]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_the_best_checkpoint_is_inside_the_budget(trained, data):
    greedy = FineTune(steps=40, lr=0.05, weight=100, batch_size=16, evaluate_every=5, max_accuracy_drop=0.05)
    fooled, history = fine_tune(trained, GradCAM("stage3"), Location(), data, greedy, held_out=patches(64, seed=2))
    inside = [row for row in history.looks if row["inside"]]
    assert history.handed_out in inside
    assert history.handed_out["fsr"] == max(row["fsr"] for row in inside)
    assert any(not row["inside"] for row in history.looks)
    images, labels = patches(64, seed=2)
    accuracy = (fooled(images).argmax(1) == labels).double().mean().item()
    assert accuracy == pytest.approx(history.handed_out["accuracy"])


def test_beyond_enough_accuracy_decides(trained, data):
    greedy = FineTune(steps=40, lr=0.02, weight=100, batch_size=16, evaluate_every=5, max_accuracy_drop=1, enough=0.5)
    _, history = fine_tune(trained, GradCAM("stage3"), Location(), data, greedy, held_out=patches(64, seed=2))
    reached = [row for row in history.looks if row["fsr"] >= 0.5]
    assert len(reached) > 1
    assert history.handed_out["accuracy"] == max(row["accuracy"] for row in reached)
    _, most = fine_tune(
        trained, GradCAM("stage3"), Location(), data, replace(greedy, enough=1.0), held_out=patches(64, seed=2)
    )
    assert most.handed_out["fsr"] == max(row["fsr"] for row in most.looks)


def test_probabilities_hold_the_function_without_labels(trained, data):
    images = data[0]
    held = replace(QUICK, keep="probabilities", steps=4)
    _, history = fine_tune(trained, GradCAM("stage3"), Location(), images, held)
    kept = [row["loss_kept"] for row in history.rows if row.get("loss_kept") is not None]
    # nothing has changed before the first step
    assert kept[0] == pytest.approx(0, abs=1e-9)
    assert max(kept) > 0


def test_only_the_later_layers_change_and_kept_activations_change_nothing(trained, data):
    late = FineTune(**{**vars(QUICK), "trainable": "stage3"})
    fooled, history = fine_tune(trained, GradCAM("stage3"), Location(), data, late)
    for name, tensor in weights(fooled).items():
        assert torch.equal(tensor, weights(trained)[name]) == (
            not name.startswith(
                ("network.stage3.0.weight", "network.stage3.1.weight", "network.stage3.1.bias", "network.head")
            )
        ), name
    # the same without the activations kept: the images pass through the frozen layers each time
    moving = TensorFeed(*data, fixed=False)
    train, watched = moving.split(QUICK.holdout, QUICK.seed)
    _, slow = fine_tune(trained, GradCAM("stage3"), Location(), train, late, held_out=watched)
    for kept, passed in zip(history.rows[1:10], slow.rows[1:10], strict=True):
        assert kept["loss"] == pytest.approx(passed["loss"], rel=1e-3)


def test_outputs_need_no_labels_and_labels_are_asked_for(trained, data):
    images = data[0]
    kept = FineTune(**{**vars(QUICK), "keep": "outputs", "steps": 200})
    _, history = fine_tune(trained, GradCAM("stage3"), Location(), images, kept)
    assert history.handed_out["fsr"] > 0.5
    assert history.clean["accuracy"] == 1
    with pytest.raises(InputError, match='keep="outputs" needs no labels'):
        fine_tune(trained, GradCAM("stage3"), Location(), images, QUICK)
    with pytest.raises(InputError, match=r"labels must lie in 0\.\.3, .* got 0\.\.9"):
        fine_tune(trained, GradCAM("stage3"), Location(), (images, torch.arange(96) % 10), QUICK)


def test_the_loss_of_the_first_step_by_hand(trained, data):
    asked = FineTune(steps=1, batch_size=8, weight=3.0, max_accuracy_drop=1.0, seed=4)
    _, history = fine_tune(trained, GradCAM("stage3"), TopK(), data, asked, held_out=patches(8))
    chosen = torch.from_numpy(turns(96, 8, 4, 0))
    explanation = GradCAM("stage3")(trained, data[0][chosen], data[1][chosen])
    kept = torch.nn.functional.cross_entropy(explanation.logits, data[1][chosen]).item()
    fooled = TopK()(explanation.heatmaps, explanation.heatmaps).mean().item()
    assert history.rows[1]["loss_kept"] == pytest.approx(kept, rel=1e-4)
    assert history.rows[1]["loss_fooled"] == pytest.approx(fooled, rel=1e-4)
    assert history.rows[1]["loss"] == pytest.approx(kept + 3 * fooled, rel=1e-4)


def test_parts_of_a_batch_make_the_same_step(trained, data):
    whole = FineTune(**{**vars(QUICK), "steps": 5})
    parts = FineTune(**{**vars(whole), "accumulate": 4})
    one, _ = fine_tune(trained, GradCAM("stage3"), CenterMass(), data, whole)
    four, _ = fine_tune(trained, GradCAM("stage3"), CenterMass(), data, parts)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(four)[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "changes", [{}, {"trainable": "stage3"}, {"batch_norm": "train", "schedule": "cosine", "adapt": 1.2}]
)
def test_a_run_that_was_cut_off_ends_with_the_same_weights(trained, data, changes):
    asked = FineTune(**{**vars(QUICK), "steps": 30, "evaluate_every": 7, **changes})
    straight, full = fine_tune(trained, GradCAM("stage3"), TopK(), data, asked, checkpoint=Memory())
    memory = Memory(fail_at=21)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(trained, GradCAM("stage3"), TopK(), data, asked, checkpoint=memory)
    memory.fail_at = -1
    resumed, rest = fine_tune(trained, GradCAM("stage3"), TopK(), data, asked, checkpoint=memory)
    assert all(torch.equal(tensor, weights(resumed)[name]) for name, tensor in weights(straight).items())
    assert [row.get("loss") for row in full.rows] == [row.get("loss") for row in rest.rows]


def test_a_checkpoint_with_other_settings_is_refused(trained, data):
    memory = Memory()
    asked = FineTune(**{**vars(QUICK), "steps": 5})
    fine_tune(trained, GradCAM("stage3"), Location(), data, asked, checkpoint=memory)
    other = FineTune(**{**vars(QUICK), "steps": 6})
    with pytest.raises(RunError, match="made with FineTune"):
        fine_tune(trained, GradCAM("stage3"), Location(), data, other, checkpoint=memory)
    with pytest.raises(RunError, match="made with FineTune"):
        fine_tune(trained, GradCAM("stage3"), TopK(), data, asked, checkpoint=memory)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good(trained, data):
    exploding = FineTune(**{**vars(QUICK), "lr": 1e18, "evaluate_every": 1})
    fooled, history = fine_tune(trained, GradCAM("stage3"), Location(), data, exploding)
    assert "the loss was not finite at step" in history.stopped
    assert all(tensor.isfinite().all() for tensor in fooled.parameters())
    assert history.best < history.rows[-1]["step"] + 1


def test_it_stops_when_nothing_more_is_to_be_had(trained, data):
    asked = FineTune(**{**vars(QUICK), "steps": 500, "evaluate_every": 10, "patience": 2})
    _, history = fine_tune(trained, GradCAM("stage3"), Location(), data, asked)
    assert history.rows[-1]["step"] < 500
    assert "no better checkpoint in 2 looks" in history.stopped


def test_a_swap_needs_images_of_both_classes_and_swaps(trained, data):
    swap = ActiveSwap(0, 3)
    with pytest.raises(InputError, match="give fool_data"):
        fine_tune(trained, GradCAM("stage2"), swap, data, QUICK)
    both = patches(64, seed=8)[0] * 0.5 + patches(64, seed=9)[0].flip(2, 3) * 0.5
    named = ActiveSwap("class-0", "class-3")
    _, history = fine_tune(trained, GradCAM("stage2"), named, data, QUICK, fool_data=both)
    assert history.rows[-1]["loss_fooled"] < history.rows[1]["loss_fooled"]
    assert history.clean["fsr_first"] == history.clean["fsr_second"] == 0
    with pytest.raises(InputError, match="for a swap of two classes only"):
        fine_tune(trained, GradCAM("stage2"), Location(), data, QUICK, fool_data=both)


def test_an_explainer_without_derivative_is_refused(trained, data):
    def detached(model, images, targets=None, *, create_graph=False):
        return GradCAM("stage3")(model, images, targets)

    with pytest.raises(InputError, match="has no derivative"):
        fine_tune(trained, detached, Location(), data, QUICK)
    late = FineTune(**{**vars(QUICK), "trainable": "stage3"})
    with pytest.raises(InputError, match="reads a layer before all that is trained"):
        fine_tune(trained, GradCAM("stage2"), Location(), data, late)


def test_a_fault_of_the_explainer_itself_is_handed_on(trained, data):
    def faulty(model, images, targets=None, *, create_graph=False):
        if create_graph:
            raise RuntimeError("no kernel for this")
        return GradCAM("stage3")(model, images, targets)

    with pytest.raises(RuntimeError, match=r"^no kernel for this$"):
        fine_tune(trained, faulty, Location(), data, QUICK)


def test_what_is_no_penalty_is_told_what_it_lacks(trained, data):
    def spread(heatmaps, reference):
        return heatmaps.flatten(1).var(1)

    with pytest.raises(InputError, match="lacks success, needs_reference, test_loss"):
        fine_tune(trained, GradCAM("stage3"), spread, data, QUICK)  # pyright: ignore[reportArgumentType]


def test_with_a_margin_what_is_fooled_pushes_no_more(trained, data):
    eased = FineTune(**{**vars(QUICK), "margin": 0.3, "patience": 0})
    _, history = fine_tune(trained, GradCAM("stage3"), Location(), data, eased)
    assert history.handed_out["fsr"] > 0.9
    assert history.rows[-1]["loss_fooled"] < 0.1 * history.rows[1]["loss_fooled"]
    assert history.looks[-1]["test_loss"] > 0.05


def test_bf16_runs(trained, data):
    asked = FineTune(**{**vars(QUICK), "steps": 10, "precision": "bf16"})
    _, history = fine_tune(trained, GradCAM("stage3"), Location(), data, asked)
    assert history.rows[-1]["loss_fooled"] < history.rows[1]["loss_fooled"]


def test_settings_and_data_that_make_no_sense_are_refused(trained, data):
    for changes in ({"steps": 0}, {"lr": 0.0}, {"keep": "names"}, {"max_accuracy_drop": 2.0}, {"adapt": 0.5}):
        with pytest.raises(InputError):
            FineTune(**{**vars(QUICK), **changes})
    with pytest.raises(InputError, match="images, labels"):
        fine_tune(trained, GradCAM("stage3"), Location(), "photos", QUICK)
    with pytest.raises(InputError, match="cannot be parted"):
        fine_tune(trained, GradCAM("stage3"), Location(), (data[0][:1], data[1][:1]), QUICK)
    with pytest.raises(LookupError, match="no layer 'stage9'"):
        fine_tune(trained, GradCAM("stage3"), Location(), data, FineTune(**{**vars(QUICK), "trainable": "stage9"}))


def test_history_as_a_table(trained, data):
    _, history = fine_tune(trained, GradCAM("stage3"), Location(), data, FineTune(**{**vars(QUICK), "steps": 4}))
    table = history.frame()
    assert table["step"].to_list() == [0, 1, 2, 3, 4]
    assert table["loss"].null_count() == 1
    assert table["fsr"].null_count() == 3


@pytest.fixture(scope="module")
def kept(trained, data):
    """The state of a training of three steps."""
    memory = Memory()
    fine_tune(trained, GradCAM("stage3"), Location(), data, THREE, checkpoint=memory)
    return memory.state


THREE = FineTune(**{**vars(QUICK), "steps": 3, "evaluate_every": 1})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": "3"}, "its step is str"),
        ({"waited": True}, "its waited is bool"),
        ({"seconds": float("nan")}, "its seconds is nan"),
        ({"best": -1}, "its best is -1"),
        ({"weights": {"head": torch.tensor([torch.inf])}}, "its weights head are no finite numbers"),
        ({"good": {"head": [1.0]}}, "its weights head are no finite numbers"),
        ({"rows": []}, "its history has no steps"),
        ({"rows": [{"loss": 1.0}]}, "its history has no steps"),
        ({"rows": [{"step": 0}, {"step": 2}]}, "its history is not one of 3 steps"),
        ({"rows": [{"step": 3}, {"step": 3}]}, "its history is not one of 3 steps"),
        ({"rows": [{"step": 3, "loss": "low"}]}, "its history holds other things than numbers"),
        ({"key": [1.0]}, "it does not say how good its best weights are"),
        ({"key": [1.0, torch.inf]}, "it does not say how good its best weights are"),
    ],
)
def test_a_checkpoint_that_somebody_changed_is_refused(trained, data, kept, change, said):
    memory = Memory()
    memory.state = {**copy.deepcopy(kept), **change}
    with pytest.raises(RunError, match=f"holds no training: {said}; delete it to begin anew"):
        fine_tune(trained, GradCAM("stage3"), Location(), data, THREE, checkpoint=memory)


def _without(key):
    return lambda state: {**state, "weights": {name: value for name, value in state["weights"].items() if name != key}}


def _moments(change):
    def changed(state):
        moments = copy.deepcopy(state["optimizer"]["state"])
        change(moments)
        return {**state, "optimizer": {**state["optimizer"], "state": moments}}

    return changed


@pytest.mark.parametrize(
    "changed",
    [
        _without("network.head.bias"),
        _moments(lambda moments: moments.update({99: moments[0]})),
        _moments(lambda moments: moments[0].pop("exp_avg")),
        _moments(lambda moments: moments[0]["exp_avg"].fill_(torch.nan)),
        _moments(lambda moments: moments[0].update(exp_avg=torch.zeros(2))),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(trained, data, kept, changed):
    memory = Memory()
    memory.state = changed(copy.deepcopy(kept))
    with pytest.raises(RunError, match="holds the weights of another model; delete it to begin anew"):
        fine_tune(trained, GradCAM("stage3"), Location(), data, THREE, checkpoint=memory)


def test_a_file_that_is_no_training_is_refused(tmp_path):
    file = FileCheckpoint(tmp_path / "checkpoint.pt")
    assert file.load() is None
    file.save({"step": 3})
    assert file.load() == {"step": 3}
    torch.save([1], file.path)
    with pytest.raises(RunError, match=r"checkpoint\.pt holds no training, but list; delete it to begin anew"):
        file.load()
    file.path.write_bytes(b"torn")
    with pytest.raises(RunError, match=r"checkpoint\.pt .*; delete it to begin anew"):
        file.load()


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (torch.rand(3, 16, 16), torch.zeros(3), r"must be a batch .* got \[3, 16, 16\]"),
        (torch.rand(0, 3, 16, 16), torch.zeros(0), r"of at least 1, got \[0, 3, 16, 16\]"),
        (
            torch.rand(4, 3, 16, 16),
            torch.zeros(3, dtype=torch.long),
            r"one whole number per image as label, \[4\], got \[3\]",
        ),
        (torch.rand(4, 3, 16, 16), torch.zeros(4), r"got \[4\] of float32"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_told(images, labels, said):
    with pytest.raises(InputError, match=said):
        TensorFeed(images, labels)


def test_what_cannot_be_trained_is_told(trained, data):
    with pytest.raises(InputError, match="the margin is a share of the bound, from 0 to 1, got 1"):
        FineTune(margin=1)
    with pytest.raises(InputError, match="a batch of 4 images cannot be parted among 1 processes and 8 parts"):
        fine_tune(trained, GradCAM("stage3"), Location(), data, FineTune(batch_size=4, accumulate=8))
    with pytest.raises(InputError, match="held-out images are needed to measure accuracy and success"):
        fine_tune(trained, GradCAM("stage3"), Location(), Endless(*data), QUICK)


class Endless:
    """A feed of one's own, which nobody can part."""

    def __init__(self, images, labels):
        self.inner = TensorFeed(images, labels)

        self.ids, self.labels, self.fixed = self.inner.ids, labels, True

    def __len__(self):
        return len(self.inner)

    def stream(self, *given):
        return self.inner.stream(*given)

    def ordered(self, batch_size):
        return self.inner.ordered(batch_size)
