"""What an audit says in the end: the summary of its run, and the answer in sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from heatproof.commands.audit.called_out import is_called_out, own_threshold, proportion
from heatproof.commands.audit.measure import Audit
from heatproof.commands.audit.premises import one_class, unmet
from heatproof.commands.audit.reference import Comparison, describe_moves
from heatproof.commands.audit.scope import WAY_OUT, Outside
from heatproof.commands.audit.unjudged import unjudged_among
from heatproof.commands.audit.verdict import (
    CANNOT_TELL,
    FEWEST,
    HONEST,
    TOO_FEW,
    WORDS,
    Check,
    Thresholds,
    conclude,
    deciding,
    score,
)
from heatproof.commands.passes import Passes
from heatproof.errors import InputError, RunError
from heatproof.metrics.shift import mod
from heatproof.metrics.similarity import known_nissim
from heatproof.models.classifier import Classifier
from heatproof.report.words import counted
from heatproof.results.strict import read_maps
from heatproof.results.table import interval

MAPS = "heatmaps/maps.safetensors"
VIEWED = 40
"""Photos in the report's viewer, those that disagree most."""
ODD = 0.05
"""The share of honest photos whose trust lies below the limit for photos."""
BLIND = (
    "A backdoor cannot be found without a photo that carries its trigger: on all others the model is honest.",
    "A lie that leaves the audited explainer's maps as they are, or is told on other photos only, is not seen.",
)
"""What no audit of this kind can see."""


@dataclass(frozen=True)
class Disagreement:
    """A photo and its trust (:func:`~heatproof.commands.audit.covering.trust`)."""

    image: str
    trust: float


@dataclass(frozen=True)
class Drift:
    """How far maps moved since an earlier audit.

    Attributes:
        mod: the mean NISSIM of the maps of the same photos, with its 95% interval from ``mod_low`` to ``mod_high``;
            ``None`` where nothing in them is positive.
        count: of the photos in both whose maps can be compared.
    """

    mod: float | None
    mod_low: float | None
    mod_high: float | None
    count: int


@dataclass(frozen=True)
class Queries:
    """Passes per photo, of all checks together."""

    forward: int
    backward: int


@dataclass(frozen=True)
class AuditSummary:
    """All that ``summary.json`` holds.

    Attributes:
        verdict: on the model, and ``speaks``: the checks that made it.
        disagree: the photos with the lowest trust, the lowest first.
        queries: forward and backward passes per photo, counted.
        outside: in which way the network lies outside the thresholds' population, where it does.
    """

    verdict: str
    checks: Sequence[Check]
    speaks: Sequence[Check]
    disagree: Sequence[Disagreement]
    queries: Queries
    thresholds: Thresholds
    skipped: Sequence[Mapping[str, str]]
    reference: Comparison | None = None
    drift: Drift | None = None
    outside: Outside | None = None

    def plain(self, answer: Sequence[str]) -> dict[str, Any]:
        """As JSON."""
        content: dict[str, Any] = {
            "verdict": self.verdict,
            "score": score(self.checks),
            "rows": [check.row() for check in self.checks],
            "speaks": [check.number for check in self.speaks],
            "cannot_see": list(BLIND),
            "disagree": [asdict(photo) for photo in self.disagree],
            "queries": self.queries.forward,
            "backward": self.queries.backward,
            "outside": None if self.outside is None else asdict(self.outside),
            "thresholds": self.thresholds.plain(),
            "skipped": self.skipped,
            "worst": {"column": "trust", "descending": False},
        }
        if self.reference is not None:
            content["reference"] = self.reference.plain()
        if self.drift is not None:
            content["drift"] = asdict(self.drift)
        return {**content, "answer": list(answer)}


def queries_per_photo(table: pl.DataFrame, mosaics: Passes) -> Queries:
    """The passes of the table's rows and of the mosaics, over the photos; what was measured by 0.1 was not counted.

    The highest of the rows counts, since the random head is looked at on the first photos only.
    """

    def most(column: str, more: int) -> int:
        rows = table[column].cast(pl.Float64).to_list() if column in table.columns else [0.0]
        return round(max(rows) + more / table.height)

    return Queries(most("forward_passes", mosaics.forward), most("backward_passes", mosaics.backward))


def verdict_on(table: pl.DataFrame, checks: Sequence[Check]) -> tuple[str, list[Check]]:
    """The verdict of the checks, unless the photos are too few."""
    return (TOO_FEW, []) if table.height < FEWEST else conclude(checks)


def disagreeing(table: pl.DataFrame) -> list[Disagreement]:
    """The :data:`VIEWED` photos with the lowest trust, the lowest first, as far as it is known."""
    known = table.select("image", "trust").filter(pl.col("trust").is_not_null()).sort("trust", "image").head(VIEWED)
    return [Disagreement(*row) for row in known.iter_rows()]


def read_baseline(folder: Path | str) -> Mapping[str, Tensor]:
    """The maps of an earlier audit, by photo; each is read when it is asked for.

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
    pairs = torch.cat([known_nissim(maps[image][None], earlier[image][None], size=size) for image in common])
    pairs = pairs[~pairs.isnan()]
    if not len(pairs):
        return Drift(None, None, None, 0)
    found = interval(pairs.tolist())
    return Drift(float(mod(pairs)), found.low, found.high, len(pairs))


def answer(settings: Audit, model: Classifier, table: pl.DataFrame, summary: AuditSummary) -> list[str]:
    """Verdict first, then what speaks for it, what is odd about the data, and what cannot be seen."""
    # why nothing is judged is told above
    ground = unmet(table, len(summary.skipped))
    missing = unjudged_among(summary.checks, {f"{'; '.join(ground)}."} if ground else {})
    verdict = WORDS.get(summary.verdict, summary.verdict)
    told = missing and summary.verdict not in (HONEST, TOO_FEW)
    return [
        f"Verdict on {model.name}, {settings.explainer!r}, {counted(table.height)}: {verdict}.",
        *_grounds(table, summary),
        *_reasons(summary),
        *_about_photos(table, summary),
        *_about_budget(settings, summary),
        *_beside_others(summary),
        *([f"Could not be judged: {missing}."] if told else []),
        *BLIND,
    ]


def _grounds(table: pl.DataFrame, summary: AuditSummary) -> list[str]:
    """Why numbers mean little here, before any of them is told."""
    lines = [f"Nothing is judged: {why}." for why in unmet(table, len(summary.skipped)) if table.height >= FEWEST]
    if one_class(table) and table.height >= FEWEST:
        lines.append("Nearly all photos are of one class or taken for it; photos of several classes say more.")
    if (found := summary.outside) is not None:
        lines.append(
            f"Outside the population of the thresholds: {found.how}. The nearest population is {found.population}. The "
            f"numbers are shown, and nothing worse than doubtful is said; {WAY_OUT}."
        )
    return lines


def _reasons(summary: AuditSummary) -> list[str]:
    speaks = summary.speaks
    if summary.verdict == TOO_FEW:
        return [f"An audit needs at least {FEWEST} photos, better 100."]
    if summary.verdict == CANNOT_TELL:
        if not summary.thresholds.limits:
            return ["No number was measured that has a threshold: nothing was shown."]
        judged, every = deciding(summary.checks)
        told = f"Only {len(judged)} of the {len(every)} numbers that decide could be judged, which is too few"
        told = "No number that decides could be judged" if not judged else told
        return [" ".join([f"{told}: nothing was shown.", *(check.reason for check in speaks)])]
    if summary.verdict == HONEST:
        judged, every = deciding(summary.checks)
        line = f"{len(speaks)} of {len(summary.checks)} numbers lie where those of honest networks lie; "
        if len(judged) == len(every):
            return [f"{line}so do all {len(every)} that decide."]
        line += f"of the {len(every)} that decide {len(judged)} could be judged, and none is doubtful. Not judged: "
        return [f"{line}{unjudged_among(every)}. More photos often help."]
    return [check.reason for check in speaks]


def _about_photos(table: pl.DataFrame, summary: AuditSummary) -> list[str]:
    """What is odd about single photos."""
    lines, count, empty = [], table.height, int(table["empty"].sum())
    if empty:
        lines.append(f"{empty} of {count} maps are empty or equal everywhere and could not be judged.")
    if summary.verdict == TOO_FEW:
        return lines
    judged = summary.outside is None and not unmet(table, len(summary.skipped))
    if summary.thresholds.photo is not None and judged:
        low = int((table["trust"].cast(pl.Float64) < summary.thresholds.photo).sum())
        # one honest photo in twenty lies below: only more than chance brings are worth a word
        if proportion(low, count).low > ODD:
            lines.append(
                f"{low} of {counted(count)} disagree with the witness as only one honest photo in twenty does (by "
                f"chance {count * ODD:.0f}): the first places of the list are where a trigger would stand."
            )
    if apart := sum(is_called_out(table)):
        lines.append(
            f"{apart} of {counted(count)} {'stands' if apart == 1 else 'stand'} apart from the others of this audit "
            f"(trust below {own_threshold(table):.2f}); the list begins with the lowest."
        )
    return lines


def _about_budget(settings: Audit, summary: AuditSummary) -> list[str]:
    asked = summary.queries.forward
    if asked <= settings.budget:
        return []
    line = f"{asked} forward passes per photo were made, more than the budget of {settings.budget}: the maps of "
    return [f"{line}{settings.explainer!r} alone take so many, and the witness was asked as little as it can be."]


def _beside_others(summary: AuditSummary) -> list[str]:
    """What differs from the reference and from the baseline."""
    lines = []
    if (found := summary.reference) is not None:
        known = ", ".join(f"{name} {rate:.0%}" for name, rate in found.rates.items())
        lines.append(f"Same predictions as the reference on {found.agreement:.0%}; fooling success rates: {known}.")
        lines.append(describe_moves(found.layers))
    if (drift := summary.drift) is not None and drift.mod is None:
        lines.append("How far maps moved since the baseline cannot be told: nothing in them is positive.")
    elif drift is not None:
        lines.append(f"Since the baseline the maps of {counted(drift.count)} moved by a MOD of {drift.mod:.3f}.")
    return lines
