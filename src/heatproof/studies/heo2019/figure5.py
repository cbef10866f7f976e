"""Figure 5 of Heo et al. 2019: SmoothGrad is harder to fool than SimpleGrad, and costs more accuracy.

Two copies of a model are fooled by Location without any budget, one through SimpleGrad and one through SmoothGrad.
Every look at the held-out images is a point: how much accuracy it cost, and how many maps are fooled by then.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from heatproof.commands.record import describe
from heatproof.data.batches import Batch, batches
from heatproof.data.sources import open_data
from heatproof.errors import InputError
from heatproof.explainers.gradient import SimpleGrad, SmoothGrad
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.penalties import Location
from heatproof.metrics.confidence import ask
from heatproof.metrics.prediction import top_k_correct
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.report.plots import Curve, curves
from heatproof.results.run import SORT, Run
from heatproof.results.table import summarise
from heatproof.studies.heo2019.section5 import judged, made_once
from heatproof.studies.shared import named
from heatproof.training.settings import FineTune
from heatproof.types import Explainer, settings

NAMES = ("simple_grad", "smooth_grad")


@settings
class Heo2019Figure5:
    """What does it cost to fool SmoothGrad, against SimpleGrad?

    Presets: ``paper``, Location on VGG-19 with ImageNet as ``train`` and ``data`` of your own; ``small``, on CIFAR-10
    with ResNet-20.

    Args:
        train: photos in class folders to fool on; a share is set aside to be watched. What begins with ``shared:``
            lies in the folder of real photos.
        data: photos to judge by.
        images: so many of them.
        train_images: so many of ``train``; 0: all.
        model: which network.
        layer: at which the gradient is read: ``pixels``, or a layer's name.
        samples, sigma: of SmoothGrad.
        success: the largest test loss that counts as fooled; the paper's is 0.2.
        level: the share of fooled maps at which the cost is read.
        steps, lr, weight, batch_size, evaluate_every: of both foolings.
        keep, trainable, schedule, margin: likewise, as in :class:`~heatproof.training.settings.FineTune`;
            ``trainable`` empty: everything.
        part: photos that are measured and kept together.
    """

    train: str = ""
    data: str = ""
    images: int = 10_000
    train_images: int = 0
    model: str = "vgg19"
    layer: str = "pixels"
    samples: int = 16
    sigma: float = 0.1
    success: float = 0.2
    level: float = 0.5
    steps: int = 100_000
    lr: float = 1e-6
    weight: float = 10.0
    batch_size: int = 8
    evaluate_every: int = 1000
    keep: str = "labels"
    trainable: str = ""
    schedule: str = "constant"
    margin: float | None = None
    part: int = 50
    seed: int = 0
    presets = {  # noqa: RUF012 (a constant of the class, no field)
        "paper": {},
        "small": {
            "train": "shared:data/cifar10/train-50000.parquet",
            "train_images": 3000,
            "data": "shared:data/cifar10/test",
            "images": 200,
            "model": "shared:weights/zoo.py:resnet20",
            "layer": "layer2",
            "samples": 4,
            "steps": 240,
            "lr": 3e-3,
            "weight": 100.0,
            "batch_size": 16,
            "evaluate_every": 20,
            "keep": "outputs",
            "trainable": "layer2",
            "schedule": "cosine",
            "margin": 0.3,
        },
    }
    columns = {  # noqa: RUF012
        "model": "fooled through",
        "explainer": "measured",
        "fsr": "FSR",
        "top1": "top-1",
        "top5": "top-5",
    }

    def __post_init__(self) -> None:
        if not 0 < self.level <= 1:
            raise InputError(f"level is a share of the maps, in (0, 1], got {self.level}")

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        # said before a model is fetched
        for name, what in ((self.data, "data"), (self.train, "train")):
            named(name, what)
        clean = hardware.host(load(named(self.model, "model")))
        data = open_data(named(self.data), classes=clean.classes, limit=self.images, seed=self.seed)
        train = open_data(
            named(self.train, "train"), classes=clean.classes, limit=self.train_images or None, seed=self.seed
        )
        describe(run, [clean], data)
        penalty = Location(success=(0.0, self.success))
        explainers: dict[str, Explainer] = {
            "simple_grad": SimpleGrad(self.layer),
            "smooth_grad": SmoothGrad(self.samples, self.sigma, self.layer, seed=self.seed),
        }
        models, histories = {"clean": clean}, {}
        for name in NAMES:
            explainer = explainers[name]

            def tune(checkpoint: Any, explainer: Explainer = explainer) -> Any:
                say(f"fooling {clean.name}, location through {explainer!r}")
                return fine_tune(clean, explainer, penalty, train, self.recipe(), checkpoint=checkpoint)

            models[name], histories[name] = made_once(run, name, clean, tune)
        for name, model in models.items():
            for number, batch in enumerate(batches(data, clean.preprocessing, self.part)):
                if run.has_part(f"{name}-{number:06d}"):
                    continue
                rows = _rows(name, model, explainers.values(), penalty, batch, hardware)
                run.append_rows(f"{name}-{number:06d}", rows)
        table = run.merge(SORT)
        rows = summarise(table, ["model", "explainer"], {"fooled": "fsr", "correct": "top1", "top5": "top5"})
        draw(histories, run)
        answers = answer(histories, self.level)
        for sentence in answers:
            say(sentence)
        summary = {
            "rows": [row.plain() for row in rows],
            "answer": answers,
            "skipped": data.skipped,
            "costs": _costs(histories, self.level),
        }
        run.write_json("summary.json", summary)
        return summary

    def recipe(self) -> FineTune:
        """How both copies are fooled: without a budget, to see what it costs."""
        return FineTune(
            steps=self.steps,
            lr=self.lr,
            weight=self.weight,
            batch_size=self.batch_size,
            evaluate_every=self.evaluate_every,
            max_accuracy_drop=1.0,
            keep=self.keep,  # type: ignore[arg-type]
            trainable=self.trainable or None,
            schedule=self.schedule,  # type: ignore[arg-type]
            margin=self.margin,
            patience=0,
            seed=self.seed,
        )


def cost(history: Sequence[dict[str, Any]], level: float) -> float | None:
    """The least accuracy, in points of a rate, that any look with a fooling rate of ``level`` had lost.

    >>> cost([{"fsr": 0.0, "accuracy": 0.9}, {"fsr": 0.6, "accuracy": 0.7}, {"fsr": 0.9, "accuracy": 0.8}], 0.5)
    0.1
    """
    looks = [row for row in history if row.get("fsr") is not None]
    lost = [looks[0]["accuracy"] - row["accuracy"] for row in looks if row["fsr"] >= level]
    return round(min(lost), 6) if lost else None


def _rows(
    name: str, model: Classifier, explainers: Iterable[Explainer], penalty: Location, batch: Batch, hardware: Hardware
) -> list[dict[str, Any]]:
    """A row per explainer and photo: is the answer right, and does the map lie?"""
    images, labels = hardware.bring(batch.images), batch.labels.to(hardware.place)
    with hardware.autocast():
        logits = ask(model, images)
    fives = top_k_correct(logits, labels, 5).tolist()
    rows = []
    for explainer in explainers:
        correct, fooled = judged(model, explainer, penalty, images, labels, hardware)
        rows += [
            {
                "image": image,
                "label": int(batch.labels[i]),
                "model": name,
                "explainer": repr(explainer),
                "correct": bool(correct[i]),
                "top5": fives[i],
                "fooled": bool(fooled[i]),
            }
            for i, image in enumerate(batch.ids)
        ]
    return rows


def draw(histories: dict[str, Sequence[dict[str, Any]]], run: Run) -> None:
    """The highest fooling rate at no more than each cost in accuracy, and the course over the steps."""
    by_cost, by_step = {}, {}
    for name, history in histories.items():
        looks = [row for row in history if row.get("fsr") is not None]
        start = looks[0]["accuracy"]
        paired = sorted((100 * (start - row["accuracy"]), row["fsr"]) for row in looks)
        by_cost[_title(name)] = Curve([lost for lost, _ in paired], np.maximum.accumulate([fsr for _, fsr in paired]))
        by_step[f"{_title(name)}: FSR"] = Curve([row["step"] for row in looks], [row["fsr"] for row in looks])
        by_step[f"{_title(name)}: top-1"] = Curve([row["step"] for row in looks], [row["accuracy"] for row in looks])
    look: dict[str, Any] = {"title": "Heo et al. Figure 5b: the price of fooling", "ylim": (0, 1.02)}
    price: dict[str, Any] = {"xlabel": "points of top-1 accuracy lost", "ylabel": "highest FSR at no more than that"}
    curves(by_cost, run.path("figures/5b.png"), **price, **look)
    look["ylabel"] = "rate over the held-out images"
    curves(by_step, run.path("figures/5-course.png"), xlabel="steps of fine-tuning", **look)


def answer(histories: dict[str, Sequence[dict[str, Any]]], level: float) -> list[str]:
    """What each fooling cost, and which cost more."""
    costs = _costs(histories, level)
    sentences = []
    for name, lost in costs.items():
        most = max(row["fsr"] for row in histories[name] if row.get("fsr") is not None)
        sentences.append(
            f"{_title(name)}: {level:.0%} of the maps are fooled at a price of {100 * lost:.1f} points of top-1 "
            f"(at most {most:.1%} are fooled)."
            if lost is not None
            else f"{_title(name)}: {level:.0%} of the maps are never fooled, at most {most:.1%}."
        )
    simple, smooth = (costs[name] for name in NAMES)
    if simple is None:
        sentences.append("No price to compare: SimpleGrad itself was not fooled with these settings.")
    elif smooth is None or smooth > simple:
        sentences.append("SmoothGrad resists: it costs more to fool than SimpleGrad, as the paper says.")
    else:
        sentences.append("SmoothGrad does NOT resist here: it costs no more to fool than SimpleGrad.")
    return sentences


def _costs(histories: dict[str, Sequence[dict[str, Any]]], level: float) -> dict[str, float | None]:
    return {name: cost(history, level) for name, history in histories.items()}


def _title(name: str) -> str:
    return {"simple_grad": "SimpleGrad", "smooth_grad": "SmoothGrad"}[name]
