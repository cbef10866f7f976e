"""Settings of a shift that make no sense are named."""

import pytest

from heatproof.attacks.gradient import FGSM
from heatproof.commands.shift.measure import Shift
from heatproof.errors import InputError


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"attacks": ()}, "at least one attack and one explainer"),
        ({"attacks": (print,)}, "an attack needs a field epsilon"),
        ({"attacks": (FGSM(), FGSM(0.2))}, r"FGSM\(\) at 0.01 was asked for twice"),
        ({"explain": "truth"}, "explain is one of clean, adversarial, label, got 'truth'"),
        ({"normalisation": "sum"}, "normalisation is max or minmax, got 'sum'"),
        ({"part": 0}, "a part has at least 1 photo, got 0"),
        ({"epsilons": (8.0,)}, "looks like grey levels of 0..255; write 8/255"),
    ],
)
def test_what_makes_no_sense_is_named(given: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        Shift(**given)
