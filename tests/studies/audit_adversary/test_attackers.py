"""Attackers who know the audit: they hold what they say they hold, and a small study goes from end to end."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import heatproof as hp
from heatproof.commands.audit import own_reference
from heatproof.data.scenes import scenes
from heatproof.errors import InputError, ModelError
from heatproof.explainers.cam import GradCAM
from heatproof.models.classifier import Classifier
from heatproof.models.layers import default_layer
from heatproof.results.run import Run
from heatproof.studies.audit_adversary.attackers import ATTACKERS, Attacker, all_maps, attack, right_third
from heatproof.studies.audit_adversary.run import AuditAdversary
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
        budget=33,
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
    assert set(ATTACKERS) == {"holds_others", "one_class", "hides_third", "center", "agrees"}
