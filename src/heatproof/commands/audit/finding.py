"""What an audit found, for a reader who knows no statistics: a banner and the checks in groups."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from heatproof.commands.audit.questions import NUMBERS, QUESTIONS, spoken
from heatproof.commands.audit.scope import Outside
from heatproof.commands.audit.unjudged import reason_of_all
from heatproof.commands.audit.verdict import (
    CANNOT_TELL,
    DOUBTFUL,
    HONEST,
    MANIPULATED,
    TOO_FEW,
    WORDS,
    Check,
    Thresholds,
    deciding,
)
from heatproof.report.words import counted

TONES = {HONEST: "good", DOUBTFUL: "doubtful", MANIPULATED: "bad"}
SENTENCES = {
    HONEST: "Where it could be checked, the heatmaps show what the model does: covering what they show changes its "
    "answers, as in networks known to be honest.",
    DOUBTFUL: "Some of what the heatmaps show is not borne out by what the model does. Look at the checks below before "
    "you rely on them.",
    MANIPULATED: "The heatmaps are not supported by what the model does when parts of the photo are covered or "
    "changed: do not rely on them.",
    CANNOT_TELL: "This audit has shown nothing, neither for nor against the heatmaps: too few of the numbers that "
    "decide could be judged.",
    TOO_FEW: "There are too few photos to tell anything.",
}
"""About the heatmaps, never about a person: how they came to be so is not what an audit sees."""
GROUPS = (
    ("fail", "Failed", True),
    ("doubtful", "Doubtful", True),
    ("not applicable", "Could not be judged", False),
    ("pass", "Passed", False),
)


def finding(
    verdict: str, checks: Sequence[Check], thresholds: Thresholds, photos: int, apart: Outside | None
) -> dict[str, Any]:
    """The banner: the verdict in a word and a sentence, how much was judged, and what the limits rest on.

    Args:
        apart: in which way the network lies outside the thresholds' population, where it does.
    """
    judged = [check for check in checks if check.verdict != "not applicable"]
    weighed, every = deciding(checks)
    against = [check for check in judged if check.verdict in ("fail", "doubtful")]
    failed = sum(check.verdict == "fail" for check in weighed)
    known = "" if len(weighed) == len(every) else f"{len(weighed) or 'none'} could"
    decided = f"of the {len(every)} that decide {known}"
    if weighed:
        decided += f"{', and ' if known else ''}{failed or 'none'} failed"
    speaking = f"{_speaking(len(against))} against the heatmaps"
    why = reason_of_all(checks)
    nothing = [] if why is None else [f"Nothing is judged: {why}"]
    grounds = [
        *nothing,
        f"{counted(photos)}. {len(judged)} of {len(checks)} numbers could be judged, {decided}; {speaking}.",
    ]
    return {
        "word": WORDS.get(verdict, verdict),
        "tone": TONES.get(verdict, "unknown"),
        "sentence": SENTENCES[verdict],
        "grounds": [*grounds, _origin(thresholds), *([] if apart is None else [_apart(apart)])],
    }


def grouped(checks: Sequence[Check], thresholds: Thresholds, pictures: Mapping[str, str] = {}) -> list[dict[str, Any]]:
    """The checks by verdict: what failed first, what passed last; those that decide lead each group.

    Args:
        pictures: a figure within the run folder, by the number's name.
    """
    found, why = [], reason_of_all(checks)
    # what holds for all stands in the banner
    checks = [replace(check, reason="") if check.reason == why else check for check in checks]
    for verdict, title, opened in GROUPS:
        own = sorted((check for check in checks if check.verdict == verdict), key=lambda check: not check.decides)
        if own:
            found.append(
                {
                    "title": f"{title} ({len(own)})",
                    "open": opened,
                    "checks": [{**_shown(c, thresholds), "picture": pictures.get(c.number)} for c in own],
                }
            )
    return found


def _shown(check: Check, thresholds: Thresholds) -> dict[str, Any]:
    question, limits = QUESTIONS[check.number], thresholds.limits.get(check.number)
    judged = check.verdict != "not applicable"
    return {
        "name": spoken(check.number),
        "asks": question.asks,
        "limits": question.limits,
        # the question stands above it
        "reason": check.reason.removeprefix(f"{question.asks} "),
        "value": check.value,
        "low": check.low,
        "high": check.high,
        "middle": limits.median if judged and limits is not None else None,
        "doubtful_from": check.doubtful_from,
        "threshold": check.threshold,
        "bad": NUMBERS[check.number].bad,
        "decides": check.decides,
    }


def _origin(thresholds: Thresholds) -> str:
    """On what the limits rest, in words."""
    if not thresholds.limits:
        return "There were no limits from honest networks."
    known, count = thresholds.provenance, max(limits.count for limits in thresholds.limits.values())
    by = f" explained by {known['explainer']}" if isinstance(known.get("explainer"), str) else ""
    sizes = sorted(int(size) for size in dict(known.get("sizes") or {}))
    at = f", with photos of {_listed(sizes)} pixels a side" if sizes else ""
    when = f", measured on {known['date']}" if isinstance(known.get("date"), str) else ""
    return f"The limits rest on {count} networks known to be honest{by}{at}{when}; another kind of network may differ."


def _speaking(count: int) -> str:
    return f"{count or 'none'} speak{'s' if count < 2 else ''}"


def _apart(apart: Outside) -> str:
    return (
        f"These networks are of another kind than the audited one: {apart.how}. So nothing worse than doubtful is said."
    )


def _listed(values: Sequence[int]) -> str:
    *before, last = (str(value) for value in values)
    return f"{', '.join(before)} and {last}" if before else last
