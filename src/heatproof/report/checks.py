"""A finding and its checks, as the page shows them: a banner, and a bar per number with the honest range.

``summary.json`` may hold a ``finding`` (``word``, ``tone``, ``sentence``, ``grounds``) and ``checks``: groups
(``title``, ``open``, ``checks``) of checks with ``asks``, ``limits``, ``reason``, ``value``, ``low``, ``high``,
``middle``, ``doubtful_from``, ``threshold``, ``bad`` (``low`` or ``high``), ``decides`` and ``picture`` (a figure
within the run folder, or none). Who writes them knows what is judged; this module draws.
"""

from collections.abc import Mapping
from typing import Any

from heatproof.report.style import with_minus
from heatproof.report.words import limit, of_check
from heatproof.results.strict import is_number

TONES = ("good", "doubtful", "bad", "unknown")
WIDTH, HEIGHT = 320, 26
"""Of a bar, in pixels of the page."""
MARGIN = 0.12
"""What the axis reaches beyond the numbers on it, of their range."""


def finding(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The banner: a word, a sentence for a layman, and what it rests on; None where the summary has none."""
    found = summary.get("finding")
    if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in ("word", "sentence")):
        return None
    tone = found.get("tone")
    grounds = found.get("grounds")
    return {
        "word": found["word"],
        "sentence": with_minus(found["sentence"]),
        "tone": tone if tone in TONES else "unknown",
        "grounds": [with_minus(str(line)) for line in grounds] if isinstance(grounds, list) else [],
    }


def groups(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Groups of checks with their bars, in the summary's order; whatever is none is left out."""
    listed = summary.get("checks")
    shown = []
    for group in listed if isinstance(listed, list) else []:
        if isinstance(group, dict) and isinstance(group.get("checks"), list):
            checks = [_check(check) for check in group["checks"] if isinstance(check, dict)]
            if checks:
                shown.append(
                    {"title": str(group.get("title", "")), "open": group.get("open") is True, "checks": checks}
                )
    return shown


def _check(check: Mapping[str, Any]) -> dict[str, Any]:
    value, low, high = check.get("value"), check.get("low"), check.get("high")
    told = " ".join(of_check(value, low, high)) if is_number(value) else ""
    texts = {name: with_minus(str(check.get(name) or "")) for name in ("asks", "limits", "reason", "name")}
    picture = check.get("picture")
    shown = {"value": told, "decides": check.get("decides") is True, "bar": _bar(check)}
    return {**texts, **shown, "picture": picture if isinstance(picture, str) else None}


def _bar(check: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where on the bar the honest range, the doubtful one, the value and its interval lie, in pixels.

    None where the value or a limit is missing.
    """
    names = ("value", "doubtful_from", "threshold")
    if not all(is_number(check.get(name)) for name in names):
        return None
    value, doubtful, fail = (float(check[name]) for name in names)
    low, high, middle = (float(check[n]) if is_number(check.get(n)) else value for n in ("low", "high", "middle"))
    known = [value, doubtful, fail, low, high, *([middle] if is_number(check.get("middle")) else [])]
    reach = max(known) - min(known) or 1.0
    left, right = min(known) - MARGIN * reach, max(known) + MARGIN * reach

    def at(position: float) -> float:
        return round(WIDTH * (position - left) / (right - left), 1)

    rising = check.get("bad") == "high"
    side = "above" if rising else "below"
    honest = (left, doubtful) if rising else (doubtful, right)
    between = (doubtful, fail) if rising else (fail, doubtful)
    beyond = (fail, right) if rising else (left, fail)
    zones = [
        {"kind": kind, "x": at(a), "width": max(0.0, round(at(b) - at(a), 1))}
        for kind, (a, b) in (("good", honest), ("doubtful", between), ("bad", beyond))
    ]
    return {
        "zones": zones,
        "value": at(value),
        "low": at(min(low, high)),
        "width": round(abs(at(high) - at(low)), 1),
        "middle": at(middle) if is_number(check.get("middle")) else None,
        "limits": f"doubtful {side} {limit(doubtful)}, fails {side} {limit(fail)}",
        "words": f"value {of_check(value)[0]}; doubtful {side} {limit(doubtful)}; fails {side} {limit(fail)}",
    }
