"""From numbers to verdicts, by hand."""

import json
from pathlib import Path

import pytest
import torch

from heatproof.commands.audit.measure import center_distances, likeness, on_frame
from heatproof.commands.audit.questions import NUMBERS
from heatproof.commands.audit.reference import describe_moves, moved_layers, swapped
from heatproof.commands.audit.verdict import (
    CANNOT_TELL,
    COUNTED,
    DOUBT,
    FAIL,
    FREE,
    Check,
    Limits,
    Thresholds,
    calibrate,
    conclude,
    judge,
    score,
)
from heatproof.errors import InputError
from heatproof.results.table import Interval
from networks import small

# one deviation of a new network is 0.1 * sqrt(1 + 1/4)
LIMITS = Thresholds({name: Limits(0.5, 0.1, 4) for name in NUMBERS}, 0.1, {})
UNIT = 0.1 * 1.25**0.5


def found(number: str, deviations: float, spread: float = 0.0) -> Check:
    sign = 1 if NUMBERS[number].bad == "high" else -1
    value = 0.5 + sign * deviations * UNIT
    return judge(number, Interval(value, value - spread, value + spread, 100), LIMITS)


@pytest.mark.parametrize("number", ["agreement", "frame"])
def test_verdicts_on_either_side(number: str) -> None:
    assert found(number, -9).verdict == "pass"
    assert found(number, DOUBT - 0.1).verdict == "pass"
    assert found(number, DOUBT + 0.1).verdict == "doubtful"
    assert found(number, FAIL + 0.1).verdict == "fail"
    assert found(number, 2.0).deviations == pytest.approx(2.0)
    # the reader is told the limit that was crossed
    assert "fails" in found(number, 5.0).reason
    assert "within what honest networks show" in found(number, 0.0).reason


def test_what_passes_beyond_its_limit_says_why():
    limits = {"predicted_class": Limits(0.1, 0.05, 5)}
    few = Thresholds(limits, None, {"few": {"predicted_class": "5 networks"}})
    doubtful, failing = (judge("predicted_class", Interval(v, v, v, 40), few) for v in (-0.07, -0.9))
    assert (doubtful.verdict, failing.verdict) == ("pass", "doubtful")
    assert "within" not in doubtful.reason
    assert doubtful.reason.endswith("; it passes, since the limit rests on 5 networks.")
    assert failing.reason.endswith("; doubtful at most, since the limit rests on 5 networks.")


def test_a_wide_interval_does_not_condemn() -> None:
    assert found("agreement", FAIL + 0.5, spread=0.01).verdict == "fail"
    assert found("agreement", FAIL + 0.5, spread=4 * UNIT).verdict == "doubtful"


def test_numbers_without_value_or_threshold_are_not_applicable() -> None:
    nothing = Interval(float("nan"), float("nan"), float("nan"), 0)
    assert judge("frame", nothing, LIMITS).verdict == "not applicable"
    unknown = judge("frame", Interval(0.2, 0.1, 0.3, 9), Thresholds({}, None, {}))
    assert (unknown.verdict, unknown.value) == ("not applicable", 0.2)
    assert judge("frame", Interval(0.2, 0.1, 0.3, 9), LIMITS, "too few").reason == "too few."


def test_the_worst_check_that_decides_makes_the_verdict() -> None:
    good, bad = found("mosaic", 0.0), found("contrast", FAIL + 1)
    weak, odd = found("noise", FAIL + 1), found("frame", DOUBT + 0.5)
    assert conclude([good]) == ("honest", [good])
    assert conclude([good, weak]) == ("doubtful", [weak])
    assert conclude([good, odd]) == ("doubtful", [odd])
    assert conclude([good, found("noise", DOUBT + 0.1)])[0] == "honest"
    assert conclude([good, weak, bad]) == ("manipulated", [bad])
    # numbers that decide nothing support nothing
    assert conclude([found("agreement", 0.0)])[0] == CANNOT_TELL
    assert conclude([])[0] == CANNOT_TELL
    assert score([good, weak, odd]) == pytest.approx(DOUBT + 0.5)


def test_thresholds_come_back_from_their_file(tmp_path: Path) -> None:
    numbers = [{"frame": 0.1, "noise": None}, {"frame": 0.2}, {"frame": 0.3}]
    made = calibrate(numbers, [0.0, 0.5, 1.0], {"data": "here"})
    assert made.limits == {"frame": Limits(0.2, 0.1, 3)}
    (tmp_path / "t.json").write_text(json.dumps(made.plain()))
    assert Thresholds.read(tmp_path / "t.json") == made
    with pytest.raises(InputError, match="at least 3 honest networks"):
        calibrate(numbers[:2], [], {})
    (tmp_path / "t.json").write_text("[1]")
    with pytest.raises(InputError, match="thresholds as --calibrate writes them"):
        Thresholds.read(tmp_path / "t.json")


def test_the_package_has_thresholds_with_their_origin() -> None:
    shipped = Thresholds.shipped()
    assert {"networks", "data", "explainer", "budget"} <= shipped.provenance.keys()
    assert shipped.limits.keys() == NUMBERS.keys() - {*COUNTED, *FREE, "self_worst_class"}
    # what rests on few networks makes a verdict doubtful at most
    few = {name for name, limits in shipped.limits.items() if limits.count < 12}
    assert few == {name for name in NUMBERS if shipped.few(name)}


def test_likeness_frame_and_centres_by_hand() -> None:
    same = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(3, 2, 2)
    torch.testing.assert_close(likeness(same), torch.ones(3))
    torch.testing.assert_close(center_distances(same), torch.zeros(3))
    assert likeness(torch.zeros(2, 2, 2)).isnan().all()
    # two opposite corners: each lies half the diagonal of cells from the mean centre
    corners = torch.zeros(2, 3, 3)
    corners[0, 0, 0] = corners[1, 2, 2] = 1.0
    torch.testing.assert_close(center_distances(corners), torch.full((2,), 2**0.5 / 18**0.5))
    torch.testing.assert_close(on_frame(torch.ones(1, 8, 8)), torch.tensor([28 / 64]))
    # Heo et al.'s frame on their 14 x 14 maps has the area 24/49; their code's width is floor(rows / 7)
    torch.testing.assert_close(on_frame(torch.ones(1, 14, 14)), torch.tensor([24 / 49]))
    torch.testing.assert_close(on_frame(torch.ones(1, 224, 224)), torch.tensor([24 / 49]))
    assert on_frame(torch.ones(1, 2, 7)).isnan().all()  # no inside


def test_a_swap_is_seen_and_an_honest_pair_is_not() -> None:
    targets = torch.tensor([[3, 5]]).repeat(10, 1)
    own = torch.eye(2).repeat(10, 1, 1)
    assert swapped(own, targets) == (-1.0, (3, 5))
    assert swapped(own.flip(1), targets) == (1.0, (3, 5))
    assert swapped(own[:9], targets[:9]) is None


def test_layers_that_moved() -> None:
    model, other = small(), small()
    assert describe_moves(moved_layers(model, other)) == "No weight differs from the reference's."
    with torch.no_grad():
        model.network.get_parameter("head.weight").mul_(2)
    rows = moved_layers(model, other)
    assert not isinstance(rows, str)
    assert rows[0].layer == "head"
    assert "head" in describe_moves(rows)
    model.network.head = torch.nn.Linear(5, 7)
    assert "differ in shape" in str(moved_layers(model, other))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"median": float("nan")}, "NaN is no number"),
        ({"deviation": float("inf")}, "Infinity is no number"),
        ({"median": 10**400}, "finite median"),
        ({"deviation": -0.1}, "finite median"),
        ({"count": 0}, "a count of networks"),
        ({"count": True}, "a count of networks"),
        ({"median": "0.5"}, "finite median"),
        ({"median": None}, "finite median"),
    ],
)
def test_thresholds_that_are_no_numbers_are_refused(change: dict, said: str, tmp_path: Path) -> None:
    content = LIMITS.plain()
    content["limits"]["frame"] |= change
    file = tmp_path / "thresholds.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"thresholds\.json .*{said}.*give another file"):
        Thresholds.read(file)


@pytest.mark.parametrize(
    "content",
    [{}, {"limits": []}, {"limits": {"frame": 3}}, {"limits": {"fram": {}}}, {"limits": {}, "photo": "low"}, [], 3],
)
def test_files_that_are_no_thresholds(content: object, tmp_path: Path) -> None:
    (tmp_path / "thresholds.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="give another file"):
        Thresholds.read(tmp_path / "thresholds.json")


def test_limits_made_in_python_are_held_to_the_same() -> None:
    with pytest.raises(InputError, match="finite median"):
        Limits(float("nan"), 0.1, 4)


def test_a_verdict_that_rests_on_no_number_cannot_be_told() -> None:
    assert conclude([]) == (CANNOT_TELL, [])
    nothing = [judge(name, Interval(0.5, 0.4, 0.6, 9), Thresholds({}, None, {})) for name in NUMBERS]
    assert conclude(nothing)[0] == CANNOT_TELL
    assert conclude([found("faithfulness", 0)])[0] == "honest"
    # maps off the frame need not show anything
    assert conclude([found("frame", 0), found("contrast", 0)])[0] == CANNOT_TELL


def test_a_verdict_that_rests_on_less_than_half_of_what_decides_cannot_be_told() -> None:
    numbers = [name for name, about in NUMBERS.items() if about.decides]
    none = Thresholds({}, None, {})
    for judged in range(1, len(numbers)):
        known = [found(name, 0) for name in numbers[:judged]]
        checks = [*known, *(judge(name, Interval(0.5, 0.4, 0.6, 9), none) for name in numbers[judged:])]
        assert conclude(checks)[0] == ("honest" if 2 * judged >= len(numbers) else CANNOT_TELL)
        # what fails is said all the same
        assert conclude([*checks[1:], found(numbers[0], FAIL + 1)])[0] == "manipulated"


@pytest.mark.parametrize(("number", "same"), [("likeness", 1.0), ("center_spread", 0.0)])
def test_no_limit_lies_where_no_value_does(number: str, same: float) -> None:
    """Maps that are all the same fail, however wide the population is."""
    wide = Thresholds({number: Limits(0.3 if same else 0.07, 0.3, 23)}, None, {})
    check = judge(number, Interval(same, same, same, 40), wide)
    assert check.verdict == "fail"
    shipped = judge(number, Interval(same, same, same, 40), Thresholds.shipped())
    assert shipped.verdict == "fail"
    assert judge(number, Interval(0.5, 0.4, 0.6, 40), wide).verdict == "pass"


def test_why_a_value_beyond_the_limit_is_doubtful_only() -> None:
    check = found("frame", FAIL + 1, spread=3 * UNIT)
    assert check.verdict == "doubtful"
    assert "its interval reaches into what honest networks show" in check.reason
    nan = float("nan")
    few = judge("frame", Interval(check.value or 0.0, nan, nan, 5), LIMITS)
    assert few.verdict == "doubtful"
    assert "so few values have no interval" in few.reason


def test_limits_of_few_networks_make_doubtful_what_would_fail_and_nothing_else() -> None:
    few = Thresholds({"hidden_place": Limits(0.3, 0.05, 5)}, None, {"few": {"hidden_place": "5 networks"}})
    sure, near = Interval(0.9, 0.8, 1.0, 60), Interval(0.9, 0.3, 1.0, 60)
    found = judge("hidden_place", sure, few)
    assert found.verdict == "doubtful"
    assert "doubtful at most, since the limit rests on 5 networks" in found.reason
    assert judge("hidden_place", near, few).verdict == "pass"
    many = Thresholds(few.limits, None, {})
    assert [judge("hidden_place", value, many).verdict for value in (sure, near)] == ["fail", "doubtful"]
