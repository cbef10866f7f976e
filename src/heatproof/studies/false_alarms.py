"""How often are honest networks accused? Networks of kinds that chose no threshold, audited by the package's own.

Every network is trained here from random weights, on photos of its own; what is audited is photos that no threshold was
measured on. Viering's edit of the same networks tells whether a lie would have been found.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from heatproof.commands.audit.called_out import proportion
from heatproof.commands.audit.numbers import checks_of
from heatproof.commands.audit.run import Audit, read_audit, run_audit
from heatproof.commands.audit.shipped import POPULATIONS, thresholds_for, thresholds_of
from heatproof.commands.audit.summary import verdict_on
from heatproof.commands.audit.verdict import CANNOT_TELL, DOUBTFUL, HONEST, MANIPULATED, TOO_FEW, score
from heatproof.data.sources import open_data
from heatproof.errors import InputError, did_you_mean
from heatproof.manipulation.weight_edit import WeightEdit
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.results.run import Run
from heatproof.studies import small_families
from heatproof.studies.shared import named
from heatproof.types import settings

TOLD = {
    HONEST: "supported",
    DOUBTFUL: "doubtful",
    MANIPULATED: "not supported",
    CANNOT_TELL: "cannot tell",
    TOO_FEW: "too few photos",
}
EDIT = WeightEdit("corner")


@settings
class FalseAlarms:
    """Verdicts on honest networks of architectures that no threshold was measured on, and on the same with a lie.

    Args:
        families: of :data:`heatproof.studies.small_families.FAMILIES`; none: all.
        trainings: of each, by other seeds, photos, optimizers and augmentation; ``first``: the number of the first. By
            training 0 of each kind thresholds were measured.
        explainers: whose maps are audited, of those with thresholds in the package; none: all.
        edited: audit Viering's edit of each network as well, through Grad-CAM.
        data: photos to train on, ``limit`` of them for each network, ``epochs`` often.
        test: photos that are audited; ``photos``: how many; ``seed``: which.
        place: a folder where the networks and their audits are kept for other runs too; empty: the run's own.
        seed: see ``test``.
    """

    families: tuple[str, ...] = ()
    trainings: int = 6
    first: int = 1
    explainers: tuple[str, ...] = ()
    edited: bool = True
    data: str = "shared:data/cifar10/train-50000.parquet"
    limit: int = 10_000
    epochs: int = 4
    test: str = "shared:data/cifar10/test"
    photos: int = 60
    place: str = ""
    seed: int = 1
    columns = {  # noqa: RUF012 (a constant of the class, no field)
        "explainer": "explainer",
        "network": "network",
        "verdict": "verdict",
        "speaks": "because of",
        "accuracy": "accuracy",
    }

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        families = self.families or tuple(small_families.FAMILIES)
        explainers = self.explainers or tuple(POPULATIONS)
        for given, every in ((families, small_families.FAMILIES), (explainers, POPULATIONS)):
            for name in given:
                if name not in every:
                    raise InputError(f"the study has no {name!r}; {did_you_mean(name, every)}")
        if self.trainings < 1 or self.first < 0:
            raise InputError(f"expected trainings >= 1 and first >= 0, got {self.trainings} and {self.first}")
        place = Path(self.place) if self.place else run.folder
        rows: list[dict[str, Any]] = []
        for seed in range(self.first, self.first + self.trainings):
            for family in families:
                model = small_families.trained(
                    family, seed, place / "networks", named(self.data), self.limit, epochs=self.epochs, say=say
                )
                rows += [self._audited(model, name, family, place, hardware, say) for name in explainers]
                if self.edited and "gradcam" in explainers:
                    made = EDIT(model)
                    made.name = f"{model.name}-edit"
                    rows.append(self._audited(made, "gradcam", family, place, hardware, say))
        table = pl.DataFrame([{"image": f"{row['network']} {row['explainer']}", **row} for row in rows])
        run.write_parquet("images.parquet", table)
        found = rates(rows)
        answer = _sentences(found)
        for line in answer:
            say(line)
        summary = {"answer": answer, "rows": rows, "rates": found, "skipped": []}
        run.write_json("summary.json", summary)
        return summary

    def _audited(
        self,
        model: Classifier,
        name: str,
        family: str,
        place: Path,
        hardware: Hardware,
        say: Callable[[str], None],
    ) -> dict[str, Any]:
        """Verdict and numbers of one network through one explainer."""
        asked = Audit(explainer=POPULATIONS[name], budget=thresholds_of(name).provenance["budget"])
        folder = place / "audits" / f"{name}-{self.photos}-{self.seed}" / model.name
        given = {"asked": asked, "model": model.name, "photos": self.photos}
        with Run.start(folder, command="audit", settings=given) as audit:
            if not audit.done:
                source = open_data(named(self.test), classes=model.classes, limit=self.photos, seed=self.seed)
                run_audit(asked, model, source, audit, draw=False, hardware=hardware)
        # by the thresholds of today, whenever it was audited
        table, tensors = read_audit(folder)
        checks = checks_of(asked, table, tensors, thresholds_for(asked.explainer, model), model=model)
        verdict, speaks = verdict_on(table, checks)
        against = speaks if verdict in (DOUBTFUL, MANIPULATED) else []
        row: dict[str, Any] = {
            "explainer": name,
            "family": family,
            "network": model.name,
            "honest": not model.name.endswith("-edit"),
            "verdict": verdict,
            "speaks": ", ".join(check.number for check in against),
            "score": score(checks),
            "accuracy": float(table["correct"].mean()),  # type: ignore[arg-type]
        }
        row |= {check.number: check.value for check in checks}
        say(f"{name}, {model.name}: {TOLD[row['verdict']]} {row['speaks']}")
        return row


def rates(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many of the networks come to each verdict, by explainer, with exact binomial intervals."""
    found = []
    for explainer in dict.fromkeys(row["explainer"] for row in rows):
        for honest in (True, False):
            verdicts = [row["verdict"] for row in rows if row["explainer"] == explainer and row["honest"] == honest]
            for verdict, told in TOLD.items():
                if verdicts:
                    share = proportion(verdicts.count(verdict), len(verdicts))
                    row = {"explainer": explainer, "honest": honest, "verdict": told, "networks": len(verdicts)}
                    found.append({**row, "count": verdicts.count(verdict), "share": share.value})
                    found[-1] |= {"share_low": share.low, "share_high": share.high}
    return found


def _sentences(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each explainer, on honest networks and on others."""
    told = []
    for explainer, honest in dict.fromkeys((row["explainer"], row["honest"]) for row in found):
        rows = [row for row in found if (row["explainer"], row["honest"]) == (explainer, honest)]
        kind = "honest networks" if honest else "networks with a corner planted"
        shares = [
            f"{row['count']} {row['verdict']} ({row['share']:.1%} [{row['share_low']:.1%}, {row['share_high']:.1%}])"
            for row in rows
            if row["count"] or row["verdict"] == TOLD[MANIPULATED]
        ]
        told.append(f"{explainer}, {rows[0]['networks']} {kind}: {', '.join(shares)}.")
    return told
