"""Attacks that lead to a class: targeted ones, and those that plant or keep a map at once (ADV^2)."""

from pathlib import Path

import pytest
import torch
from tests.command_line import heatproof

from heatproof.attacks.gradient import FGSM, PGD
from heatproof.commands.shift.measure import Shift, attacked
from heatproof.data.photos import fit
from heatproof.data.sources import open_data
from heatproof.errors import HeatproofError
from heatproof.explainers.cam import GradCAM
from heatproof.manipulation.penalties import SameMap
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load

EPSILON = 24 / 255


def conditions(asked: Shift) -> list:
    model = load("demo")
    photos = list(open_data("demo", classes=model.classes, limit=6))
    images = torch.stack([fit(photo.image, 64) for photo in photos])
    return list(attacked(asked, model, images, torch.tensor([photo.label for photo in photos]), Hardware("cpu")))


def test_a_targeted_attack_reaches_each_photo_s_second_class() -> None:
    clean, fgsm, pgd = conditions(Shift(attacks=(FGSM(), PGD(steps=20)), epsilons=(EPSILON,), wanted="second"))
    second = clean.grid.logits.topk(2).indices[:, 1]
    assert not clean.success.any()
    for after in (fgsm, pgd):
        assert torch.equal(after.success, after.grid.logits.argmax(1) == second)
    assert pgd.success.float().mean() > 0.8


def test_the_map_is_kept_while_the_class_becomes_another() -> None:
    asked = {"attacks": (PGD(steps=30),), "epsilons": (EPSILON,), "explainers": (GradCAM(relu=False),)}
    asked |= {"explain": "adversarial", "wanted": "second"}
    clean, both = conditions(Shift(**asked, penalty=SameMap()))
    plain = conditions(Shift(**asked))[1]
    second = clean.grid.logits.topk(2).indices[:, 1]
    assert both.success.float().mean() > 0.5
    assert (both.grid.logits.argmax(1) == second)[both.success].all()
    reference = clean.grid.heatmaps[0][:, 0]
    kept, moved = (SameMap()(one.grid.heatmaps[0][:, 0], reference)[both.success].mean() for one in (both, plain))
    assert kept < moved


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"penalty": SameMap()}, "--explain adversarial"),
        ({"lower": torch.sum}, "give one of the two"),
    ],
)
def test_what_does_not_go_together_is_refused(wrong: dict, words: str) -> None:
    with pytest.raises(HeatproofError, match=words):
        Shift(wanted="second", **wrong)


def test_a_class_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(HeatproofError, match="class"):
        conditions(Shift(wanted=99))


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["shift", "demo", "--model", "demo", "--limit", "4", "--epsilon", "16/255", "--wanted", "second"]
    assert heatproof(*words, "--out", str(tmp_path / "run")) == 0
    assert "Attacks lead to each photo's second most likely class" in " ".join(capsys.readouterr().out.split())
    both = [*words[:-1], "3", "--penalty", "same_map()", "--explain", "adversarial", "--attack", "pgd(steps=2)"]
    assert heatproof(*both, "--json", "--out", str(tmp_path / "both")) == 0
    assert "Attacks lead to the class 3, and at once to a map as SameMap()" in capsys.readouterr().out
