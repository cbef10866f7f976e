"""How long the board will take, told before it begins: a map and a step of an attack of every row are rehearsed."""

from collections.abc import Sequence
from dataclasses import replace

from heatproof.attacks.gradient import PGD
from heatproof.commands.effort import NOTHING, Effort, noise, planned, timed
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.studies.board.lies import LIES
from heatproof.studies.board.unit import Unit, goal_of
from heatproof.training.feeds import TensorFeed
from heatproof.training.settings import FineTune

FEWEST = 8
"""Photos from which on it is rehearsed: of fewer, the rehearsal would be much of the work."""


def effort_of(unit: Unit, columns: Sequence[str], seeds: int) -> Effort:
    """What a row takes, by as many photos of noise as it has at once."""
    model, hardware, explainer = unit.model, unit.hardware, unit.explainer(0)
    count = min(unit.at_once, len(unit.images))
    photos, share = hardware.bring(noise(model, count).images), 1 / count
    # what is done once for a network does not count
    shape = explainer(model, photos).heatmaps
    one = timed(model, hardware, lambda: explainer(model, photos)) * share
    attack = PGD(unit.budgets.epsilon, 1)
    stepped = timed(model, hardware, lambda: attack(goal_of(model, explainer), photos)) * share
    # an attack begins and ends with a map, and looks at one in every step
    step = Effort(max(stepped.seconds - 2 * one.seconds, 0.0), max(stepped.passes - 2 * one.passes, 0.0))
    asked = planned(model, 1, hardware)
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
    if "fooled_knowing" in columns and unit.lies.reaches(unit.opened, explainer, shape):
        step = _trained(unit, unit.lies.recipe(unit.opened, explainer, unit.lies.asked.lies[0]))
        # where photos are mirrored the layers that are not trained are asked anew
        each = step + asked if unit.opened.small else step
        fooling = unit.lies.asked
        steps = fooling.steps if unit.opened.small else fooling.large_steps
        total += each * (steps * fooling.batch_size * len(fooling.lies) * seeds)
    return total


def _trained(unit: Unit, recipe: FineTune) -> Effort:
    """What a photo takes in a training: of two short ones the longer, less the shorter."""
    # as large as its own steps, as far as a rehearsal bears
    many, few = min(recipe.batch_size, 64 if unit.opened.small else 8), 3
    photos = noise(unit.model, many)
    feed = TensorFeed(photos.images, photos.labels)

    def train(steps: int) -> Effort:
        own = replace(recipe, steps=steps, batch_size=many, evaluate_every=steps, augment=None, max_accuracy_drop=1.0)
        explainer, penalty = unit.explainer(0), LIES[unit.lies.asked.lies[0]]
        return timed(
            unit.model, unit.hardware, lambda: fine_tune(unit.model, explainer, penalty, feed, own, held_out=feed)
        )

    short, long = train(1), train(1 + few)
    return Effort(max(long.seconds - short.seconds, 0.0), 3.0 * many * few) * (1 / (many * few))


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
