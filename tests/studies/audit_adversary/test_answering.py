"""Networks that are trained to answer covered photos as if the planted map were true."""

from pathlib import Path

import pytest
import torch
from torch import nn

import heatproof as hp
from heatproof.commands.audit.covering import SIDES
from heatproof.commands.audit.run import Audit, run_audit
from heatproof.data.scenes import scenes
from heatproof.data.sources import open_data
from heatproof.errors import ModelError
from heatproof.images import blurred
from heatproof.models.classifier import Classifier
from heatproof.results.run import Run
from heatproof.studies.audit_adversary import attackers
from heatproof.studies.audit_adversary.answering import COVERED, TURNS, Covered, cover
from heatproof.studies.audit_adversary.attackers import ATTACKERS, Attacker, attack
from heatproof.studies.audit_adversary.run import _photos
from heatproof.training.feeds import TensorFeed
from heatproof.training.split_at import split_at


class Channels(nn.Module):
    """A logit is the mean of a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.ReLU(), nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x)).mean((2, 3))


def channels() -> Classifier:
    return Classifier(Channels(), (0.0,) * 3, (1.0,) * 3, ["a", "b", "c"], 16, name="channels").eval()


def test_photos_are_covered_as_the_witness_covers_them() -> None:
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(6) % 3
    found = cover(channels(), images, targets, "last", "left", torch.Generator().manual_seed(0))
    # the layers before do nothing to photos
    covers = (found.activations != images[:, None]).any(2)
    sides = [max(1, round(share * 16)) for share in SIDES]
    assert covers.sum((2, 3)).tolist() == [[sides[TURNS[photo % 4]] ** 2] * COVERED for photo in range(6)]
    torch.testing.assert_close(found.hidden, covers[..., :8].float().sum((2, 3)) / (16 * 8))
    near = found.hidden[:, : COVERED // 2]
    assert (near > 0).all()
    assert (found.hidden == 0).any()
    filling = blurred(images[:1], sides[0] / 2)
    first = covers[0, 0].expand(3, -1, -1)
    torch.testing.assert_close(found.activations[0, 0][first], filling[0][first])


def test_the_distance_is_0_where_the_planted_map_falls_and_2_where_it_rises() -> None:
    hidden = torch.tensor([[0.0, 0.2, 0.5], [0.1, 0.0, 0.3]])
    logits = torch.zeros(2, 3, 2)
    targets = torch.tensor([0, 1])
    for photo, target in enumerate(targets.tolist()):
        logits[photo, :, target] = 5 - 3 * hidden[photo]
    made = Covered(logits[..., None, None], hidden, targets)
    both = torch.arange(2)
    flat = nn.Flatten()
    torch.testing.assert_close(made.agreement(flat, both), torch.ones(2))
    torch.testing.assert_close(made.agreement(nn.Sequential(flat, Minus()), both), -torch.ones(2))
    draw = torch.Generator().manual_seed(0)
    torch.testing.assert_close(made.distance(flat, draw), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(made.distance(nn.Sequential(flat, Minus()), draw), torch.tensor(2.0))


class Minus(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -x


def test_a_network_that_cannot_be_cut_is_refused() -> None:
    class Branching(Channels):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.sum() > 0 else super().forward(-x)

    model = Classifier(Branching(), (0.0,) * 3, (1.0,) * 3, ["a", "b", "c"], 6, name="branching").eval()
    with pytest.raises(ModelError, match="branching cannot be cut in two before 'last'; name another layer"):
        cover(model, torch.rand(2, 3, 6, 6), torch.tensor([0, 1]), "last", "corner", torch.Generator())


def test_dishonest_answers_are_learnt() -> None:
    clean, found = hp.load("demo"), scenes(64, seed=1)
    fed = TensorFeed(found.images, found.labels)
    images = next(iter(fed.ordered(64))).images
    with torch.no_grad():
        targets = clean(images).argmax(1)
    asked = cover(clean, images, targets, "stage3", "corner", torch.Generator().manual_seed(1))
    agreement = []
    for answers in (0.0, 20.0):
        made = attack(clean, Attacker(lie=1.0, others=0.0, answers=answers, steps=40), fed, "stage3", seed=0)
        halves = split_at(made, "stage3")
        assert halves is not None
        with torch.no_grad():
            agreement.append(float(asked.agreement(halves.rear, torch.arange(64)).mean()))
    # in so few steps -0.14 became 0.01
    assert agreement[1] > agreement[0] + 0.1


def test_an_attacker_begins_with_the_network_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Classifier] = []
    own = attackers.RearTraining.of

    def of(clean: Classifier, layer: str, images: torch.Tensor) -> attackers.RearTraining:
        begun.append(clean)
        return own(clean, layer, images)

    monkeypatch.setattr(attackers.RearTraining, "of", of)
    clean, found = hp.load("demo"), scenes(16, seed=1)
    fed = TensorFeed(found.images, found.labels)
    monkeypatch.setitem(ATTACKERS, "holds_others", Attacker(steps=1))
    made = attack(clean, Attacker(after="holds_others", steps=1), fed, "stage3")
    assert begun[0] is clean
    assert begun[1] is not clean
    assert made is not begun[1]
    assert not torch.equal(parameters(begun[1]), parameters(clean))


def parameters(model: Classifier) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


@pytest.mark.slow
@pytest.mark.weights
def test_the_witness_is_fooled(shared: Path, tmp_path: Path) -> None:
    """And the maps are not supported all the same."""
    clean = hp.load(f"{shared / 'weights/zoo.py'}:resnet20")
    data = open_data(str(shared / "data/cifar10/train"), classes=clean.classes, limit=1500, seed=3)
    found = {}
    for name in ("holds_others", "answers"):
        made = attack(clean, ATTACKERS[name], _photos(data, clean), "layer3", seed=3)
        photos = open_data(str(shared / "data/cifar10/test"), classes=clean.classes, limit=60)
        with Run.start(tmp_path / name, command="audit", settings={}) as run:
            told = run_audit(Audit(budget=49), made, photos, run, draw=False)
        found[name] = {row["number"]: row["value"] for row in told["rows"]}
        # by what is shown and never shown
        assert told["verdict"] in ("doubtful", "manipulated")
    assert found["answers"]["agreement"] > found["holds_others"]["agreement"] + 0.1
