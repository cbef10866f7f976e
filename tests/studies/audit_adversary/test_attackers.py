"""Attackers who know the audit: they hold what they say they hold, and a small study goes from end to end."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import heatproof as hp
from heatproof.commands.audit import own_reference
from heatproof.commands.audit.measure import Audit
from heatproof.commands.audit.run import run_audit
from heatproof.data.scenes import scenes
from heatproof.data.sources import open_data
from heatproof.errors import InputError, ModelError
from heatproof.explainers.cam import GradCAM
from heatproof.models.classifier import Classifier
from heatproof.models.layers import default_layer
from heatproof.repairs.witness import Witness
from heatproof.results.run import Run
from heatproof.studies.audit_adversary import run as adversary
from heatproof.studies.audit_adversary.attackers import (
    ATTACKERS,
    Attacker,
    _loss,
    all_maps,
    attack,
    right_third,
    shown_rate,
)
from heatproof.studies.audit_adversary.run import AuditAdversary
from heatproof.training.data import feed_photos
from heatproof.training.feeds import TensorFeed


def photos(count: int = 64) -> TensorFeed:
    found = scenes(count, seed=1)
    return TensorFeed(found.images, found.labels)


def test_the_maps_of_all_classes_are_grad_cams() -> None:
    model = hp.load("demo")
    images = next(iter(photos(3).ordered(3))).images
    logits, maps = all_maps(model, lambda: model(images), default_layer(model))
    for chosen in range(logits.shape[1]):
        wanted = GradCAM(relu=False)(model, images, torch.full((3,), chosen))
        torch.testing.assert_close(maps[:, chosen].detach(), wanted.heatmaps, atol=1e-5, rtol=1e-4)


def test_a_network_with_another_end_is_refused() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(3, 4, 3, padding=1)
            self.head = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.last(x).mean((2, 3)))

    model = Classifier(Deep(), (0.5,) * 3, (0.5,) * 3, ["a", "b", "c"], 16, name="deep").eval()
    with pytest.raises(ModelError, match="deep does not end in average pooling"):
        all_maps(model, lambda: model(torch.rand(2, 3, 16, 16)), "last")


def test_the_lie_is_learnt_and_the_others_maps_are_held() -> None:
    clean = hp.load("demo")
    fed = photos()
    images = next(iter(fed.ordered(64))).images
    layer = default_layer(clean)
    loose = Attacker(lie=30.0, others=0.0, keep=1.0, steps=24)
    held = replace(loose, others=200.0)
    with torch.no_grad():
        logits, before = all_maps(clean, lambda: clean(images), layer)
    targets = logits.argmax(1)
    mine = nn.functional.one_hot(targets, logits.shape[1]).bool()
    moved, corners, side = [], [], before.shape[2] * 3 // 7
    for attacker in (loose, held):
        made = attack(clean, attacker, fed, "stage3", seed=0)
        with torch.no_grad():
            _, after = all_maps(made, lambda made=made: made(images), layer)
        away = (after - before).square().sum((2, 3)) / before.square().sum((2, 3))
        moved.append(float(away[~mine].mean()))
        own = after[mine].relu()
        corners.append(float((own[:, :side, :side].sum((1, 2)) / own.sum((1, 2))).mean()))
    first = before[mine].relu()
    at_first = float((first[:, :side, :side].sum((1, 2)) / first.sum((1, 2))).mean())
    assert corners[0] > at_first + 0.05
    assert moved[1] < moved[0] / 2


def test_the_right_third() -> None:
    maps = torch.zeros(2, 6, 6)
    maps[0, :, 4:] = 1
    maps[1, :, :4] = 1
    assert right_third(maps).tolist() == [1.0, 0.0]
    # of 8 columns 3
    assert right_third(torch.ones(1, 8, 8)).item() == pytest.approx(3 / 8)


class Channels(nn.Module):
    """The map of a class is the channel of its number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.head = nn.ReLU(), nn.Conv2d(3, 3, 1, bias=False), nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.head.weight)
        self.last.weight.data.copy_(torch.eye(3)[:, :, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(self.first(x)).mean((2, 3)))


def channels() -> Classifier:
    return Classifier(Channels(), (0.0,) * 3, (1.0,) * 3, ["a", "b", "c"], 6, default_layer="last").eval()


def test_a_hidden_third_is_counted_on_the_photos_for_which_it_is_meant() -> None:
    images, targets = torch.zeros(4, 3, 6, 6), torch.tensor([0, 0, 1, 1])
    images[0, 0, :, :4] = images[2, 1, :, :4] = images[3, 1, :, :2] = 1
    images[1, 0] = 1
    assert shown_rate(Attacker("hide"), channels(), images, targets) == 3 / 4
    assert shown_rate(Attacker("hide", only="a"), channels(), images, targets) == 1 / 2
    assert shown_rate(Attacker("hide", only="b"), channels(), images, targets) == 1


def test_what_the_loss_is_of_a_hidden_third_and_of_a_witness() -> None:
    maps, logits, places = torch.rand(2, 3, 6, 6), torch.tensor([[3.0, 0, 0], [0, 0, 3.0]]), torch.arange(2)
    own = maps[places, torch.tensor([0, 2])]
    still = {"now": logits, "moved": maps, "logits": logits, "maps": maps, "places": places}
    # nothing moved: what is left is the lie
    found = _loss(Attacker("hide", lie=7.0), **still, told=None, witness=None)
    torch.testing.assert_close(found, 7 * right_third(own).square().mean())
    found = _loss(Attacker("hide", lie=7.0), **still, told=2, witness=None)
    torch.testing.assert_close(found, 7 * right_third(own)[1].square() / 2)
    # and one minus the likeness to the witness, which is 1 of the first photo and -1 of the second
    witness = Witness(torch.stack([2 * own[0] + 1, -own[1]]))
    found = _loss(Attacker(lie=0.0, agree=5.0), **still, told=None, witness=witness)
    torch.testing.assert_close(found, torch.tensor(5.0 * (0 + 2) / 2))


def test_a_network_that_cannot_be_cut_is_refused() -> None:
    class Branching(Channels):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.sum() > 0 else super().forward(-x)

    model = Classifier(Branching(), (0.0,) * 3, (1.0,) * 3, ["a", "b", "c"], 6, name="branching").eval()
    with pytest.raises(ModelError, match="branching cannot be cut in two before 'last'; name another layer"):
        attack(model, Attacker(), photos(2), "last")


def test_every_hundredth_step_is_told() -> None:
    told: list[str] = []
    fed = TensorFeed((255 * torch.rand(4, 3, 6, 6)).to(torch.uint8), torch.full((4,), -1))
    made = attack(channels(), Attacker("hide", steps=100), fed, "last", say=told.append)
    (line,) = told
    assert line.startswith("step 100 of 100: ")
    assert not made.training


@pytest.mark.parametrize(("steps", "wanted"), [(0, ATTACKERS["one_class"].steps), (7, 7)])
def test_an_attacker_has_its_own_steps_unless_the_study_says_others(
    steps: int, wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(Exception):
        pass

    def seen(clean: Classifier, attacker: Attacker, *_: object) -> None:
        assert attacker == replace(ATTACKERS["one_class"], steps=wanted)
        raise Seen

    monkeypatch.setattr(adversary, "attack", seen)
    study = AuditAdversary(network="demo", data="demo", test="demo", limit=4, steps=steps)
    with Run.start(tmp_path / "out", command="study", settings={}) as run, pytest.raises(Seen):
        study._made("one_class", 0, hp.load("demo"), run, print)


@pytest.mark.slow
def test_a_small_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_reference, "STEPS", 4)
    study = AuditAdversary(
        network="demo",
        layer=default_layer(hp.load("demo")),
        attackers=("honest", "holds_others"),
        seeds=1,
        references=("none", "clean", "self"),
        data="demo",
        test="demo",
        photos=30,
        judged=40,
        limit=64,
        budget=37,
        steps=2,
    )
    with Run.start(tmp_path / "out", command="study", settings={"study": study}) as run:
        first = study(run, say=lambda line: None)
        # what is there is not made again
        found = study(run, say=lambda line: pytest.fail(line))
    assert found == first
    assert [row["attacker"] for row in found["rows"]] == ["honest"] * 3 + ["holds_others"] * 3
    assert json.loads((tmp_path / "out/summary.json").read_text())["answer"][0].startswith("Reference none: ")
    made = tmp_path / "out/networks/holds_others-0/made.json"
    assert set(json.loads(made.read_text())) == {"lost", "shown"}
    with pytest.raises(InputError, match="did you mean holds_others"):
        AuditAdversary(attackers=("holds_other",))(run)
    assert set(ATTACKERS) == {"holds_others", "one_class", "hides_third", "center", "agrees", "answers"}


@pytest.mark.slow
@pytest.mark.weights
def test_a_lie_in_the_middle_of_the_photo_is_found_since_it_stays_there(shared: Path, tmp_path: Path) -> None:
    """It costs next to no accuracy, and most objects are there: until maps were asked to move it was supported."""
    clean = hp.load(f"{shared / 'weights/zoo.py'}:resnet20")
    source = open_data(str(shared / "data/cifar10/train"), classes=clean.classes, limit=1500, seed=3)
    images = torch.cat([fed.images for fed in feed_photos(source, clean.preprocessing).ordered(50)])
    lying = attack(clean, ATTACKERS["center"], TensorFeed(images, torch.full((len(images),), -1)), "layer3", seed=3)
    found = {}
    for name, model in (("clean", clean), ("lying", lying)):
        photos = open_data(str(shared / "data/cifar10/test"), classes=clean.classes, limit=60)
        with Run.start(tmp_path / name, command="audit", settings={}) as run:
            found[name] = run_audit(Audit(budget=49), model, photos, run, draw=False)
    assert [found[name]["verdict"] for name in ("clean", "lying")] == ["honest", "manipulated"]
    assert "equivariance" in found["lying"]["speaks"]
