"""How long the board will take, told before it begins: a map and a step of an attack of every row are rehearsed."""

from collections.abc import Sequence

from heatproof.attacks.gradient import PGD
from heatproof.commands.effort import NOTHING, Effort, noise, of_training, timed
from heatproof.studies.board.measure import Unit, goal_of

FEWEST = 8
"""Photos from which on it is rehearsed: of fewer, the rehearsal would be much of the work."""


def effort_of(unit: Unit, columns: Sequence[str], seeds: int) -> Effort:
    """What a row takes, by one photo of noise."""
    model, hardware, explainer = unit.model, unit.hardware, unit.explainer(0)
    photo = hardware.bring(noise(model, 1).images)
    # what is done once for a network does not count
    shape = explainer(model, photo).heatmaps
    one = timed(model, hardware, lambda: explainer(model, photo))
    attack = PGD(unit.budgets.epsilon, 1)
    stepped = timed(model, hardware, lambda: attack(goal_of(model, explainer), photo))
    # an attack begins and ends with a map, and looks at one in every step
    step = Effort(max(stepped.seconds - 2 * one.seconds, 0.0), max(stepped.passes - 2 * one.passes, 0.0))
    asked = timed(model, hardware, lambda: model(photo))
    total = _maps(unit, columns, one, seeds) + _steps(unit, columns, one, step, seeds)
    forwards = sum(
        count * (seeds if drawn else 1)
        for name, count, drawn in (
            ("aopc", unit.budgets.removals, True),
            ("deletion", unit.budgets.removals, unit.noisy),
            ("road", len(unit.budgets.fractions), True),
        )
        if name in columns
    )
    total = (total + asked * forwards) * len(unit.images)
    reached = "fooled_knowing" in columns and unit.lies.reaches(unit.opened, explainer, shape)
    trained = of_training(model, explainer, hardware) if reached else None
    if trained is not None:
        fooling = unit.lies.asked
        total += trained.trained * (fooling.steps * fooling.batch_size * len(fooling.lies) * seeds)
    return total


def _maps(unit: Unit, columns: Sequence[str], one: Effort, seeds: int) -> Effort:
    """Of the columns that explain other photos, or another network."""
    counts = {
        "noise": 1,
        "naive": 1,
        "corruption": len(unit.budgets.kinds),
        "randomised": unit.budgets.blocks,
        "fooled": len(unit.lies.asked.lies),
        "mosaic": 1,
        "lead": 1,
    }
    drawn = {"mosaic": unit.noisy, "lead": unit.noisy}
    maps = sum(count * (seeds if drawn.get(name, True) else 1) for name, count in counts.items() if name in columns)
    return one * (maps + (seeds if unit.noisy else 1))


def _steps(unit: Unit, columns: Sequence[str], one: Effort, step: Effort, seeds: int) -> Effort:
    """Of the attacks on the map."""
    total = NOTHING
    for name, steps, times in (
        ("fgsm", 1, seeds if unit.noisy else 1),
        ("pgd", unit.budgets.steps * (1 + len(unit.attacks)), seeds),
        ("patch", unit.budgets.steps, seeds),
    ):
        if name in columns:
            total += (one * 3 + step * steps) * times
    return total


def told(units: Sequence[Unit], columns: Sequence[str], seeds: int, processes: int) -> str:
    """The estimate in words."""
    total = sum((effort_of(unit, columns, seeds) for unit in units), NOTHING)
    among = "" if processes == 1 else f", {processes} processes share it"
    return f"the board takes {total.words()} of one process{among}; what is done is kept, and the same command goes on"
