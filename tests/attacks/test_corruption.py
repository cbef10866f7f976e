"""Corruptions without the package: what is asked of it, and what is said where it is missing."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from heatproof.attacks.corruption import Corruption
from heatproof.commands.shift.measure import Shift, attack_name, attacked
from heatproof.errors import HeatproofError
from heatproof.models.hardware import Hardware
from networks import small


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What the package was asked; it darkens by a tenth for each severity, and draws a number."""
    calls: list[tuple] = []

    def corrupt(image, severity, corruption_name, **more):
        calls.append((image.shape, image.dtype, severity, corruption_name, more, float(np.random.rand())))  # noqa: NPY002
        return (image * (1 - severity / 10)).astype(np.uint8)

    monkeypatch.setitem(sys.modules, "imagecorruptions", SimpleNamespace(corrupt=corrupt))
    return calls


def test_each_image_is_asked_for_alone_with_the_same_draws(asked: list[tuple]) -> None:
    images = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    np.random.seed(5)  # noqa: NPY002
    made = Corruption("fog", 3, seed=2)(None, images)
    assert np.random.rand() == np.random.RandomState(5).rand()  # noqa: NPY002
    expected = ((images * 255).round() * 0.7).floor() / 255
    torch.testing.assert_close(made, expected, rtol=0, atol=1 / 255 + 1e-6)
    draw = np.random.RandomState(2).rand()
    assert asked == [((32, 40, 3), np.dtype(np.uint8), 3, "fog", {}, draw)] * 2
    Corruption("impulse_noise", 1, seed=7)(None, images[:1])
    assert asked[-1][4] == {"seed": 7}


def test_severities_stand_where_epsilons_do(asked: list[tuple]) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = small(size=32, dtype=torch.float32)
    settings = Shift(attacks=(Corruption("snow"),), epsilons=(0.1,))
    clean, *corrupted = attacked(settings, model, images, torch.zeros(2, dtype=torch.long), Hardware("cpu"))
    assert [one.epsilon for one in corrupted] == [1, 2, 3, 4, 5]
    assert {one.attack for one in corrupted} == {"Corruption(kind='snow')"} == {attack_name(Corruption("snow", 2))}
    assert torch.equal(clean.images, images)
    changes = [float((one.images - images).abs().mean()) for one in corrupted]
    assert changes == sorted(changes)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda images: Corruption("smoke"), "no corruption 'smoke'"),
        (lambda images: Corruption("fog", 6), "a severity is one of"),
        (lambda images: Corruption("fog")(None, images), "which severity"),
        (lambda images: Corruption("fog", 1)(None, images[..., :20]), "at least 32 pixels"),
    ],
)
def test_what_it_cannot_do_is_said(asked: list[tuple], wrong, words: str) -> None:
    with pytest.raises(HeatproofError, match=words):
        wrong(torch.rand(1, 3, 40, 40))


def test_without_the_package_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(HeatproofError, match=r"pip install heatproof\[corruptions\]"):
        Corruption("fog", 1)(None, torch.rand(1, 3, 40, 40))


def test_grey_photos_stay_grey(asked: list[tuple]) -> None:
    assert Corruption("fog", 1)(None, torch.rand(1, 1, 40, 40)).shape == (1, 1, 40, 40)
