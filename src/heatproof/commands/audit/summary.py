"""What an audit says in the end: the summary of its run, and the answer in sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from heatproof.commands.audit.measure import Audit
from heatproof.commands.audit.reference import Comparison, describe_moves
from heatproof.commands.audit.verdict import (
    CANNOT_TELL,
    DOUBTFUL,
    FEWEST,
    HONEST,
    MANIPULATED,
    TOO_FEW,
    Check,
    Thresholds,
    conclude,
    score,
)
from heatproof.errors import InputError, RunError
from heatproof.metrics.shift import mod
from heatproof.metrics.similarity import nissim
from heatproof.models.classifier import Classifier
from heatproof.results.strict import read_maps
from heatproof.results.table import interval

MAPS = "heatmaps/maps.safetensors"
VIEWED = 40
"""Photos in the report's viewer, those that disagree most."""
BLIND = (
    "A backdoor cannot be found without a photo that carries its trigger: on all others the model is honest.",
    "A lie that leaves the audited explainer's maps as they are, or is told on other photos only, is not seen.",
)
"""What no audit of this kind can see."""


@dataclass(frozen=True)
class Disagreement:
    """A photo and its trust (:func:`~heatproof.commands.audit.covering.trust`); low is a lie."""

    image: str
    trust: float


@dataclass(frozen=True)
class Drift:
    """How far maps moved since an earlier audit.

    Attributes:
        mod: the mean NISSIM of the maps of the same photos, with its 95% interval from ``mod_low`` to ``mod_high``.
        count: of the photos in both.
    """

    mod: float
    mod_low: float
    mod_high: float
    count: int


@dataclass(frozen=True)
class AuditSummary:
    """All that ``summary.json`` holds.

    Attributes:
        verdict: on the model, and ``speaks``: the checks that made it.
        disagree: the photos with the lowest trust, the lowest first.
        queries: forward passes per photo.
    """

    verdict: str
    checks: Sequence[Check]
    speaks: Sequence[Check]
    disagree: Sequence[Disagreement]
    queries: int
    thresholds: Thresholds
    skipped: Sequence[Mapping[str, str]]
    reference: Comparison | None = None
    drift: Drift | None = None

    def plain(self, answer: Sequence[str]) -> dict[str, Any]:
        """As JSON."""
        content: dict[str, Any] = {
            "verdict": self.verdict,
            "score": score(self.checks),
            "rows": [check.row() for check in self.checks],
            "speaks": [check.number for check in self.speaks],
            "cannot_see": list(BLIND),
            "disagree": [asdict(photo) for photo in self.disagree[:VIEWED]],
            "queries": self.queries,
            "thresholds": self.thresholds.plain(),
            "skipped": self.skipped,
            "worst": {"column": "trust", "descending": False},
        }
        if self.reference is not None:
            content["reference"] = self.reference.plain()
        if self.drift is not None:
            content["drift"] = asdict(self.drift)
        return {**content, "answer": list(answer)}


def verdict_on(table: pl.DataFrame, checks: Sequence[Check]) -> tuple[str, list[Check]]:
    """The verdict of the checks, unless the photos are too few or most maps are empty."""
    verdict, speaks = conclude(checks)
    if table.height < FEWEST:
        return TOO_FEW, []
    if 2 * int(table["empty"].sum()) > table.height and verdict != MANIPULATED:
        return DOUBTFUL, []
    return verdict, speaks


def disagreeing(table: pl.DataFrame) -> list[Disagreement]:
    """The photos whose trust is known, the lowest first."""
    known = table.filter(pl.col("trust").is_not_null()).sort("trust", "image")
    return [Disagreement(*row) for row in known.select("image", "trust").iter_rows()]


def read_baseline(folder: Path | str) -> dict[str, Tensor]:
    """The maps of an earlier audit, by photo.

    Raises:
        RunError: the folder is no audit.
    """
    file = Path(folder) / MAPS
    if not file.exists():
        raise RunError(f"expected the run folder of an earlier audit, and {folder} has no {MAPS}")
    return read_maps(file, "give another --baseline")


def drift_between(maps: Mapping[str, Tensor], earlier: Mapping[str, Tensor], size: int | tuple[int, int]) -> Drift:
    """MOD between two checkpoints: the mean NISSIM of their maps of the same photos.

    Raises:
        InputError: no photo is in both.
    """
    common = sorted(maps.keys() & earlier.keys())
    if not common:
        raise InputError("the baseline has none of these photos; audit both checkpoints on the same data")
    pairs = torch.cat([nissim(maps[image][None], earlier[image][None], size=size) for image in common])
    found = interval(pairs.tolist())
    return Drift(float(mod(pairs)), found.low, found.high, len(common))


def answer(settings: Audit, model: Classifier, table: pl.DataFrame, summary: AuditSummary) -> list[str]:
    """Verdict first, then what speaks for it, what is odd about the data, and what cannot be seen."""
    skipped = sorted({check.check for check in summary.checks if check.verdict == "not applicable"})
    return [
        f"Verdict on {model.name}, {settings.explainer!r}, {table.height} photos: {summary.verdict}.",
        *_reasons(summary),
        *_about_photos(table, summary),
        *_beside_others(summary),
        *([f"Not made, or in part: {', '.join(skipped)}; the table says why."] if skipped else []),
        *BLIND,
    ]


def _reasons(summary: AuditSummary) -> list[str]:
    speaks = summary.speaks
    if summary.verdict == TOO_FEW:
        return [f"An audit needs at least {FEWEST} photos, better 100."]
    if summary.verdict == CANNOT_TELL:
        return ["No number was measured that has a threshold: nothing was shown."]
    if summary.verdict == HONEST:
        count = len(summary.checks)
        return [f"{len(speaks)} of {count} numbers lie where those of honest networks lie, all that decide."]
    return [f"{check.check} ({check.number}): {check.reason}" for check in speaks]


def _about_photos(table: pl.DataFrame, summary: AuditSummary) -> list[str]:
    """What is odd about the photos, or the model on them."""
    lines, count, empty = [], table.height, int(table["empty"].sum())
    if empty:
        lines.append(f"{empty} of {count} maps are empty or equal everywhere and could not be judged.")
    right = table["correct"].drop_nulls().cast(pl.Float64).to_list()
    if right and (accuracy := sum(right) / len(right)) < 0.5:
        lines.append(
            f"The model gets {1 - accuracy:.0%} of these photos wrong: whether its explanations are honest "
            "matters less than that, and thresholds come from networks that were mostly right."
        )
    if table["target"].n_unique() == 1 and count > 1:
        lines.append("All photos are taken for one class; photos of several classes say more.")
    if summary.thresholds.photo is not None and summary.verdict != TOO_FEW:
        low = int((table["trust"].cast(pl.Float64) < summary.thresholds.photo).sum())
        lines.append(
            f"{low} photos disagree with the witness more than 19 of 20 honest photos do (by chance {count / 20:.0f}): "
            "the first places of the list are where a trigger would stand."
        )
    return lines


def _beside_others(summary: AuditSummary) -> list[str]:
    """What differs from the reference and from the baseline."""
    lines = []
    if (found := summary.reference) is not None:
        known = ", ".join(f"{name} {rate:.0%}" for name, rate in found.rates.items())
        lines.append(f"Same predictions as the reference on {found.agreement:.0%}; fooling success rates: {known}.")
        lines.append(describe_moves(found.layers))
    if (drift := summary.drift) is not None:
        lines.append(f"Since the baseline the maps of {drift.count} photos moved by a MOD of {drift.mod:.3f}.")
    return lines
