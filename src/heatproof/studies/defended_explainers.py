"""What do defended explainers withstand? Noise, an attacker who does not know the defence, and one who does.

Rows that are alike but for their settings are tried on photos of their own; only the settings chosen there are judged,
on other photos. A setting may be chosen that keeps the map's faithfulness (AOPC) within a tenth of the plain map's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import polars as pl
import torch

from heatproof.attacks.gradient import PGD
from heatproof.attacks.noise import RandomSign
from heatproof.attacks.objectives import move_heatmap
from heatproof.commands.passes import counting
from heatproof.commands.photos import open_photos
from heatproof.commands.record import data_record, model_record
from heatproof.data.batches import batches
from heatproof.defences.aggregate import Aggregate
from heatproof.defences.certified_pixels import CertifiedPixels
from heatproof.defences.contrast import Contrast, OneSided
from heatproof.defences.median import MedianOfNoisy
from heatproof.defences.smoothed import Smoothed
from heatproof.defences.softplus import Softplus
from heatproof.defences.sparsified import Sparsified
from heatproof.defences.tangent import Tangent
from heatproof.errors import InputError, did_you_mean
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.explainers.guided import GuidedBackprop
from heatproof.manipulation.penalties import TopK
from heatproof.metrics.faithfulness import AOPC
from heatproof.metrics.similarity import nissim, spearman, topk_intersection
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.results.run import Run
from heatproof.results.table import summarise
from heatproof.studies.shared import named
from heatproof.types import Explainer, Explanation, Images, PerImage, redrawn, settings

ATTACKS = ("noise", "naive", "knowing", "seeing")
METRICS = ("topk_intersection", "spearman", "nissim", "kept", "aopc", "certified", "passes")
FAITHFUL = 0.9
"""A setting may be chosen whose AOPC is at least this share of the plain map's."""


class Defence(NamedTuple):
    """A defence to be tried.

    Attributes:
        family: of settings, of which one is judged.
        explainer: with its settings; a tangent space's photos are the study's.
        soft: the attacker climbs on softplus copies: the map is a gradient of ReLUs.
    """

    family: str
    explainer: Explainer
    soft: bool = True

    @property
    def text(self) -> str:
        return repr(self.explainer)


PIXELS, CAM = SimpleGrad(), GradCAM()
DEFENCES: Mapping[str, Sequence[Defence]] = {
    "simple_grad": (
        Defence("plain", PIXELS),
        *(Defence("smoothed", Smoothed(PIXELS, n=32, sigma=sigma)) for sigma in (0.08, 0.12)),
        *(Defence("softplus", Softplus(PIXELS, beta), soft=False) for beta in (0.7, 1.0, 1.4)),
        Defence("contrast", Contrast(PIXELS)),
        Defence("aggregate", Aggregate((PIXELS, OneSided(GuidedBackprop(), "magnitude"), CAM))),
        Defence("tangent", Tangent(PIXELS)),
        Defence("median of noisy", MedianOfNoisy(PIXELS, n=16, sigma=0.05)),
        Defence("certified pixels", CertifiedPixels(PIXELS, n=24, sigma=0.08, tau=0.6, alpha=0.05)),
        Defence("sparsified", Sparsified(PIXELS, n=24, sigma=0.08, keep=0.25, flat=0.05, radius=0.005)),
        Defence("smoothed, uniform", Smoothed(PIXELS, n=16, sigma=0.1, noise="uniform")),
    ),
    "gradcam": (
        Defence("plain", CAM, soft=False),
        Defence("contrast", Contrast(CAM), soft=False),
        *(Defence("smoothed", Smoothed(CAM, n=16, sigma=sigma), soft=False) for sigma in (0.03, 0.1)),
        Defence("softplus", Softplus(CAM, 1.4), soft=False),
    ),
}
"""By the plain explainer that they defend."""


@settings
class DefendedExplainers:
    """Defence x attack on the maps of one network: overlap, rank correlation, NISSIM, AOPC and passes.

    ``naive`` is PGD against the plain explainer's top-k cells, judged by the defended map; ``knowing`` climbs the
    defended map itself, with noise drawn anew in every step and through the surrogate of votes; ``seeing`` knows the
    very draw of the noise (the seed) as well. A defence without noise has no ``seeing``.

    Args:
        model: as ``--model`` takes it; ``shared:`` lies in the shared folder.
        data: labelled or not; photos that choose and photos that judge are drawn apart.
        photos: for the tangent space, other photos still.
        plain: explainers that are defended, of :data:`DEFENCES`.
        choose, judge: so many photos.
        epsilon, steps: of PGD in l-infinity.
        region, removals: of AOPC.
        seed: of the photos and attacks.
    """

    model: str = "shared:weights/zoo.py:resnet20"
    data: str = "shared:data/cifar10/test"
    photos: str = "shared:data/cifar10/train"
    plain: tuple[str, ...] = tuple(DEFENCES)
    choose: int = 16
    judge: int = 24
    epsilon: float = 4 / 255
    steps: int = 10
    region: int = 4
    removals: int = 20
    seed: int = 0
    columns = {  # noqa: RUF012 (a constant of the class, no field)
        "plain": "of",
        "family": "defence",
        "attack": "attack",
        "topk_intersection": "top-k overlap",
        "spearman": "rank correlation",
        "nissim": "NISSIM",
        "kept": "class kept",
        "aopc": "AOPC",
        "passes": "passes",
        "explainer": "settings",
    }
    presets = {  # noqa: RUF012
        "demo": {
            "model": "demo",
            "data": "demo",
            "photos": "demo/train",
            "choose": 4,
            "judge": 8,
            "steps": 5,
            "region": 8,
        },
    }

    def __post_init__(self) -> None:
        for plain in self.plain:
            if plain not in DEFENCES:
                raise InputError(f"no defences of {plain!r} are known; {did_you_mean(plain, DEFENCES)}")

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        model = hardware.host(load(named(self.model)))
        parts, source = self._parts(model)
        for plain in self.plain:
            defences = DEFENCES[plain]
            found: dict[str, list[dict[str, Any]]] = {}
            for defence in defences:
                rivals = [one for one in defences if one.family == defence.family]
                if len(rivals) > 1 or defence.family == "plain":
                    cell = Cell(self, "choose", plain, defence, ("knowing",))
                    found[defence.text] = cell.rows(run, model, hardware.bring(parts["choose"]), say)
            for family in dict.fromkeys(one.family for one in defences):
                members = [one for one in defences if one.family == family]
                defence = members[0] if len(members) == 1 else chosen(members, found, plain)
                cell = Cell(self, "judge", plain, defence, ATTACKS if is_noisy(defence) else ATTACKS[:-1])
                cell.rows(run, model, hardware.bring(parts["judge"]), say)
        run.describe(model=[model_record(model)], data=data_record(source))
        table = run.merge()
        rows = [row.plain() for row in summarise(table, ["part", "plain", "family", "explainer", "attack"], METRICS)]
        rows.sort(key=lambda row: row["part"] != "judge")
        answer = [*answers(rows)]
        for line in answer:
            say(line)
        summary = {"answer": answer, "rows": rows, "skipped": source.skipped}
        run.write_json("summary.json", summary)
        return summary

    def _parts(self, model: Classifier) -> tuple[dict[str, Images], Any]:
        """The photos that choose and those that judge: no photo is both."""
        source = open_photos(
            model, named(self.data), limit=self.choose + self.judge, seed=self.seed, labels_needed=False
        )
        images = torch.cat([batch.images for batch in batches(source, model.preprocessing, 64)])
        if len(images) < self.choose + self.judge:
            raise InputError(
                f"{self.choose} photos to choose by and {self.judge} to judge by were asked for, "
                f"and there are {len(images)}"
            )
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.seed))
        return {"choose": images[order[: self.choose]], "judge": images[order[self.choose :]]}, source


class Cell(NamedTuple):
    """One defence on one part of the photos."""

    asked: DefendedExplainers
    part: str
    plain: str
    defence: Defence
    attacks: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the part of the run that holds its rows."""
        of, place = list(DEFENCES).index(self.plain), list(DEFENCES[self.plain]).index(self.defence)
        return f"{self.part}-{of}-{place:02d}"

    def rows(self, run: Run, model: Classifier, images: Images, say: Callable[[str], None]) -> list[dict[str, Any]]:
        """A row per photo and attack; those of a run that was stopped are read again."""
        if not run.has_part(self.name):
            rows = list(self._measured(model, images))
            run.append_rows(self.name, rows)
            overlap = [row["topk_intersection"] for row in rows if row["attack"] == self.attacks[-1]]
            say(f"{self.part}: {self.defence.text}: overlap {sum(overlap) / len(overlap):.3f} under the last attack")
        return pl.read_parquet(run.folder / "parts" / f"{self.name}.parquet").to_dicts()

    def _measured(self, model: Classifier, images: Images) -> Any:
        asked = self.asked
        explainer = with_photos(self.defence.explainer, named(asked.photos))
        with counting(model) as passes:
            clean = explainer(model, images)
        spent = (passes.forward + passes.backward) / len(images)
        aopc = AOPC(region=asked.region, steps=asked.removals)(model, images, clean.heatmaps, clean.targets)
        for attack in ("none", *self.attacks):
            moved = images if attack == "none" else self._attacked(attack, explainer, model, images)
            found = clean if attack == "none" else explainer(model, moved, clean.targets)
            yield from self._rows(attack, model, clean, found, aopc, spent)

    def _attacked(self, attack: str, explainer: Explainer, model: Classifier, images: Images) -> Images:
        asked = self.asked
        if attack == "noise":
            return RandomSign(asked.epsilon, seed=asked.seed)(lambda images: images.sum((1, 2, 3)), images)
        plain = DEFENCES[self.plain][0]
        climbed = plain.explainer if attack == "naive" else explainer
        soft = plain.soft if attack == "naive" else self.defence.soft
        if attack == "seeing":
            # votes through their surrogate, with the draw as it is
            climbed = redrawn(climbed, 0)
        goal = move_heatmap(
            model,
            explainer if attack != "naive" else climbed,
            TopK(),
            through=climbed if attack == "seeing" else None,
            betas=(10, 100) if soft else None,
            draws=1 if attack == "knowing" else 0,
        )
        return PGD(asked.epsilon, asked.steps, seed=asked.seed)(goal, images)

    def _rows(
        self, attack: str, model: Classifier, clean: Explanation, found: Explanation, aopc: PerImage, spent: float
    ) -> Any:
        measured = {
            "topk_intersection": topk_intersection(clean.heatmaps, found.heatmaps),
            "spearman": spearman(clean.heatmaps, found.heatmaps),
            "nissim": nissim(clean.heatmaps, found.heatmaps, size=model.input_size),
            "kept": found.logits.argmax(1) == clean.targets,
            "aopc": aopc,
        }
        share = found.certificate.share.tolist() if found.certificate is not None else None
        values = {name: value.tolist() for name, value in measured.items()}
        for place in range(len(clean.targets)):
            yield {
                "image": f"{self.part} {place}",
                "part": self.part,
                "plain": self.plain,
                "family": self.defence.family,
                "explainer": self.defence.text,
                "attack": attack,
                **{name: value[place] for name, value in values.items()},
                "certified": None if share is None else float(share[place]),
                "passes": spent,
            }


def is_noisy(defence: Defence) -> bool:
    """Whether the map is one draw of many."""
    return redrawn(defence.explainer, 1) != redrawn(defence.explainer, 0)


def with_photos(explainer: Explainer, photos: str) -> Explainer:
    """The explainer; a tangent space is that of these photos."""
    return replace(explainer, photos=photos) if isinstance(explainer, Tangent) else explainer


def chosen(members: Sequence[Defence], found: Mapping[str, list[dict[str, Any]]], plain: str) -> Defence:
    """The setting that withstands the knowing attacker best among those that are faithful; else the most faithful."""

    def mean(text: str, column: str) -> float:
        values = [row[column] for row in found[text] if row["attack"] != "none" and row[column] is not None]
        return sum(values) / max(len(values), 1)

    enough = FAITHFUL * mean(DEFENCES[plain][0].text, "aopc")
    faithful = [one for one in members if mean(one.text, "aopc") >= enough]
    if not faithful:
        return max(members, key=lambda one: mean(one.text, "aopc"))
    return max(faithful, key=lambda one: mean(one.text, "topk_intersection"))


def answers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each defence, what the knowing attacker leaves of it beside the plain map."""
    judged = {(row["plain"], row["family"], row["attack"]): row for row in rows if row["part"] == "judge"}
    sentences = []
    for (plain, family, attack), row in judged.items():
        if attack != "knowing" or family == "plain":
            continue
        base = judged[plain, "plain", "knowing"]
        naive, seeing = judged[plain, family, "naive"], judged.get((plain, family, "seeing"))
        seen = f", {seeing['topk_intersection']:.2f} under one who knows the draw" if seeing else ""
        sentences.append(
            f"{family} of {plain}: overlap {row['topk_intersection']:.2f} under the knowing attacker{seen} "
            f"({naive['topk_intersection']:.2f} under the naive one; the plain map {base['topk_intersection']:.2f}), "
            f"AOPC {row['aopc']:.3f} ({base['aopc']:.3f}), {row['passes']:.0f} passes."
        )
    return sentences
