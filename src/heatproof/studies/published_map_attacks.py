"""Three published attacks on the maps of a photo, by this library's means: what papers say, and what comes out here.

Ghorbani et al. 2019 move what is important away from where it was, Dombrowski et al. 2019 make a photo's map that of
another photo, and Tamam et al. 2023 (AttaXAI) do so without gradients. All three keep the predicted class.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor, nn

from heatproof.attacks.balls import check_epsilon
from heatproof.attacks.black_box import NES
from heatproof.attacks.gradient import PGD
from heatproof.attacks.noise import RandomSign
from heatproof.attacks.objectives import Goal, move_heatmap
from heatproof.commands.photos import open_photos
from heatproof.commands.record import data_record, model_record
from heatproof.data.batches import batches
from heatproof.data.sources import Source
from heatproof.errors import InputError, did_you_mean
from heatproof.explainers.gradient import InputXGradient, IntegratedGradients, SimpleGrad
from heatproof.explainers.guided import GuidedBackprop
from heatproof.explainers.lrp.propagation import LRP
from heatproof.heatmaps import center_of_mass, pearson
from heatproof.manipulation.penalties import CenterMass, TopK
from heatproof.metrics.confidence import ask
from heatproof.metrics.similarity import spearman, topk_intersection
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.results.run import Run
from heatproof.results.table import summarise
from heatproof.studies.published_maps import (
    Become,
    Magnitudes,
    held,
    hold_output,
    likeness,
    photo_likeness,
    share_of,
)
from heatproof.studies.shared import named
from heatproof.types import (
    Attack,
    Explainer,
    Explanation,
    Images,
    Penalty,
    Targets,
    settings,
)

GREY = 255
BETAS = (10.0, 100.0)
"""Of the softplus copies that an attack climbs on [Dombrowski, code]."""
MOVED = ("topk_intersection", "spearman", "center_shift")
COPIED = (
    "mse",
    "mse_before",
    "ssim",
    "ssim_before",
    "pcc",
    "pcc_before",
    "nearer",
    "photo_mse",
    "photo_ssim",
    "photo_pcc",
)
METRICS = (*MOVED, *COPIED, "kept", "output_change", "questions")


EXPLAINERS: Mapping[str, Explainer] = {
    "gradient": SimpleGrad(),
    "gradient_x_input": Magnitudes(InputXGradient()),
    "integrated_gradients": Magnitudes(IntegratedGradients()),
    "guided_backprop": Magnitudes(GuidedBackprop()),
    "lrp": Magnitudes(LRP()),
}
PAPERS: Mapping[str, tuple[str, ...]] = {
    "ghorbani2019": ("gradient", "integrated_gradients"),
    "dombrowski2019": tuple(EXPLAINERS),
    "tamam2023": ("gradient", "gradient_x_input", "guided_backprop", "lrp"),
}
"""The explainers of each paper but DeepLIFT (Ghorbani, Tamam) and pattern attribution (Dombrowski)."""
GHORBANI = "top_k", "center_mass"
RANDOM_OVERLAP = 0.3
"""Ghorbani et al. 2019: random signs of 8 grey levels leave a mean overlap below this, for all three explainers."""


@settings
class PublishedMapAttacks:
    """Attack x explainer on photos that the network names rightly: how far maps move, or come to another's.

    Args:
        model: as ``--model`` takes it; ``shared:`` lies in the shared folder.
        data: labelled photos.
        papers: of :data:`PAPERS`.
        explainers: of :data:`EXPLAINERS`; each paper has its own among them.
        epsilons: radii of Ghorbani's attacks in l-infinity, in grey levels of 0..255.
        k: cells that count as the most important: 1,000 of 224 x 224 (Ghorbani), 100 of 32 x 32.
        steps: of PGD for Ghorbani's attacks.
        radius: of the other papers' attacks in l-infinity, in grey levels; theirs have no ball.
        copy_steps: of PGD for Dombrowski's.
        path: points of integrated gradients; more cost in proportion.
        rounds, draws: Tamam's: ``rounds`` * (2 * ``draws`` + 1) + 1 questions a photo.
        limit: photos.
        batch: photos that are attacked together.
        seed: of the photos and of everything random.
    """

    model: str = "shared:weights/zoo.py:resnet20"
    data: str = "shared:data/cifar10/test"
    papers: tuple[str, ...] = tuple(PAPERS)
    explainers: tuple[str, ...] = tuple(EXPLAINERS)
    epsilons: tuple[float, ...] = (1, 2, 4, 8)
    k: int = 100
    steps: int = 10
    radius: float = 8
    copy_steps: int = 60
    path: int = 5
    rounds: int = 50
    draws: int = 50
    limit: int = 24
    batch: int = 24
    seed: int = 0
    columns = {  # noqa: RUF012 (a constant of the class, no field)
        "paper": "attack of",
        "explainer": "explainer",
        "attack": "attack",
        "epsilon": "epsilon * 255",
        "topk_intersection": "top-k overlap",
        "spearman": "rank correlation",
        "center_shift": "centre moved, cells",
        "mse": "MSE to the target map",
        "ssim": "SSIM",
        "ssim_before": "before",
        "pcc": "PCC",
        "pcc_before": "before",
        "nearer": "nearer to the target than to its own",
        "photo_ssim": "SSIM of photos",
        "output_change": "largest change of a probability",
        "kept": "class kept",
    }
    presets = {  # noqa: RUF012
        "imagenet": {
            "model": "shared:weights/zoo.py:squeezenet1_1",
            "data": "shared:data/imagenet-val/labels.csv",
            "papers": ("ghorbani2019", "dombrowski2019"),
            "k": 1000,
            "copy_steps": 30,
            "limit": 8,
            "batch": 2,
        },
        "demo": {
            "model": "demo",
            "data": "demo",
            "explainers": ("gradient", "lrp"),
            "epsilons": (2, 8),
            "steps": 4,
            "copy_steps": 5,
            "rounds": 2,
            "draws": 3,
            "limit": 4,
        },
    }

    def __post_init__(self) -> None:
        for given, known in ((self.papers, PAPERS), (self.explainers, EXPLAINERS)):
            for name in given:
                if name not in known:
                    raise InputError(f"the study has no {name!r}; {did_you_mean(name, known)}")
        for epsilon in (*self.epsilons, self.radius):
            if not 0 < epsilon <= GREY:
                raise InputError(f"radii are in grey levels, above 0 and at most {GREY}, got {epsilon!r}")
            check_epsilon(epsilon / GREY)
        if self.limit < 2 or self.batch < 1 or self.k < 1:
            raise InputError(
                f"a map becomes that of another photo, so there are two at least, and k and batch are 1 or more; got "
                f"limit={self.limit}, batch={self.batch}, k={self.k}"
            )

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        model = hardware.host(load(named(self.model)))
        photos = self._photos(model, hardware)
        for paper in self.papers:
            for name in (name for name in PAPERS[paper] if name in self.explainers):
                part = f"{paper}-{name}"
                if not run.has_part(part):
                    explain = self._explainer(name)
                    measure = self._moved if paper == "ghorbani2019" else partial(self._copied, paper)
                    rows = measure(model, explain, photos.images)
                    known = {"model": model.name, "paper": paper, "explainer": name}
                    empty = dict.fromkeys(METRICS)
                    run.append_rows(part, [{**known, "image": photos.ids[at], **empty, **row} for at, row in rows])
                    say(f"{part}: {len(photos.ids)} photos")
        run.describe(model=[model_record(model)], data=data_record(photos.source))
        rows = summarised(run.merge(("paper", "explainer", "attack", "epsilon", "image")))
        answer = answers(rows)
        for line in answer:
            say(line)
        summary = {"answer": answer, "rows": rows, "skipped": photos.source.skipped}
        run.write_json("summary.json", summary)
        return summary

    def _photos(self, model: Classifier, hardware: Hardware) -> "Photos":
        """The first that the network names rightly, of twice as many."""
        source = open_photos(model, named(self.data), limit=2 * self.limit, seed=self.seed)
        ids: list[str] = []
        images: list[Tensor] = []
        for batch in batches(source, model.preprocessing, self.batch):
            shown = hardware.bring(batch.images)
            right = (ask(model, shown).argmax(1).cpu() == batch.labels).nonzero()[:, 0]
            ids += [batch.ids[at] for at in right.tolist()]
            images.append(shown[right.to(shown.device)])
        if len(ids) < self.limit:
            raise InputError(
                f"{self.data}: of {2 * self.limit} photos {model.name} names {len(ids)} rightly, and {self.limit} were "
                "asked for; ask for fewer with limit"
            )
        return Photos(source, ids[: self.limit], torch.cat(images)[: self.limit])

    def _explainer(self, name: str) -> Explainer:
        if name == "integrated_gradients":
            return Magnitudes(IntegratedGradients(steps=self.path))
        return EXPLAINERS[name]

    def _explained(self, model: nn.Module, explain: Explainer, images: Images, targets: Targets | None) -> Explanation:
        found = [
            explain(model, images[at], None if targets is None else targets[at]) for at in self._slices(len(images))
        ]
        return Explanation(*(torch.cat([one[part].detach() for one in found]) for part in range(3)))

    def _slices(self, count: int) -> list[slice]:
        return [slice(first, first + self.batch) for first in range(0, count, self.batch)]

    def _attacked(self, attack: Attack, goal: Callable[[slice], Goal], images: Images) -> Images:
        return torch.cat([attack(goal(at), images[at]) for at in self._slices(len(images))])

    def _moved(self, model: Classifier, explain: Explainer, images: Images) -> "Rows":
        """Ghorbani et al.: two iterative attacks, and random signs as the control."""
        clean = self._explained(model, explain, images, None)
        share = share_of(self.k, clean.heatmaps)
        penalties: dict[str, Penalty] = {
            "top_k": TopK(fraction=share, power=1, normalisation="sum"),
            "center_mass": CenterMass(normalisation="sum"),
        }
        rows: Rows = []
        for epsilon in self.epsilons:
            for name in ("random_sign", *GHORBANI):
                penalty = penalties.get(name, penalties["top_k"])

                def goal(at: slice, penalty: Penalty = penalty) -> Goal:
                    return move_heatmap(model, explain, penalty, targets=clean.targets[at], betas=BETAS)

                attack: Attack = PGD(epsilon / GREY, self.steps, seed=self.seed)
                if name == "random_sign":
                    attack = RandomSign(epsilon / GREY, seed=self.seed)
                found = self._explained(model, explain, self._attacked(attack, goal, images), clean.targets)
                values = {
                    "topk_intersection": topk_intersection(clean.heatmaps, found.heatmaps, share),
                    "spearman": spearman(clean.heatmaps, found.heatmaps),
                    "center_shift": (center_of_mass(found.heatmaps) - center_of_mass(clean.heatmaps)).norm(dim=1),
                    **held(clean, found),
                }
                rows += per_photo({"attack": name, "epsilon": float(epsilon)}, values)
        return rows

    def _copied(self, paper: str, model: Classifier, explain: Explainer, images: Images) -> "Rows":
        """Dombrowski et al. and, without gradients, Tamam et al.: the map of the next photo."""
        clean = self._explained(model, explain, images, None)
        wanted = clean.heatmaps.roll(1, 0)
        seeing = paper == "dombrowski2019"
        attack: Attack = PGD(self.radius / GREY, self.copy_steps, seed=self.seed)
        if not seeing:
            attack = NES(self.radius / GREY, steps=self.rounds, draws=self.draws, seed=self.seed)

        def goal(at: slice) -> Goal:
            moved = move_heatmap(
                model, explain, Become(wanted[at]), targets=clean.targets[at], betas=BETAS if seeing else None
            )
            return moved + hold_output(model)

        changed = self._attacked(attack, goal, images)
        found = self._explained(model, explain, changed, clean.targets)
        after, before = likeness(found.heatmaps, wanted), likeness(clean.heatmaps, wanted)
        values = {
            **after,
            **{f"{name}_before": value for name, value in before.items()},
            "nearer": after["pcc"] > pearson(found.heatmaps, clean.heatmaps),
            **photo_likeness(changed, images),
            **held(clean, found),
        }
        asked = None if seeing else self.rounds * (2 * self.draws + 1) + 1
        name = "target_map" if seeing else "target_map, no gradients"
        return per_photo({"attack": name, "epsilon": float(self.radius), "questions": asked}, values)


Rows = list[tuple[int, dict[str, Any]]]
"""Each with the place of its photo."""


class Photos(NamedTuple):
    """What is attacked."""

    source: Source
    ids: list[str]
    images: Images


def per_photo(known: Mapping[str, Any], values: Mapping[str, Tensor]) -> Rows:
    lists = {name: value.tolist() for name, value in values.items()}
    count = len(next(iter(lists.values())))
    return [(at, {**known, **{name: value[at] for name, value in lists.items()}}) for at in range(count)]


def summarised(table: pl.DataFrame) -> list[dict[str, Any]]:
    """A row per paper, explainer, attack and radius."""
    by = ["model", "paper", "explainer", "attack", "epsilon"]
    return [row.plain() for row in summarise(table, by, METRICS)]


def answers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each paper and explainer what is left of a map at the largest radius, or how near it came to another's."""
    sentences: list[str] = []
    largest = max((row["epsilon"] for row in rows if row["paper"] == "ghorbani2019"), default=0)
    for row in rows:
        where = f"{row['model']}, {row['explainer']}, {row['epsilon']:g}/255"
        if row["paper"] == "ghorbani2019" and row["epsilon"] == largest:
            published = ""
            if row["attack"] == "random_sign" and largest == 8:
                published = f" (theirs: below {RANDOM_OVERLAP}, on ImageNet)"
            sentences.append(
                f"{where}, {row['attack']}: {row['topk_intersection']:.2f} of the top cells stay{published}, rank "
                f"correlation {row['spearman']:.2f}, class kept in {row['kept']:.0%}."
            )
        elif row["paper"] != "ghorbani2019":
            sentences.append(
                f"{where}, {row['attack']}: correlation with another photo's map {row['pcc']:.2f} (before "
                f"{row['pcc_before']:.2f}), nearer to it than to its own in {row['nearer']:.0%}; photos alike by SSIM "
                f"{row['photo_ssim']:.3f}, probabilities within {row['output_change']:.2f}, class kept in "
                f"{row['kept']:.0%}."
            )
    return sentences
