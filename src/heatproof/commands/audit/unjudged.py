"""Numbers that could not be judged, in words: each reason once, with all that it holds for."""

from collections.abc import Container, Sequence

from heatproof.commands.audit.questions import spoken
from heatproof.commands.audit.verdict import Check


def unjudged_among(checks: Sequence[Check], told: Container[str] = ()) -> str:
    """The numbers that could not be judged with their reasons: ``mosaic, mosaic swap (no two classes ...)``.

    Args:
        told: reasons that were given already; numbers that only they hold for are left out.
    """
    names: dict[str, list[str]] = {}
    for check in checks:
        if check.verdict == "not applicable" and check.reason not in told:
            names.setdefault(check.reason, []).append(spoken(check.number))
    return "; ".join(f"{', '.join(own)} ({reason.removesuffix('.')})" for reason, own in names.items())


def reason_of_all(checks: Sequence[Check]) -> str | None:
    """The one reason for which no number could be judged; ``None`` where some could, or reasons differ."""
    reasons = {check.reason for check in checks if check.verdict == "not applicable"}
    alone = len(reasons) == 1 and all(check.verdict == "not applicable" for check in checks)
    return reasons.pop() if alone else None
