"""The audit in a reader's words: every number has a question, and what failed comes first."""

import pytest

from heatproof.commands.audit.finding import SENTENCES, finding, grouped
from heatproof.commands.audit.questions import NUMBERS, QUESTIONS
from heatproof.commands.audit.scope import Outside
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
    assert "23 networks known to be honest" in found["grounds"][1]


def test_another_population_is_said_in_the_banner():
    apart = Outside("the maps are Saliency()'s", "GradCAM() on 20 networks at 32 pixels")
    found = finding(CANNOT_TELL, [], THRESHOLDS, 60, apart)
    assert found["tone"] == "unknown"
    assert "the maps are Saliency()'s" in found["grounds"][-1]
    assert finding(CANNOT_TELL, [], Thresholds({}, None, {}), 60, None)["grounds"][-1].startswith(
        "There were no limits"
    )
