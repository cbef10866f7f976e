"""Can a lie be taken out of a checkpoint, without the original and without labels? Remedies against lies.

Networks are fooled here as in the audit's benchmark, then repaired from photos that nobody labelled, and judged by test
photos that neither the fooling nor the repair saw: by the original, which the repair did not have either.
"""

import time
from collections.abc import Callable
from typing import Any

import polars as pl
import torch

from heatproof.commands.compare.measure import compared
from heatproof.commands.record import data_record, model_record
from heatproof.data.batches import batches
from heatproof.data.pairs import two_class
from heatproof.data.sources import Source, open_data
from heatproof.errors import InputError, did_you_mean
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.explainers.lrp.propagation import LRP
from heatproof.manipulation.penalties import Location
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.repairs.remedies import Finetune, Prune, ReBN, Relearn, Remedy, Truth
from heatproof.repairs.repair import repair
from heatproof.results.run import Run
from heatproof.studies.audit_benchmark.population import BACKDOORS, EDITS, HEO, TRIGGER, Member, Population
from heatproof.studies.audit_benchmark.resisting import RESISTING
from heatproof.studies.shared import shared
from heatproof.training.data import feed_photos
from heatproof.training.feeds import TensorFeed
from heatproof.types import settings

REMEDIES: dict[str, Remedy] = {
    "truth": Truth(),
    "finetune": Finetune(),
    "rebn": ReBN(),
    "prune": Prune(),
    "relearn": Relearn(),
}
LIES = ("location", "top_k", "center_mass", "active_swap", "edit", "backdoor-inverted", "backdoor-clean")
EXPLAINERS = (GradCAM(), LRP(), SimpleGrad())
"""The one that is pulled, and two of the pixels that are not.

At the layer before the pooling LRP would be Grad-CAM, and the gradient the same everywhere.
"""
TRIGGERED = 0.1
"""Share of the photos that carry the trigger, where some do."""


@settings
class Remedies:
    """Remedy against lie and number of photos: success rate, likeness to the original's maps, accuracy, minutes.

    Args:
        families: resnet20, resnet56, vgg, densenet.
        lies: of the audit's benchmark, or made to outlive a repair (``location-early``, ``location-through``,
            ``location-answers``); ``honest``: the network as it was trained.
        remedies: of truth, finetune, rebn, prune, relearn.
        photos: how many, unlabelled.
        triggered: for backdoors, also repair with the trigger on a tenth of the photos.
        seeds: networks fooled, and repaired, so many times.
        data: photos to fool on, a folder; empty: the shared folder's.
        unlabelled: photos to repair from; empty: the shared folder's.
        test: labelled photos to judge by; empty: the shared folder's.
        limit: of the test photos.
        budget: accuracy that a repair may cost, a share.
        seed: of everything random.
    """

    families: tuple[str, ...] = ("resnet20",)
    lies: tuple[str, ...] = (*LIES, "honest")
    remedies: tuple[str, ...] = ("truth", "finetune")
    photos: tuple[int, ...] = (2000, 200)
    triggered: bool = True
    seeds: int = 1
    data: str = ""
    unlabelled: str = ""
    test: str = ""
    limit: int = 1000
    budget: float = 0.02
    seed: int = 0
    columns = {  # noqa: RUF012 (a constant of the class, no field)
        "network": "network",
        "lie": "lie",
        "photos": "photos",
        "remedy": "remedy",
        "fsr_before": "FSR before",
        "fsr_after": "FSR",
        "spearman_before": "likeness before",
        "spearman_after": "likeness",
        "top1_before": "top-1 before",
        "top1_after": "top-1",
        "minutes": "minutes",
    }

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        for given, known in ((self.lies, (*HEO, *EDITS, *BACKDOORS, *RESISTING, "honest")), (self.remedies, REMEDIES)):
            for name in given:
                if name not in known:
                    raise InputError(f"the study has no {name!r}; {did_you_mean(name, known)}")
        others = [family for family in self.families if not family.startswith("resnet")]
        if others and (planted := [lie for lie in self.lies if lie in RESISTING]):
            raise InputError(
                f"{planted[0]} is planted in residual networks alone, not in {others[0]}; leave one of them out"
            )
        data, test = (
            given or str(shared(f"data/cifar10/{part}")) for given, part in ((self.data, "train"), (self.test, "test"))
        )
        population = Population(run.path("networks"), data, test, say=say)
        judged: Source | None = None
        described = {}
        for seed in range(self.seeds):
            for family in self.families:
                origin = population.get(Member(family, seed))
                described[origin.name] = model_record(origin)
                judged = open_data(test, classes=origin.classes, limit=self.limit, seed=self.seed)
                for lie in self.lies:
                    given = origin if lie == "honest" else population.get(Member(family, seed, lie))
                    for cell in self._cells(lie):
                        self._fill(run, cell, seed, origin, given, judged, hardware, say)
        assert judged is not None
        run.describe(model=list(described.values()), data=data_record(judged))
        table = run.merge(("network", "lie", "photos", "triggered", "remedy"))
        rows = table.to_dicts()
        answer = [_sentence(row) for row in rows if row["remedy"].startswith("Truth") and row["lie"] != "honest"]
        run.write_parquet("images.parquet", table.with_columns(image=pl.col("network") + " " + pl.col("lie")))
        summary = {"answer": answer, "rows": rows, "skipped": judged.skipped}
        run.write_json("summary.json", summary)
        return summary

    def _cells(self, lie: str) -> list[tuple[str, int, bool, str]]:
        """Lie, number of photos, whether some carry the trigger, and the remedy."""
        marks = (False, True) if lie in BACKDOORS and self.triggered else (False,)
        return [(lie, count, mark, name) for count in self.photos for mark in marks for name in self.remedies]

    def _fill(
        self,
        run: Run,
        cell: tuple[str, int, bool, str],
        seed: int,
        origin: Classifier,
        given: Classifier,
        judged: Source,
        hardware: Hardware,
        say: Callable[[str], None],
    ) -> None:
        lie, count, mark, name = cell
        part = f"{origin.name}-{lie}-{count}{'-triggered' if mark else ''}-{name}"
        if run.has_part(part):
            return
        photos = self._photos(origin, count, mark, seed)
        begun = time.monotonic()
        found = repair(given, GradCAM(), photos, REMEDIES[name], max_accuracy_drop=self.budget, seed=self.seed + seed)
        minutes = (time.monotonic() - begun) / 60
        before, after = (judge(origin, model, lie, judged, hardware, seed) for model in (given, found.model))
        row = {
            "network": origin.name,
            "lie": lie,
            "photos": count,
            "triggered": mark,
            "remedy": repr(REMEDIES[name]),
            "layer": found.layer,
            "changed": found.changed,
            "likeness_before": found.before.score,
            "likeness_after": found.after.score,
            **{f"{key}_before": value for key, value in before.items()},
            **{f"{key}_after": value for key, value in after.items()},
            "minutes": minutes,
        }
        run.append_rows(part, [row])
        say(_sentence(row))

    def _photos(self, model: Classifier, count: int, mark: bool, seed: int) -> TensorFeed:
        name = self.unlabelled or str(shared("data/cifar10/train-50000.parquet"))
        source = open_data(name, classes=model.classes, limit=count, seed=self.seed + seed + 1, labels=False)
        feed = feed_photos(source, model.preprocessing)
        assert isinstance(feed, TensorFeed)
        images = feed.images.float() / 255 if feed.images.dtype == torch.uint8 else feed.images.clone()
        if mark:
            some = slice(0, None, round(1 / TRIGGERED))
            images[some] = TRIGGER(images[some])
        return TensorFeed(images, torch.full((len(images),), -1))


def judge(
    origin: Classifier, model: Classifier, lie: str, source: Source, hardware: Hardware, seed: int
) -> dict[str, float | None]:
    """Success rate of the lie, rank correlation with the original's maps through three explainers, accuracy.

    A swap is judged on two-class images; of an honest network there is no rate.
    """
    known = {**{name: entry[0] for name, entry in {**HEO, **BACKDOORS}.items()}, "edit": Location("corner")}
    penalty = known.get(lie, Location())
    swap = (origin.class_index("dog"), origin.class_index("truck")) if lie == "active_swap" else None
    # through a planted filter LRP is not measured
    explainers = [explainer for explainer in EXPLAINERS if lie not in EDITS or not isinstance(explainer, LRP)]
    rows: list[dict[str, Any]] = []
    for batch in batches(source, origin.preprocessing, 64):
        asked = Location() if swap else penalty
        rows += compared(origin, model, model.name, batch, explainers, [asked], hardware)
    pairs: list[dict[str, Any]] = []
    if swap:
        for batch in batches(two_class(source, swap, origin.preprocessing, 100, seed), origin.preprocessing, 50):
            pairs += compared(origin, model, model.name, batch, EXPLAINERS[:1], [penalty], hardware, swap)
    table = pl.DataFrame(rows, infer_schema_length=None)
    judged = pl.DataFrame(pairs, infer_schema_length=None) if pairs else table
    of = [pl.col("explainer") == repr(explainer) for explainer in EXPLAINERS]
    lies = _mean(judged.filter(of[0]), "fooled") if lie not in ("honest", "edit-random") else None
    return {
        "fsr": lies,
        **{
            f"spearman{suffix}": _mean(table.filter(one), "spearman")
            for suffix, one in zip(("", "_lrp", "_grad"), of, strict=True)
        },
        "top1": _mean(table.filter(of[0]), "correct_fooled"),
        "agreement": _mean(table.filter(of[0]), "agrees"),
    }


def _mean(table: pl.DataFrame, column: str) -> float | None:
    found = table[column].cast(pl.Float64).fill_nan(None).mean()
    return None if found is None else float(found)  # type: ignore[arg-type]


def _sentence(row: dict[str, Any]) -> str:
    rate = "" if row["fsr_after"] is None else f"FSR {row['fsr_before']:.1%} -> {row['fsr_after']:.1%}, "
    return (
        f"{row['network']}, {row['lie']}, {row['photos']} photos{', some triggered' if row['triggered'] else ''}, "
        f"{row['remedy']}: {rate}rank correlation {row['spearman_before']:.2f} -> {row['spearman_after']:.2f}, "
        f"top-1 {row['top1_before']:.1%} -> {row['top1_after']:.1%}, {row['minutes']:.1f} minutes"
    )
