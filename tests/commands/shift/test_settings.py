"""Settings of a shift that make no sense are named."""

from dataclasses import dataclass

import pytest

from heatproof.attacks.gradient import FGSM, PGD
from heatproof.commands.shift.budgets import of_attacks
from heatproof.commands.shift.measure import Shift
from heatproof.errors import InputError, Remark
from heatproof.types import Attack, Images, Objective


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


@pytest.mark.parametrize("attacks", [(FGSM(epsilon=8 / 255),), (FGSM(8 / 255), PGD(epsilon=8 / 255))])
def test_an_attack_s_own_budget_counts_where_none_is_asked_for(attacks: tuple[Attack, ...]) -> None:
    """``PGD(epsilon=8/255)`` is the usual one, and typed all the same."""
    with pytest.warns(Remark, match="attacks are made at their own epsilon, 8/255"):
        budgets = of_attacks(attacks, None, Shift.epsilons)
    asked = Shift(attacks=attacks, epsilons=budgets)
    assert [asked.levels(attack) for attack in attacks] == [(8 / 255,)] * len(attacks)
    assert of_attacks(attacks, [0.031372549], Shift.epsilons) == (0.031372549,)
    for other in ([4 / 255], [8 / 255, 4 / 255]):
        with pytest.raises(InputError, match=r"epsilon 8/255 of its own, and epsilon .*4/255 is asked for beside it"):
            of_attacks(attacks, other, Shift.epsilons)


def test_without_an_own_budget_it_is_the_usual_ones_or_those_asked_for() -> None:
    assert of_attacks([FGSM(), PGD(steps=3)], None, Shift.epsilons) == (0.01, 0.05, 0.075, 0.1)
    assert of_attacks([FGSM(), PGD(steps=3)], [0.2, 0.1], Shift.epsilons) == (0.2, 0.1)
    with pytest.raises(InputError, match=r"FGSM\(epsilon=0.2\) has an epsilon of its own and PGD\(\) has none"):
        of_attacks([FGSM(0.2), PGD()], None, Shift.epsilons)


def test_a_user_s_own_attack_has_its_own_budget_where_it_is_not_the_usual_one() -> None:
    @dataclass(frozen=True)
    class Brighter:
        epsilon: float = 0.1

        def __call__(self, objective: Objective, images: Images) -> Images:
            return images

    assert of_attacks([Brighter()], None, (0.5,)) == (0.5,)
    with pytest.warns(Remark, match=r"own epsilon, 0\.2"):
        assert of_attacks([Brighter(0.2)], None, (0.5,)) == ()


def test_budgets_that_differ_by_rounding_are_one() -> None:
    with pytest.raises(InputError, match=r"FGSM\(\) at 8/255 was asked for twice"):
        Shift(epsilons=(8 / 255, 0.031372549))
    assert Shift(epsilons=(8 / 255, 0.0314)).epsilons == (8 / 255, 0.0314)
