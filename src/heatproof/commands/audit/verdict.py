"""From an audit's numbers to its verdict: what each number means, where honest networks lie, and what that proves."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np

from heatproof.commands.audit.questions import NUMBERS, QUESTIONS, Number
from heatproof.errors import InputError, did_you_mean
from heatproof.report.words import limit, of_check
from heatproof.results.strict import is_number, read_object
from heatproof.results.table import Interval

Verdict = Literal["pass", "doubtful", "fail", "not applicable"]
HONEST, DOUBTFUL, MANIPULATED, TOO_FEW = "honest", "doubtful", "manipulated", "too few to tell"
CANNOT_TELL = "cannot tell"
"""The verdict that rests on no number: none was measured and has a threshold."""
WORDS = {HONEST: "supported", DOUBTFUL: "doubtful", MANIPULATED: "not supported"}
"""What a reader is told; files and ``--fail-on`` keep the names. An audit says what its numbers bear out, no more."""
FEWEST = 10
"""Photos for a verdict."""
CALIBRATING = 3
"""Honest networks for thresholds."""
DOUBT, FAIL = 2.5, 3.5
"""Standard deviations of honest networks beyond which a number is doubtful, or fails."""
SHIPPED = "thresholds.json"


FREE = ("own_witness",)
"""Numbers that need no other network to be judged; outside of every population they are judged all the same."""
CERTAIN = 0.001
"""The p-value from which maps agree worse with their own photos' witnesses than with others'."""
REFERENCES = ("reference", "self")
"""Checks that need a reference; each audit has at most one."""
COUNTED = ("called_out",)
"""Numbers that are judged by an interval of their own, without thresholds of a population."""
SUPPORTING = ("all_classes", "faithfulness", "equivariance", "mosaic", "reference_spearman")
"""Numbers of which one must pass for maps to be supported: they hold maps against what the model does or what is in the
photo. That photos are alike, or that maps lie off the frame, supports nothing."""
NO_SHARE = 0.05
"""Where the whole interval of ``share`` lies below, the map's order does nothing, whatever the population."""
NO_MOVE = 0.0
"""Where the whole interval of ``equivariance`` lies below, maps stay where they were more than they move."""
LITTLE_SHARE, SOME_SHARE = 0.25, 0.5
"""A low ``faithfulness`` fails only with a share below the one, and is doubtful only with one below the other."""


@dataclass(frozen=True)
class Limits:
    """Where a number lies on honest networks.

    Attributes:
        median: over networks.
        deviation: root mean square distance from the median of the networks on its bad side; how good the good ones
            are says nothing about how bad an honest one may be.
        count: of the networks.

    Raises:
        InputError: one is no finite number, a deviation is negative, or there was no network.
    """

    median: float
    deviation: float
    count: int

    def __post_init__(self) -> None:
        numbers = is_number(self.median) and is_number(self.deviation) and self.deviation >= 0
        if not numbers or type(self.count) is not int or self.count < 1:
            raise InputError(
                "a threshold is a finite median, a deviation of 0 or more and a count of networks, got "
                f"{self.median!r}, {self.deviation!r} and {self.count!r}"[:300]
            )

    def unit(self, least: float) -> float:
        """The deviation of a new network from the median; the fewer were measured, the wider."""
        return max(self.deviation, least) * (1 + 1 / self.count) ** 0.5


@dataclass(frozen=True)
class Thresholds:
    """Limits by number, and where they come from.

    Attributes:
        limits: by the names of :data:`NUMBERS`.
        photo: the trust below which one honest photo in twenty lies.
        provenance: the networks, data, explainer, budget and date.
    """

    limits: dict[str, Limits]
    photo: float | None
    provenance: dict[str, Any]

    def few(self, number: str) -> str:
        """On which few networks the limits of this number rest, where that is too few to call a model manipulated."""
        return str(dict(self.provenance.get("few") or {}).get(number, ""))

    @classmethod
    def shipped(cls) -> "Thresholds":
        """Those of the package."""
        return cls.parsed(json.loads(resources.files("heatproof.commands.audit").joinpath(SHIPPED).read_text("utf-8")))

    @classmethod
    def read(cls, file: Path | str) -> "Thresholds":
        """From a file that :meth:`plain` was written to.

        Raises:
            InputError: the file cannot be read, or holds NaN, infinity, a count of 0 or anything else.
        """
        remedy = "expected thresholds as --calibrate writes them; give another file, or calibrate anew"
        content = read_object(Path(file), remedy, InputError)
        try:
            return cls.parsed(content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{file} cannot be read: {why[:400]}; {remedy}") from error

    @classmethod
    def parsed(cls, content: Mapping[str, Any]) -> "Thresholds":
        """From :meth:`plain`.

        Raises:
            InputError: a number that this version does not know, or none that could be a limit.
        """
        limits = {}
        for name, found in content["limits"].items():
            if name not in NUMBERS:
                raise InputError(f"the number {name[:100]!r} is none of this version's; {did_you_mean(name, NUMBERS)}")
            limits[name] = Limits(**found)
        photo = content.get("photo")
        if photo is not None and not is_number(photo):
            raise InputError(f"photo is a finite trust or null, got {str(photo)[:100]!r}")
        return cls(limits, photo, dict(content.get("provenance") or {}))

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        limits = {name: asdict(found) for name, found in self.limits.items()}
        return {"limits": limits, "photo": self.photo, "provenance": self.provenance}


def calibrate(
    honest: Sequence[Mapping[str, float | None]],
    photos: Sequence[float | None],
    provenance: Mapping[str, Any],
    widths: Mapping[str, float] = {},
) -> Thresholds:
    """Limits from the numbers of honest networks.

    Args:
        honest: the numbers of each network, by name; missing ones are left out.
        photos: the trust of their photos.
        widths: the least deviation of each number, where it is known how far architectures lie apart
            (:func:`heatproof.commands.audit.uninformative.widths`).

    Raises:
        InputError: fewer than three networks.

    >>> calibrate([{"frame": 0.1}, {"frame": 0.2}, {"frame": 0.3}], [0.0, 1.0], {}).limits["frame"]
    Limits(median=0.2, deviation=0.1, count=3)
    """
    if len(honest) < CALIBRATING:
        raise InputError(f"thresholds need at least {CALIBRATING} honest networks, got {len(honest)}")
    limits = {}
    for name, about in NUMBERS.items():
        values = [v for own in honest if (v := own.get(name)) is not None and isfinite(v)]
        if len(values) >= CALIBRATING:
            median = float(np.median(values))
            beyond = [v - median for v in values if (v - median) * about.side > 0]
            deviation = float(np.sqrt(np.mean(np.square(beyond)))) if beyond else 0.0
            deviation = max(deviation, widths.get(name, 0.0))
            limits[name] = Limits(round(median, 6), round(deviation, 6), len(values))
    known = [value for value in photos if value is not None and isfinite(value)]
    return Thresholds(limits, round(float(np.quantile(known, 0.05)), 6) if known else None, dict(provenance))


@dataclass(frozen=True)
class Check:
    """One number of an audit, judged.

    Attributes:
        check, number: what was looked at.
        value, low, high: with its 95% interval over photos.
        threshold: beyond which it fails; ``doubtful_from``: beyond which it is doubtful.
        deviations: how many standard deviations of honest networks the value lies to the bad side.
        verdict: ``pass``, ``doubtful``, ``fail`` or ``not applicable``.
        reason: one sentence.
    """

    check: str
    number: str
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    doubtful_from: float | None
    deviations: float | None
    verdict: Verdict
    reason: str

    @property
    def decides(self) -> bool:
        """Whether its failing alone makes the verdict."""
        return NUMBERS[self.number].decides

    def row(self) -> dict[str, Any]:
        """As ``summary.json`` holds it: the interval as ``value_low`` and ``value_high``."""
        return {
            "check": self.check,
            "number": self.number,
            "value": self.value,
            "value_low": self.low,
            "value_high": self.high,
            "doubtful_from": self.doubtful_from,
            "threshold": self.threshold,
            "bad": NUMBERS[self.number].bad,
            "deviations": self.deviations,
            "verdict": self.verdict,
            "decides": self.decides,
            "reason": self.reason,
        }


def judge(number: str, found: Interval, thresholds: Thresholds, why_not: str = "") -> Check:
    """The verdict on one number.

    A number fails where it lies beyond the threshold and its interval's better end is doubtful still, so that few
    photos do not condemn a network by chance.

    Args:
        why_not: the check cannot be made, and why.
    """
    about = NUMBERS[number]
    limits = thresholds.limits.get(number)
    if not why_not and not isfinite(found.value):
        why_not = "no photo gave a value"
    if not why_not and limits is None:
        why_not = "there is no threshold; --calibrate makes one"
    if why_not or limits is None:
        return unjudged(number, found, why_not)
    unit = limits.unit(about.least) * about.side
    doubtful, fail = (_reachable(limits.median + deviations * unit, about) for deviations in (DOUBT, FAIL))
    better = found.low if about.bad == "high" else found.high
    distance = (found.value - limits.median) / unit

    def beyond(value: float, limit: float) -> bool:
        return (value - limit) * about.side > 0

    verdict: Verdict = "pass"
    if beyond(found.value, doubtful):
        # of so few values that there is no interval, none is sure
        verdict = "fail" if beyond(found.value, fail) and beyond(better, doubtful) else "doubtful"
    spread = verdict == "doubtful" and beyond(found.value, fail)
    rests = thresholds.few(number)
    if rests:
        verdict = "doubtful" if verdict == "fail" else "pass"
    side = "above" if about.bad == "high" else "below"
    known = f"fails {side} {_digits(fail)}" if verdict == "fail" else f"doubtful {side} {_digits(doubtful)}"
    place = side if beyond(found.value, doubtful) else "within"
    words = f"{place} what honest networks show ({_digits(limits.median)} in the middle, {known})"
    low, high = (end if isfinite(end) else None for end in (found.low, found.high))
    why = (
        "its interval reaches into what honest networks show" if isfinite(better) else "so few values have no interval"
    )
    more = f"; doubtful and no more, since {why}" if spread else ""
    if rests and beyond(found.value, doubtful):
        more = f"; {'doubtful at most' if verdict == 'doubtful' else 'it passes'}, since the limit rests on {rests}"
    reason = f"{QUESTIONS[number].asks} Measured {_measured(found)}, {words}{more}."
    return Check(about.check, number, found.value, low, high, fail, doubtful, distance, verdict, reason)


def _measured(found: Interval) -> str:
    """A value in a sentence, with the digits that tables show."""
    return of_check(found.value, found.low, found.high)[0].replace("\N{MINUS SIGN}", "-")


def _digits(value: float) -> str:
    return limit(value).replace("\N{MINUS SIGN}", "-")


def _reachable(limit: float, about: Number) -> float:
    """The limit, or the value that surely is bad where that comes first."""
    if about.surely is None:
        return limit
    return min(limit, about.surely) if about.bad == "high" else max(limit, about.surely)


def unjudged(number: str, found: Interval, why: str) -> Check:
    """A number that is shown and not judged."""
    value, low, high = (end if isfinite(end) else None for end in found[:3])
    return Check(NUMBERS[number].check, number, value, low, high, None, None, None, "not applicable", f"{why}.")


def judge_own_witness(found: Interval, better: float, worse: float) -> Check:
    """Own photos' witnesses against others', by permutation: it fails where others' surely fit better.

    A small p-value acquits nobody: a lie that is laid over an honest map leaves it in.

    Args:
        found: the mean rank of the own witness, with its interval.
        better, worse: one-sided p-values of agreeing as well, and as badly, by chance.
    """
    failed = worse <= CERTAIN
    words = f"no better than by chance (p {better:.4f}), which {found.count} photos cannot tell from a lie"
    if better <= 0.05:
        words = f"better than by chance (p {better:.4f})"
    if failed:
        words = f"worse than by chance (p {worse:.4f})"
    reason = f"{QUESTIONS['own_witness'].asks} Measured {_measured(found)} (0.5 is chance), {words}."
    low, high = (end if isfinite(end) else None for end in (found.low, found.high))
    verdict: Verdict = "fail" if failed else "pass" if better <= 0.05 else "not applicable"
    return Check("witness", "own_witness", found.value, low, high, 0.5, 0.5, None, verdict, reason)


def judge_share(found: Interval, unit: str) -> Check:
    """The share of what the witness gains, without a population: it fails where it is none, and decides nothing.

    Args:
        unit: in which the gains were taken.
    """
    failed = found.high < NO_SHARE
    words = f"{'none' if failed else 'not none'} (in {unit}; it fails where all of its interval lies below {NO_SHARE})"
    reason = f"{QUESTIONS['share'].asks} Measured {_measured(found)} of it, {words}."
    low, high = (end if isfinite(end) else None for end in (found.low, found.high))
    verdict: Verdict = "fail" if failed else "pass"
    return Check("faithfulness", "share", found.value, low, high, NO_SHARE, NO_SHARE, None, verdict, reason)


def judge_equivariance(found: Interval) -> Check:
    """Whether maps move with their photos, without a population: doubtful where they surely stay more than they move.

    No more than doubtful, since a network whose photos all show their object in one place may have learnt that place.
    """
    stays = found.high < NO_MOVE
    words = "less than it stays" if stays else "more than it stays, or it cannot be told"
    words += f" (doubtful where all of its interval lies below {_digits(NO_MOVE)})"
    reason = f"{QUESTIONS['equivariance'].asks} Measured {_measured(found)}, {words}."
    low, high = (end if isfinite(end) else None for end in (found.low, found.high))
    verdict: Verdict = "doubtful" if stays else "pass"
    return Check("input", "equivariance", found.value, low, high, NO_MOVE, NO_MOVE, None, verdict, reason)


def with_share(check: Check, share: Interval) -> Check:
    """A low ``faithfulness``, together with the share of what the witness gains: a hard photo is no lie."""
    if check.verdict not in ("doubtful", "fail"):
        return check
    if not isfinite(share.value):
        value, low, high = (math.nan if end is None else end for end in (check.value, check.low, check.high))
        found = Interval(value, low, high, 0)
        return unjudged(check.number, found, "the witness gains too little for the map's part in it to be told")
    told = f"{share.value:.0%}" if share.value > 0 else "none"
    least: Verdict = "pass" if share.value > SOME_SHARE else "doubtful" if share.value > LITTLE_SHARE else check.verdict
    verdict = min(check.verdict, least, key=("pass", "doubtful", "fail").index)
    part = f" Covering in the map's order does {told} of what covering in the order of the model's own losses does"
    part += ", so that is no lie." if verdict == "pass" else "."
    return replace(check, verdict=verdict, reason=check.reason + part)


def conclude(checks: Sequence[Check]) -> tuple[str, list[Check]]:
    """The verdict on the model, and the checks that speak for it.

    Manipulated where a number that decides fails; doubtful where one that decides is doubtful, or another fails; honest
    where one of :data:`SUPPORTING` passes and half of those that decide could be judged (:func:`enough`); else it
    cannot be told.
    """
    failed = [check for check in checks if check.verdict == "fail" and check.decides]
    if failed:
        return MANIPULATED, failed
    doubtful = [check for check in checks if check.verdict == "fail" or (check.verdict == "doubtful" and check.decides)]
    if doubtful:
        return DOUBTFUL, doubtful
    passed = [check for check in checks if check.verdict == "pass"]
    decided = any(check.number in SUPPORTING for check in passed)
    return (HONEST if decided and enough(checks) else CANNOT_TELL), passed


def deciding(checks: Sequence[Check]) -> tuple[list[Check], list[Check]]:
    """The checks that decide: those that could be judged, and all."""
    every = [check for check in checks if check.decides]
    return [check for check in every if check.verdict != "not applicable"], every


def enough(checks: Sequence[Check]) -> bool:
    """Whether at least half of the numbers that decide could be judged: what rests on fewer supports nothing [ours]."""
    judged, every = deciding(checks)
    return 2 * len(judged) >= len(every)


def score(checks: Sequence[Check]) -> float:
    """How far the worst number that decides lies from honest networks, in their standard deviations; up is worse."""
    return max((check.deviations for check in checks if check.decides and check.deviations is not None), default=0.0)
