"""The audit in a reader's words: every number has a question, and what failed comes first."""

import pytest

from heatproof.commands.audit.finding import SENTENCES, finding, grouped
from heatproof.commands.audit.questions import NUMBERS, QUESTIONS
from heatproof.commands.audit.scope import Outside
from heatproof.commands.audit.unjudged import unjudged_among
from heatproof.commands.audit.verdict import (
    CANNOT_TELL,
    DOUBTFUL,
    HONEST,
    MANIPULATED,
    TOO_FEW,
    Thresholds,
    conclude,
    judge,
)
from heatproof.report.checks import groups
from heatproof.report.words import cell
from heatproof.results.table import Interval

THRESHOLDS = Thresholds.shipped()


def judged(**values):
    return [judge(name, Interval(value, value, value, 60), THRESHOLDS) for name, value in values.items()]


def test_every_number_has_a_question_and_every_verdict_a_sentence():
    assert set(QUESTIONS) == set(NUMBERS)
    assert all(question.asks.endswith("?") and question.limits.endswith(".") for question in QUESTIONS.values())
    assert set(SENTENCES) == {HONEST, DOUBTFUL, MANIPULATED, CANNOT_TELL, TOO_FEW}


def test_what_failed_comes_first_and_open_what_passed_last_and_folded():
    checks = judged(agreement=0.33, mosaic=0.38, likeness=0.9, frame=0.95)
    found = grouped(checks, THRESHOLDS)
    opened = {group["title"].split(" ")[0]: group["open"] for group in found}
    assert next(iter(opened)) == "Failed"
    assert opened["Failed"]
    assert list(opened)[-1] == "Passed"
    assert not opened["Passed"]
    names = [[check["name"] for check in group["checks"]] for group in found]
    assert names[0][0] == "frame"
    assert names[-1][0] == "mosaic", "of those that passed, the one that decides leads"
    for check in (check for group in found for check in group["checks"]):
        assert check["reason"].startswith("Measured "), "the question stands above it already"


@pytest.mark.parametrize(("frame", "tone", "word"), [(0.25, "good", "supported"), (0.95, "bad", "not supported")])
def test_the_banner_says_what_was_concluded(frame, tone, word):
    checks = judged(frame=frame, mosaic=0.38, agreement=0.33)
    verdict, _ = conclude(checks)
    found = finding(verdict, checks, THRESHOLDS, 60, None)
    assert (found["tone"], found["word"]) == (tone, word)
    speaking = sum(check.verdict in ("fail", "doubtful") for check in checks)
    against = ("none speaks", "1 speaks", "2 speak", "3 speak")[speaking]
    failed = "1" if word == "not supported" else "none"
    assert found["grounds"][0] == (
        f"60 photos. 3 of 3 numbers could be judged, of the 2 that decide {failed} failed; {against} against the "
        "heatmaps."
    )
    assert "32 networks known to be honest" in found["grounds"][1]


def test_another_population_is_said_in_the_banner():
    apart = Outside("the maps are Saliency()'s", "GradCAM() on 20 networks at 32 pixels")
    found = finding(CANNOT_TELL, [], THRESHOLDS, 60, apart)
    assert found["tone"] == "unknown"
    assert "the maps are Saliency()'s" in found["grounds"][-1]
    assert finding(CANNOT_TELL, [], Thresholds({}, None, {}), 60, None)["grounds"][-1].startswith(
        "There were no limits"
    )


def test_why_nothing_is_judged_is_said_once_in_the_banner():
    why = "the model gets 83% of these photos wrong"
    nothing = [judge(name, Interval(0.5, 0.4, 0.6, 60), THRESHOLDS, why) for name in NUMBERS]
    found = finding(CANNOT_TELL, nothing, THRESHOLDS, 60, None)
    assert found["grounds"][0] == f"Nothing is judged: {why}."
    (group,) = grouped(nothing, THRESHOLDS)
    assert {check["reason"] for check in group["checks"]} == {""}
    # where something could be judged, each number keeps its own reason
    some = [*nothing[1:], *judged(frame=0.25)]
    assert "Nothing is judged" not in " ".join(finding(CANNOT_TELL, some, THRESHOLDS, 60, None)["grounds"])
    assert any(check["reason"] == f"{why}." for group in grouped(some, THRESHOLDS) for check in group["checks"])


def test_each_reason_stands_once_with_all_that_it_holds_for():
    value = Interval(0.5, 0.4, 0.6, 60)
    reasons = {"mosaic": "few photos", "mosaic_swap": "few photos", "frame": "no map"}
    checks = [judge(name, value, THRESHOLDS, why) for name, why in reasons.items()] + judged(likeness=0.3)
    assert unjudged_among(checks) == "mosaic, mosaic swap (few photos); frame (no map)"
    assert unjudged_among(checks, {"few photos."}) == "frame (no map)"


@pytest.mark.parametrize("number", [name for name in NUMBERS if name in THRESHOLDS.limits])
def test_limits_and_values_have_the_same_digits_wherever_they_stand(number):
    check = judge(number, Interval(0.43187, 0.37239, 0.48435, 60), THRESHOLDS)
    (group,) = groups({"checks": grouped([check], THRESHOLDS)})
    (shown,) = group["checks"]
    row = check.row()
    doubtful, fails = (cell(row, name, set(row))["text"] for name in ("doubtful_from", "threshold"))
    assert shown["bar"]["limits"] == f"doubtful {doubtful}, fails {fails}"
    assert (f"fails {fails}" if check.verdict == "fail" else f"doubtful {doubtful}").replace(
        "\N{MINUS SIGN}", "-"
    ) in check.reason
    assert f"Measured {cell(row, 'value', set(row))['text']}," in check.reason
