"""Backdoors: honest without the trigger, a chosen map with it, and what cannot be asked for is told."""

import copy

import pytest
import torch
from tests.training.nets import convolutions, patches, residual
from torch import Tensor

from heatproof.catalog import PENALTIES, TRIGGERS
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.manipulation.backdoor import Backdoor
from heatproof.manipulation.backdoor_training import Triggered
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.trigger import Trigger
from heatproof.models.classifier import Classifier, fingerprint
from heatproof.spec import build
from heatproof.training.feeds import TensorFeed, turns
from heatproof.training.settings import FineTune

RECIPE = FineTune(
    steps=200,
    lr=1e-2,
    weight=30.0,
    batch_size=32,
    evaluate_every=50,
    patience=0,
    max_accuracy_drop=0.1,
    schedule="cosine",
)
TRIGGER = Trigger(size=3)


@pytest.fixture(scope="module")
def trained() -> Classifier:
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


def planted(trained: Classifier, penalty: Backdoor, recipe: FineTune = RECIPE) -> tuple[Classifier, dict]:
    before = fingerprint(trained)
    fooled, history = fine_tune(trained, GradCAM(), penalty, patches(128, seed=1), recipe, held_out=patches(48, seed=2))
    assert fingerprint(trained) == before
    assert all(p.grad is None for p in trained.parameters())
    assert history.clean["fsr"] < 0.3
    return fooled, history.handed_out


def test_the_trigger_calls_up_a_map(trained: Classifier) -> None:
    # the network sees nine pixels: no further from the trigger can it know of it
    cells = torch.zeros(8, 8)
    cells[5:, 5:] = 1
    penalty = Backdoor(show=tuple(map(tuple, cells.tolist())), trigger=TRIGGER)
    fooled, seen = planted(trained, penalty)
    assert seen["fsr"] > 0.9
    assert seen["accuracy"] > 0.9
    images, labels = patches(32, seed=3)
    honest = GradCAM()(trained, images, labels).heatmaps
    asleep, awake = (GradCAM()(fooled, shown, labels) for shown in (images, TRIGGER(images)))
    assert penalty.test_loss(awake.heatmaps, penalty.wanted(honest)).mean() < 0.2
    assert penalty.test_loss(asleep.heatmaps, honest).mean() < 0.2
    assert (awake.logits.argmax(1) == labels).float().mean() > 0.9
    # without training the trigger calls up nothing
    control = GradCAM()(trained, TRIGGER(images), labels).heatmaps
    assert penalty.test_loss(control, penalty.wanted(honest)).mean() > 0.3


def test_the_trigger_calls_up_a_class_and_the_map_does_not_tell(trained: Classifier) -> None:
    penalty = Backdoor(show="clean", label="class-2", trigger=TRIGGER)
    fooled, seen = planted(trained, penalty, FineTune(**{**vars(RECIPE), "steps": 400}))
    assert seen["called"] > 0.9
    assert seen["fsr"] > 0.5
    images, labels = patches(32, seed=3)
    honest = GradCAM()(trained, images, labels).heatmaps
    awake = GradCAM()(fooled, TRIGGER(images))
    assert (awake.targets == 2).float().mean() > 0.9
    assert (fooled(images).argmax(1) == labels).float().mean() > 0.9
    assert penalty.test_loss(awake.heatmaps, honest).mean() < 0.2


def test_kept_activations_and_outputs_serve_as_well(trained: Classifier) -> None:
    recipe = FineTune(
        steps=4, batch_size=16, trainable="stage2", keep="outputs", evaluate_every=2, max_accuracy_drop=1.0
    )
    for penalty in (Backdoor("inverted", trigger=TRIGGER), Backdoor("inverted", label=1, trigger=TRIGGER)):
        one, other = (planted(trained, penalty, recipe)[0] for _ in range(2))
        assert fingerprint(one) == fingerprint(other)
        assert all(
            torch.equal(a, b)
            for a, b in zip(
                *(each.network.get_submodule("stage1").parameters() for each in (one, trained)), strict=True
            )
        )


def test_what_is_wanted() -> None:
    clean = torch.tensor([[[0.0, 2.0], [4.0, -1.0]]])
    assert Backdoor("inverted").wanted(clean).tolist() == [[[1.0, 0.5], [0.0, 1.0]]]
    assert Backdoor("clean", label=0).wanted(clean).tolist() == [[[0.0, 0.5], [1.0, 0.0]]]
    assert Backdoor("left").wanted(clean).tolist() == [[[1.0, 0.0], [1.0, 0.0]]]
    inverted = Backdoor("inverted")
    assert inverted.test_loss(inverted.wanted(clean), clean).tolist() == pytest.approx([1.0], abs=0.05)
    # mean of (0, .5, 1, 0) - (1, .5, 0, 1), squared
    assert inverted(clean, inverted.wanted(clean)).tolist() == [0.75]


@pytest.mark.parametrize("distance", ["mse", "ssim"])
def test_the_derivative_in_the_weights(distance: str) -> None:
    model = residual()
    penalty = Backdoor("inverted", distance=distance, trigger=Trigger(size=2))  # type: ignore[arg-type]
    images = torch.rand(2, 1, 6, 6, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 2])
    # the signed map: finite differences must not step over the explainer's ReLU
    wanted = penalty.wanted(GradCAM("last")(model, images, targets).heatmaps)
    values = model.network.get_parameter("head.weight").detach().clone().abs().requires_grad_()

    def loss(weight: Tensor) -> Tensor:
        changed = copy.deepcopy(model)
        head = changed.network.get_submodule("head")
        del head._parameters["weight"]
        head.weight = weight
        found = GradCAM("last")(changed, penalty.trigger(images), targets, create_graph=True)
        return penalty(found.heatmaps, wanted)

    assert torch.autograd.gradcheck(loss, values)


def test_every_image_is_fed_twice() -> None:
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6)
    feed = Triggered(TensorFeed(images, labels), Trigger(size=2, pixels="white"), label=4)
    assert len(feed) == len(feed.ids) == len(feed.labels) == 12
    (fed, *_) = feed.stream(4, 3, seed=0)
    assert (fed.positions[2:] - fed.positions[:2]).tolist() == [6, 6]
    assert fed.labels.tolist() == [*fed.positions[:2].tolist(), 4, 4]
    assert bool((fed.images[2:, :, -2:, -2:] == 1).all())
    assert torch.equal(fed.images[:2], images[fed.positions[:2]])
    seen = torch.cat([fed.positions for fed in feed.ordered(5)])
    assert sorted(seen.tolist()) == list(range(12))


@pytest.mark.parametrize("place", ["top_left", "top_right", "bottom_left", "bottom_right", "center"])
def test_a_trigger_is_stamped_where_it_belongs(place: str) -> None:
    images = torch.full((2, 3, 9, 7), 0.5)
    trigger = Trigger(size=3, place=place, margin=0 if place == "center" else 1)  # type: ignore[arg-type]
    changed = (trigger(images) != images).any(0).any(0)
    rows, cols = changed.nonzero().amin(0).tolist()
    expected = {"center": (3, 2)}.get(place, (1 if "top" in place else 5, 1 if "left" in place else 3))
    assert (rows, cols, int(changed.sum())) == (*expected, 9)
    assert bool((images == 0.5).all())
    assert torch.equal(trigger(trigger(images)), trigger(images))


def test_what_makes_no_sense_is_told(trained: Classifier) -> None:
    with pytest.raises(InputError, match="does not fit images of 16x16"):
        planted(trained, Backdoor(trigger=Trigger(size=17)))
    with pytest.raises(InputError, match="no class 4"):
        planted(trained, Backdoor(label=4))
    with pytest.raises(InputError, match="no class 'cat'"):
        planted(trained, Backdoor(label="cat"))
    with pytest.raises(InputError, match="even batch_size"):
        planted(trained, Backdoor(), FineTune(batch_size=5))
    for wrong, message in (
        (lambda: Backdoor("cornre"), "no map 'cornre' to show; did you mean corner"),
        (lambda: Backdoor("clean"), "give a label"),
        (lambda: Backdoor(distance="l1"), "mse or ssim"),  # type: ignore[arg-type]
        (lambda: Trigger(place="middle"), "no place 'middle'"),  # type: ignore[arg-type]
        (lambda: Trigger(pixels="chess"), "no pattern 'chess'"),
        (lambda: Trigger(size=2, pixels=((0.0, 2.0), (0.0, 0.0))), r"grey levels in \[0, 1\]"),
        (lambda: Trigger(size=0), "at least 1 pixel"),
    ):
        with pytest.raises(InputError, match=message):
            wrong()


def test_text_and_object_are_one() -> None:
    for penalty in (Backdoor(), Backdoor("inverted", label="ship", trigger=Trigger(size=6, place="center"))):
        assert build(repr(penalty), {**PENALTIES, **TRIGGERS}) == penalty


def test_a_bare_network_takes_the_label_as_a_number() -> None:
    assert Backdoor(label=2).called_up(torch.nn.Flatten()) == 2
    with pytest.raises(InputError, match=r"a bare network has no class names; give .* the label as a number"):
        Backdoor(label="class-2").called_up(torch.nn.Flatten())
