"""docs/methods/audit.md says what the audit does: which numbers decide, by which limits, and of which population."""

import re
from pathlib import Path

import pytest

from heatproof.commands.audit import (
    called_out,
    covering,
    faithfulness,
    measure,
    mosaic,
    numbers,
    own_reference,
    permutation,
    plan,
    premises,
    scope,
    shipped,
    singled_out,
    verdict,
)
from heatproof.commands.audit.questions import NUMBERS
from heatproof.commands.audit.uninformative import uninformative
from heatproof.commands.audit.verdict import Thresholds
from heatproof.data.mosaics import FEWEST_TILES

PAGE = " ".join((Path(__file__).parents[2] / "docs/methods/audit.md").read_text().split())


def test_the_numbers_that_decide_are_those_of_the_code() -> None:
    told = re.search(r"Those that decide: (.*?)\. The others \((.*?)\)", PAGE)
    assert told is not None
    named = [set(re.findall(r"`(\w+)`", part)) for part in told.groups()]
    decide = {name for name, about in NUMBERS.items() if about.decides}
    assert named == [decide, NUMBERS.keys() - decide]


def test_the_population_is_that_of_the_shipped_thresholds() -> None:
    known = Thresholds.shipped().provenance
    sizes = [f"{count} networks at {size} pixels" for size, count in known["sizes"].items() if count == 29]
    rest = [f"{count} at {size} pixels" for size, count in known["sizes"].items() if count != 29]
    told = (
        f"`{known['explainer']}` at the default layer, a budget of {known['budget']}, {sizes[0]}, {' and '.join(rest)}"
    )
    assert told in PAGE
    assert sum(known["sizes"].values()) == len(known["networks"])


def test_the_populations_of_other_explainers_are_those_of_the_package() -> None:
    rows = dict(re.findall(r"\| `(\w+)\(\)` \| (\d+ \| \d+ at 32 pixels, [^|]* \| [^|]*) \|", PAGE))
    assert rows.keys() == shipped.POPULATIONS.keys() - {"gradcam"}
    for name, told in rows.items():
        found = shipped.thresholds_of(name)
        silent = uninformative(found)
        known = [number for number in found.limits if number not in silent] + ["called_out"]
        decide = [
            number for number, about in NUMBERS.items() if about.decides and about.check not in ("reference", "self")
        ]
        sizes = ", ".join(f"{count} at {size} pixels" for size, count in found.provenance["sizes"].items())
        numbers = ", ".join(f"`{number}`" for number in decide if number in known)
        assert told == f"{found.provenance['budget']} | {sizes} | {numbers}"


@pytest.mark.parametrize(
    "told",
    [
        f"doubtful beyond {verdict.DOUBT} u on the bad side, and fails beyond {verdict.FAIL} u",
        f"fails only where `share` is below {verdict.LITTLE_SHARE}, and is doubtful only below {verdict.SOME_SHARE}",
        f"where its whole interval lies below {verdict.NO_SHARE}",
        f"the witness gains less than {premises.LEAST_GAIN} over random",
        f"there the witness must gain {premises.LEAST_ODDS}",
        f"Where the mean confidence is {premises.SATURATED} or more",
        f"more than {premises.ONE_CLASS:.0%} of the photos are labelled as one class and of no other there are five",
        f"a photo whose probability is above {measure.SURE} and falls by less than {measure.STILL}",
        f"more than {called_out.APART:g} robust deviations below the median",
        f"must lie above {called_out.RATE:.0%} to be doubtful",
        f"have an interval above {called_out.FAILING:.0%}. Fewer than {called_out.PHOTOS} photos",
        f"at most {mosaic.PHOTOS} photos, spread evenly over the data, and of classes that at least five",
        f"`--budget` ({measure.Audit().budget} by default)",
        f"all checks together: {plan.OVERHEAD} for the map",
        f"The witness gets what the maps leave, at least {covering.FEWEST} questions.",
        f"Where c is at most {plan.AFFORDED} the map is made under the middle squares",
        f"maps under at least {plan.ALONG[-1]} x {plan.ALONG[-1]} squares (at most {plan.ALONG[0]} x {plan.ALONG[0]})",
        f"trust** = pooled agreement - {covering.JUMP} jump - {covering.UNSEEN:g} unseen",
        "with fewer than 5 classes",
        f"`hidden_place` is not judged with fewer than {numbers.PHOTOS_OF_PLACES} photos",
        f"is permuted {permutation.DRAWS} times",
        f"with others' at p of {verdict.CERTAIN} or less",
        f"of those with at least {singled_out.FEWEST} photos, each drawn",
        f"to the mean of all as if that had been seen {singled_out.PRIOR} times more",
        f"`truth()`, {own_reference.STEPS} steps, on the audited photos",
        f"at most {own_reference.BUDGET:.0%} of the accuracy",
        f"at least {own_reference.FEWEST} photos, one process",
        "33 to 73 and 33 to 196 passes",
        f"there are fewer than {verdict.FEWEST} photos",
    ],
)  # fmt: skip
def test_limits_are_those_of_the_code(told: str) -> None:
    assert told in PAGE


def test_the_least_deviations_are_those_of_the_code() -> None:
    wide = {name: about.least for name, about in NUMBERS.items() if about.least != 0.02 and about.check != "reference"}
    assert f"those that were: {', '.join(f'`{name}` {least:g}' for name, least in wide.items())}. These" in PAGE
    own = [about.least for about in NUMBERS.values() if about.check == "reference"]
    assert f"{min(own):g} to {max(own):g} for those against a reference" in PAGE


def test_what_is_told_in_words() -> None:
    assert (FEWEST_TILES, premises.OTHERS, scope.CALIBRATING) == (5, 5, 3)
    assert scope.NEAR_SIZE == 2
    budget = Thresholds.shipped().provenance["budget"]
    assert (round(budget / scope.NEAR_BUDGET), int(budget * scope.NEAR_BUDGET)) == (33, 73)
    assert budget * scope.MOVING["all_classes"] == 196
    assert faithfulness.LEVELS == (0.1, 0.25, 0.5)
    few = re.search(r"The limits of (.*?) rest on few networks", PAGE)
    assert few is not None
    assert set(re.findall(r"`(\w+)`", few[1])) == set(Thresholds.shipped().provenance["few"])
    for name, word in verdict.WORDS.items():
        assert f"| {word} | {name} |" in PAGE
