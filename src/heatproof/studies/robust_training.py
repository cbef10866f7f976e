"""Which training makes heatmaps hold still, and what does it cost? Methods beside plain training of the same length.

Each method trains a copy of one network on the same photos, in the same order, for as many steps, within a budget of
accuracy; then PGD on the map itself attacks photos that no training saw. Settings were chosen with seed 0, on half of
the test photos; the other half judges.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import polars as pl
import torch

from heatproof.attacks.gradient import PGD
from heatproof.commands.defend.measure import METRICS, SORT, Judged, measure
from heatproof.commands.photos import open_photos
from heatproof.commands.record import data_record, model_record
from heatproof.data.sources import Source, limited, part_source
from heatproof.errors import InputError, did_you_mean
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.run import Run
from heatproof.results.table import summarise
from heatproof.robust.attack import MapAttack
from heatproof.robust.methods import (
    SSR,
    Adversarial,
    Alignment,
    Hessian,
    Method,
    Plain,
    Softplus,
    Thickness,
    WeightDecay,
)
from heatproof.robust.train import RECIPE, train_robustly
from heatproof.studies.audit_benchmark.population import Member, Population
from heatproof.studies.shared import named
from heatproof.training.data import feed_photos
from heatproof.training.feeds import Feed
from heatproof.training.settings import FineTune
from heatproof.types import Explainer, settings

GIVEN, PLAIN = "given", "plain"
METHODS: Mapping[str, Method] = {
    PLAIN: Plain(),
    "softplus": Softplus(2.0),
    "alignment": Alignment(l2=0.05, cosine=5.0, beta=2.0),
    "thickness": Thickness(weight=1e-3, beta=2.0),
    "alignment-relu": Alignment(),
    "thickness-relu": Thickness(),
    "hessian": Hessian(),
    "ssr": SSR(),
    "adversarial": Adversarial(),
    "adversarial-blur": Adversarial(blur=1.0),
    "weight-decay": WeightDecay(),
    "adversarial-pgd4": Adversarial(PGD(epsilon=4 / 255, steps=4, keep="last")),
}
"""Each method by one setting. ``softplus`` is the control of those that alter the network as it does."""
SMALL = ("vgg", "densenet")
EXPLAINERS: Mapping[str, Explainer] = {"simple_grad": SimpleGrad(), "gradcam": GradCAM()}


@settings
class RobustTraining:
    """Method x seed: overlap and rank correlation of maps under attack, and accuracy.

    Args:
        model: as ``--model`` takes it; ``shared:`` lies in the shared folder; vgg or densenet: a small network that is
            trained here first, as in the audit's benchmark.
        data: labelled photos to train on.
        test: labelled photos; half of them hold the budget, the other half judges.
        methods: of :data:`METHODS`; ``plain`` is always trained.
        explainer: whose maps: simple_grad or gradcam.
        photos: so many to train on.
        steps, batch_size, lr: of each training.
        batch_norm: train or eval: statistics that move, or that are held.
        budget: accuracy that a training may cost, a share, by the first half.
        epsilons: of the attack, in grey levels of 255.
        attack_steps: of PGD.
        judge: photos that are attacked.
        limit: photos of each half.
        seeds: trainings of each method.
        seed: of the first; the others count on.
    """

    model: str = "vgg"
    data: str = "shared:data/cifar10/train-50000.parquet"
    test: str = "shared:data/cifar10/test"
    methods: tuple[str, ...] = (PLAIN, "softplus", "alignment", "thickness")
    explainer: str = "simple_grad"
    photos: int = 10_000
    steps: int = 300
    batch_size: int = 64
    lr: float = 5e-4
    batch_norm: Literal["eval", "train"] = "eval"
    budget: float = 0.02
    epsilons: tuple[float, ...] = (2.0, 4.0, 8.0)
    attack_steps: int = 10
    judge: int = 100
    limit: int = 1000
    seeds: int = 1
    seed: int = 0
    columns = {  # noqa: RUF012 (a constant of the class, no field)
        "method": "method",
        "levels": "epsilon / 255",
        "overlap": "top-k overlap",
        "spearman": "rank correlation",
        "kept": "class kept",
        "accuracy": "accuracy",
        "lost": "points lost",
        "settings": "settings",
    }
    presets = {  # noqa: RUF012
        "demo": {
            "model": "demo",
            "data": "demo/train",
            "test": "demo",
            "photos": 100,
            "steps": 4,
            "batch_size": 16,
            "epsilons": (4.0,),
            "attack_steps": 3,
            "judge": 8,
            "limit": 20,
            "budget": 1.0,
        },
    }

    def __post_init__(self) -> None:
        for given, known in ((self.methods, METHODS), ((self.explainer,), EXPLAINERS)):
            for name in given:
                if name not in known:
                    raise InputError(f"the study has no {name!r}; {did_you_mean(name, known)}")
        if self.seeds < 1:
            raise InputError(f"each method is trained at least once, got seeds={self.seeds}")

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        model = hardware.host(self._given(run, say))
        source = open_photos(model, named(self.data), limit=self.photos, seed=self.seed)
        # the halves are the same for every seed
        halves = part_source(open_photos(model, named(self.test)), 0.5, 0)
        watched, judged = (limited(half, self.limit) for half in halves)
        run.describe(model=[model_record(model)], data={**data_record(source), "held_out": data_record(judged)})
        train, held_out, rest = (feed_photos(photos, model.preprocessing) for photos in (source, watched, judged))
        accuracies = self._judge(Judged(GIVEN, model, 0.0), rest, judged, run, hardware)
        for name, seed in self._trainings():
            found = train_robustly(
                model,
                EXPLAINERS[self.explainer],
                train,
                METHODS[name],
                self._recipe(seed),
                held_out=held_out,
                checkpoint=FileCheckpoint(run.path(f"scratch/{name}-{seed}.pt")),
            )
            network = Judged(f"{name} {seed}", found.model, found.accuracy_after, repr(METHODS[name]))
            accuracies |= self._judge(network, rest, judged, run, hardware)
            say(
                f"{network.name}: step {found.history.best} of {self.steps}, accuracy {accuracies[network.name]:.1%} "
                f"({accuracies[GIVEN]:.1%} before)"
            )
        rows = self._rows(run.merge(SORT), accuracies)
        answer = answers(rows)
        for line in answer:
            say(line)
        summary = {"answer": answer, "rows": rows, "skipped": [*source.skipped, *watched.skipped, *judged.skipped]}
        run.write_json("summary.json", summary)
        return summary

    def _given(self, run: Run, say: Callable[[str], None]) -> Classifier:
        """The network that is trained further."""
        if self.model not in SMALL:
            return load(named(self.model))
        return Population(run.path("networks"), named(self.data), named(self.test), say=say).get(Member(self.model, 0))

    def _trainings(self) -> list[tuple[str, int]]:
        names = dict.fromkeys((PLAIN, *self.methods))
        return [(name, self.seed + seed) for seed in range(self.seeds) for name in names]

    def _recipe(self, seed: int) -> FineTune:
        return replace(
            RECIPE,
            steps=self.steps,
            batch_size=self.batch_size,
            lr=self.lr,
            batch_norm=self.batch_norm,
            max_accuracy_drop=self.budget,
            evaluate_every=max(1, self.steps // 4),
            seed=seed,
        )

    def _judge(self, network: Judged, rest: Feed, judged: Source, run: Run, hardware: Hardware) -> dict[str, float]:
        """Attack the maps of some photos, into the run folder; the accuracy on all of them, by the network's name."""
        epsilons = [level / 255 for level in self.epsilons]
        attack, explainer = MapAttack(steps=self.attack_steps), EXPLAINERS[self.explainer]
        measure([network], explainer, attack, epsilons, limited(judged, self.judge), run, hardware)
        right = 0
        with torch.no_grad():
            for fed in rest.ordered(self.batch_size):
                right += int((network.model(hardware.bring(fed.images)).argmax(1).cpu() == fed.labels).sum())
        return {network.name: right / len(rest)}

    def _rows(self, table: pl.DataFrame, accuracies: Mapping[str, float]) -> list[dict[str, Any]]:
        """A row per method and epsilon, over all seeds."""
        names = pl.col("network").str.split(" ").list.first().alias("title")
        rows: list[dict[str, Any]] = []
        for row in summarise(table.with_columns(names), ["title", "epsilon"], METRICS):
            title = row.by["title"]
            found = [value for name, value in accuracies.items() if name.split(" ")[0] == title]
            accuracy = sum(found) / len(found)
            rows.append(
                {
                    **row.plain(),
                    "method": title,
                    "levels": round(255 * row.by["epsilon"], 3),
                    "trainings": len(found) if title != GIVEN else 0,
                    "accuracy": accuracy,
                    "lost": 100 * (accuracies[GIVEN] - accuracy),
                    "settings": repr(METHODS[title]) if title in METHODS else "",
                }
            )
        order = [GIVEN, PLAIN, *METHODS]
        return sorted(rows, key=lambda row: (row["levels"], order.index(row["method"])))


def answers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each method and epsilon, the overlap beside that of plain training, and the accuracy beside both."""
    found = {(row["method"], row["levels"]): row for row in rows}
    sentences: list[str] = []
    for (method, levels), row in found.items():
        if method in (GIVEN, PLAIN):
            continue
        plain = found[PLAIN, levels]
        gain = row["overlap"] / plain["overlap"] - 1
        sentences.append(
            f"{method} at {levels:g}/255: overlap {row['overlap']:.2f}, {gain:+.0%} of the {plain['overlap']:.2f} of "
            f"plain training; rank correlation {row['spearman']:.2f} ({plain['spearman']:.2f}); accuracy "
            f"{row['accuracy']:.1%} ({plain['accuracy']:.1%}), {row['lost']:+.1f} points lost."
        )
    return sentences
