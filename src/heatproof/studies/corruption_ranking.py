"""Which explainer holds still under fog, noise and JPEG? A published ranking, and what its measure gives for nothing.

The ranking is the mean cosine of a photo's map before and after each of ImageNet-C's corruptions. A cosine of maps that
were first put into [0, 1] is close to 1 for whatever maps have most cells at one value, and that of absolute values is
never small, so each explainer's maps of *different* photos are measured too: what the measure gives without likeness.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
from torch import Tensor

from heatproof.attacks.corruption import KINDS, SEVERITIES, Corruption
from heatproof.commands.photos import open_photos
from heatproof.commands.record import data_record, model_record
from heatproof.data.batches import batches
from heatproof.errors import InputError, did_you_mean
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import IntegratedGradients, SimpleGrad
from heatproof.explainers.lrp.propagation import LRP
from heatproof.heatmaps import normalise
from heatproof.metrics.similarity import spearman
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.results.run import Run
from heatproof.results.table import summarise
from heatproof.studies.shared import named
from heatproof.types import Explainer, Heatmaps, PerImage, settings

EXPLAINERS: Mapping[str, Explainer] = {
    "lrp": LRP(composite="epsilon"),
    "gradcam": GradCAM(),
    "integrated_gradients": IntegratedGradients(steps=50),
    "simple_grad": SimpleGrad(),
}
PUBLISHED = {"lrp": 0.994, "gradcam": 0.852, "integrated_gradients": 0.508}
"""The benchmark's own mean scores over CIFAR-10, Tiny ImageNet and COCO, of a plain and a robust ResNet-50 [code]."""
MEASURES = ("shifted", "absolute", "signed", "spearman")
OTHERS = {name: f"{name}_other" for name in MEASURES}
"""The same of maps of different photos."""


@settings
class CorruptionRanking:
    """Explainer x corruption: likeness of a photo's maps before and after, and of two photos' maps.

    Args:
        models: as ``--model`` takes them; ``shared:`` lies in the shared folder.
        data: photos; their labels are not asked.
        explainers: of :data:`EXPLAINERS`.
        kinds: of ImageNet-C's corruptions.
        severities: 1 to 5.
        limit: photos.
        seed: of the photos.
    """

    models: tuple[str, ...] = ("shared:weights/zoo.py:resnet20",)
    data: str = "shared:data/cifar10/test"
    explainers: tuple[str, ...] = ("lrp", "gradcam", "integrated_gradients", "simple_grad")
    kinds: tuple[str, ...] = KINDS
    severities: tuple[int, ...] = SEVERITIES
    limit: int = 20
    seed: int = 0
    columns = {  # noqa: RUF012 (a constant of the class, no field)
        "model": "model",
        "explainer": "explainer",
        "published": "published",
        "shifted": "cosine in [0, 1]",
        "shifted_other": "cosine in [0, 1], other photos",
        "absolute": "cosine of absolute values",
        "absolute_other": "cosine of absolute values, other photos",
        "signed": "cosine",
        "signed_other": "cosine, other photos",
        "spearman": "rank correlation",
        "spearman_other": "rank correlation, other photos",
    }
    presets = {  # noqa: RUF012
        "demo": {
            "models": ("demo",),
            "data": "demo",
            "explainers": ("lrp", "gradcam"),
            "kinds": ("fog", "jpeg_compression"),
            "severities": (1, 5),
            "limit": 6,
        },
    }

    def __post_init__(self) -> None:
        for given, known in ((self.explainers, EXPLAINERS), (self.kinds, KINDS)):
            for name in given:
                if name not in known:
                    raise InputError(f"the study has no {name!r}; {did_you_mean(name, known)}")
        for severity in self.severities:
            Corruption("fog", severity)

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        described, records, skipped = [], [], []
        for name in self.models:
            model = hardware.host(load(named(name)))
            described.append(model_record(model))
            source = open_photos(model, named(self.data), limit=self.limit, seed=self.seed, labels_needed=False)
            records.append(data_record(source))
            (batch,) = batches(source, model.preprocessing, self.limit)
            if len(batch.ids) < 2:
                raise InputError(f"{self.data}: maps of different photos are compared, so there must be two at least")
            for explainer in self.explainers:
                part = f"{model.name}-{explainer}"
                if not run.has_part(part):
                    run.append_rows(part, self._measured(model, explainer, batch.ids, batch.images, hardware))
                    say(f"{part}: {len(self.kinds) * len(self.severities)} corruptions of {len(batch.ids)} photos")
            skipped += source.skipped
        run.describe(model=described, data=records[0])
        table = run.merge(("model", "explainer", "kind", "severity", "image"))
        rows = summarised(table)
        answer = answers(rows)
        for line in answer:
            say(line)
        summary = {"answer": answer, "rows": rows, "skipped": skipped}
        run.write_json("summary.json", summary)
        return summary

    def _measured(
        self, model: Classifier, name: str, ids: Sequence[str], images: Tensor, hardware: Hardware
    ) -> list[dict[str, Any]]:
        """A row per photo, corruption and severity; the class is the one that the network saw in the clean photo."""
        explain = EXPLAINERS[name]
        clean = explain(model, hardware.bring(images))
        maps = clean.heatmaps.detach().cpu()
        apart = alike(maps, maps.roll(1, 0))
        rows: list[dict[str, Any]] = []
        for kind in self.kinds:
            for severity in self.severities:
                spoilt = Corruption(kind, severity, self.seed)(None, images)
                found = explain(model, hardware.bring(spoilt), clean.targets).heatmaps.detach().cpu()
                here = alike(maps, found)
                rows += [
                    {
                        "model": model.name,
                        "explainer": name,
                        "kind": kind,
                        "severity": severity,
                        "image": image,
                        **{measure: float(here[measure][index]) for measure in MEASURES},
                        **{OTHERS[measure]: float(apart[measure][index]) for measure in MEASURES},
                    }
                    for index, image in enumerate(ids)
                ]
        return rows


def alike(a: Heatmaps, b: Heatmaps) -> dict[str, PerImage]:
    """The cosine of maps put into [0, 1] by their least and largest cell, of absolute and of signed maps; Spearman's.

    A map that is the same everywhere, or empty, is like no other: NaN, where the benchmark counts 0.
    """
    unit = (normalise(maps, "minmax").flatten(1) for maps in (a, b))
    one, two = a.flatten(1), b.flatten(1)
    return {
        "shifted": _cosine(*unit),
        "absolute": _cosine(one.abs(), two.abs()),
        "signed": _cosine(one, two),
        "spearman": spearman(a, b),
    }


def _cosine(a: Tensor, b: Tensor) -> PerImage:
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def summarised(table: pl.DataFrame) -> list[dict[str, Any]]:
    """A row per network and explainer; whole photos are drawn, since one is in every corruption."""
    names = (*MEASURES, *OTHERS.values())
    clear = table.with_columns(pl.col(names).fill_nan(None))
    rows = [row.plain() for row in summarise(clear, ["model", "explainer"], names)]
    found = [{**row, "published": PUBLISHED.get(row["explainer"])} for row in rows]
    return sorted(found, key=lambda row: (row["model"], -(row["shifted"] or 0)))


def answers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each network the order by the published measure, and what is left of it where nothing is alike."""
    sentences: list[str] = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model and row["shifted"] is not None]
        order = " > ".join(f"{row['explainer']} {row['shifted']:.3f}" for row in own)
        other = ", ".join(f"{row['explainer']} {row['shifted_other']:.3f}" for row in own)
        ranks = sorted(own, key=lambda row: -(row["spearman"] or 0))
        by_rank = " > ".join(
            f"{row['explainer']} {row['spearman']:.2f}" for row in ranks if row["spearman"] is not None
        )
        sentences.append(
            f"{model}: by the cosine in [0, 1] {order}; two different photos' maps reach {other}; by ranks {by_rank}."
        )
    return sentences
