"""ImageNet-C through its package: severities in place of epsilons."""

import numpy as np
import pytest
import torch

from heatproof.attacks.corruption import KINDS, Corruption
from heatproof.commands.shift.measure import Shift, attack_name
from heatproof.errors import HeatproofError

pytestmark = pytest.mark.peers


@pytest.fixture
def photos() -> torch.Tensor:
    rows = torch.linspace(0, 1, 40)
    photo = torch.stack([rows[:, None].expand(40, 40), rows.expand(40, 40), (rows[:, None] * rows).sqrt()])
    return torch.stack([photo, photo.flip(2)])


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_package_s_on_eight_bits_and_stronger_with_its_severity(kind: str, photos: torch.Tensor) -> None:
    imagecorruptions = pytest.importorskip("imagecorruptions")
    np.random.seed(7)  # noqa: NPY002
    coming = np.random.RandomState(7).rand(3)
    made = [Corruption(kind, severity, seed=4)(None, photos) for severity in (1, 5)]
    assert np.array_equal(np.random.rand(3), coming)  # noqa: NPY002
    eight_bits = (photos[1] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    np.random.seed(4)  # noqa: NPY002
    seed = {"seed": 4} if kind in ("impulse_noise", "glass_blur") else {}
    theirs = imagecorruptions.corrupt(eight_bits, severity=5, corruption_name=kind, **seed)
    np.testing.assert_array_equal((made[1][1] * 255).round().permute(1, 2, 0).numpy(), theirs)
    changes = [(images - photos).square().mean() for images in made]
    assert 0 < changes[0] < changes[1]
    torch.testing.assert_close(Corruption(kind, 5, seed=4)(None, photos[1:]), made[1][1:], rtol=0, atol=0)
    assert made[1].min() >= 0
    assert made[1].max() <= 1


def test_all_severities_are_levels_of_one_attack() -> None:
    fog = Corruption("fog")
    asked = Shift(attacks=(fog, Corruption("snow", 3)), epsilons=(0.1,))
    assert [asked.levels(attack) for attack in asked.attacks] == [(1, 2, 3, 4, 5), (3,)]
    assert {attack_name(fog.at(level)) for level in fog.levels} == {"Corruption()"}
    assert attack_name(Corruption("snow", 3)) == "Corruption(kind='snow')"


def test_grey_photos_stay_grey(photos: torch.Tensor) -> None:
    assert Corruption("pixelate", 2)(None, photos[:, :1]).shape == (2, 1, 40, 40)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda photos: Corruption("smoke"), "no corruption 'smoke'"),
        (lambda photos: Corruption("fog", 6), "a severity is one of"),
        (lambda photos: Corruption("fog")(None, photos), "which severity"),
        (lambda photos: Corruption("fog", 1)(None, photos[..., :20]), "at least 32 pixels"),
        (lambda photos: Corruption("fog", 1)(None, photos[:, :2]), "2 channels"),
    ],
)
def test_what_it_cannot_do_is_said(wrong, words: str, photos: torch.Tensor) -> None:
    with pytest.raises(HeatproofError, match=words):
        wrong(photos)
