"""The budgets of a shift's attacks: those that are asked for, an attack's own, or the usual four."""

import math
import warnings
from collections.abc import Sequence
from itertools import combinations

from heatproof.errors import InputError, Remark, callers_level
from heatproof.habits import typed
from heatproof.report.words import epsilon
from heatproof.types import Attack, BallAttack, GradedAttack

SAME = 1e-5
"""Relative difference up to which two budgets are one: 8/255 and 0.031373."""


def of_attacks(attacks: Sequence[Attack], asked: Sequence[float] | None, usual: Sequence[float]) -> tuple[float, ...]:
    """The epsilons for ``Shift``: empty where each attack keeps its own.

    Args:
        attacks: as they were given; one that was made with an epsilon, also the usual one, has its own.
        asked: the budgets that were asked for beside them.
        usual: where none were.

    Raises:
        InputError: an attack's own budget is not the one that is asked for, or only some of the attacks have one.
    """
    balls = [one for one in attacks if isinstance(one, BallAttack) and not isinstance(one, GradedAttack)]
    own = [one for one in balls if _has_own(one)]
    if asked:
        for one in own:
            if len(asked) > 1 or not same(one.epsilon, asked[0]):
                said = ", ".join(map(epsilon, asked))
                raise InputError(
                    f"{one!r} has epsilon {epsilon(one.epsilon)} of its own, and epsilon {said} is asked for beside "
                    "it: say it in one of the two places"
                )
        return tuple(asked)
    if not own:
        return tuple(usual)
    if len(own) < len(balls):
        without = next(one for one in balls if one not in own)
        raise InputError(
            f"{own[0]!r} has an epsilon of its own and {without!r} has none: give each attack one, or all the same "
            "with epsilon= (--epsilon)"
        )
    shown = ", ".join(dict.fromkeys(epsilon(one.epsilon) for one in own))
    warnings.warn(
        Remark(f"attacks are made at their own epsilon, {shown}; with epsilon= (--epsilon) at several"),
        stacklevel=callers_level(),
    )
    return ()


def _has_own(attack: BallAttack) -> bool:
    if "epsilon" in typed(attack):
        return True
    # of a user's own class it is not known what was typed
    usual = getattr(type(attack), "epsilon", attack.epsilon)
    return not same(attack.epsilon, usual)


def same(one: float, other: float) -> bool:
    """Whether two budgets are one but for rounding.

    >>> same(8 / 255, 0.031372549), same(8 / 255, 0.0314)
    (True, False)
    """
    return math.isclose(one, other, rel_tol=SAME, abs_tol=0)


def twice(levels: Sequence[float]) -> float | None:
    """A budget that is among them twice, to rounding."""
    return next((one for one, other in combinations(levels, 2) if same(one, other)), None)
