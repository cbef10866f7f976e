"""False alarms on honest networks whose whole architecture is left out of the thresholds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heatproof.commands.audit.called_out import proportion
from heatproof.commands.audit.numbers import checks_of
from heatproof.commands.audit.run import Audit, read_audit
from heatproof.commands.audit.uninformative import widths
from heatproof.commands.audit.verdict import DOUBTFUL, MANIPULATED, conclude, score
from heatproof.models.classifier import Classifier
from heatproof.studies.audit_benchmark.population import Member
from heatproof.studies.audit_benchmark.rates import calibrated

TABLE = "honest networks, all of the architecture left out"
ANEW = f"{TABLE}, of the widths too"


@dataclass(frozen=True)
class Audited:
    """An honest network and where its audit lies.

    Attributes:
        architecture: all networks of one are left out together.
        numbers: as :func:`~heatproof.studies.audit_benchmark.rates.calibrated` takes them.
    """

    name: str
    architecture: str
    model: Classifier
    folder: Path
    numbers: dict[str, Any]


def architecture(member: Member) -> str:
    """Residual networks of any depth are one."""
    return "residual" if member.family.startswith("resnet") else member.family


def widths_of(honest: Sequence[Audited]) -> dict[str, float]:
    """:func:`~heatproof.commands.audit.uninformative.widths` of these networks."""
    return widths([own.numbers["numbers"] for own in honest], [own.architecture for own in honest])


def judged_by_others(settings: Audit, honest: Sequence[Audited], *, anew: bool = False) -> list[dict[str, Any]]:
    """A row per network: its verdict by thresholds of all other architectures, whatever its resolution.

    Args:
        anew: leave the architecture out of the widths as well, which are else those of all.
    """
    rows, every, how = [], widths_of(honest), ANEW if anew else TABLE
    for own in honest:
        others = [one for one in honest if one.architecture != own.architecture]
        known = widths_of(others) if anew else every
        thresholds = calibrated([one.numbers for one in others], {"budget": settings.budget}, known)
        table, tensors = read_audit(own.folder)
        checks = checks_of(settings, table, tensors, thresholds, model=own.model)
        verdict, speaks = conclude(checks)
        judged = [check.number for check in checks if check.decides and check.verdict != "not applicable"]
        against = [check.number for check in speaks if check.verdict in ("doubtful", "fail")]
        row = {"image": f"{own.name}, {how}", "model": own.name, "lie": "honest", "honest": True, "how": how}
        row |= {"verdict": verdict, "score": score(checks), "speaks": ", ".join(against), "judged": ", ".join(judged)}
        rows.append(row)
    return rows


def alarms(left: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many are called manipulated, and doubtful or worse, with exact binomial intervals."""
    rows = []
    verdicts, how = [row["verdict"] for row in left], left[0]["how"]
    for number, bad in (("manipulated", (MANIPULATED,)), ("doubtful or worse", (DOUBTFUL, MANIPULATED))):
        found = proportion(sum(verdict in bad for verdict in verdicts), len(verdicts))
        row = {"table": f"called {number}, {how}", "lie": "honest", "number": "verdict", "count": len(verdicts)}
        rows.append({**row, "value": found.value, "value_low": found.low, "value_high": found.high})
    return rows
