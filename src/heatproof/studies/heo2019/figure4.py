"""Figure 4 of Heo et al. 2019: the model still decides on the same pixels, and fooling survives noise and robustness.

a: AOPC of the clean and the fooled model when regions are removed in the order of the clean map, of the fooled map, and
at random. b: accuracy and fooling rate of both under noise on the weights. c: a model that is trained adversarially,
then fooled while that goes on.
"""

from collections.abc import Callable
from typing import Any

import polars as pl

from heatproof.commands.record import data_record, model_record
from heatproof.data.sources import Source, open_data
from heatproof.errors import InputError
from heatproof.metrics.weight_noise import LEVELS, WeightNoise
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.layers import default_layer
from heatproof.models.loading import load
from heatproof.results.run import SORT, Run
from heatproof.studies.heo2019.panels import FINISH, PANELS
from heatproof.studies.shared import named
from heatproof.training.settings import FineTune
from heatproof.types import settings


@settings
class Heo2019Figure4:
    """Does the model still decide on the same pixels, and does fooling survive noise and adversarial training?

    Presets: ``paper``, Heo et al.'s set-up, with ImageNet as ``train`` and ``data`` of your own; ``small``, the same
    on CIFAR-10 with ResNet-20, within the hour on a CPU.

    Args:
        panels: which of ``a``, ``b``, ``c``.
        train: photos in class folders to fool on; a share is set aside to choose the checkpoint. What begins with
            ``shared:`` lies in the folder of real photos.
        data: photos to judge by.
        images: so many of them.
        train_images: so many of ``train``; 0: all.
        models: one for each panel.
        layers: likewise; empty: the default layer.
        lr, weight: of each panel's fooling.
        keep, trainable, schedule: of the fooling in a and b, as in :class:`~heatproof.training.settings.FineTune`;
            ``trainable`` empty: everything.
        margin: of the fooling in a and b, likewise.
        steps, attacked_steps: of the fooling in a and b, and in c.
        batch_size, evaluate_every, max_accuracy_drop: of every fooling.
        region, regions, ragged, fill: of AOPC; the paper's 9 x 9 do not divide 224. On 32 pixels uniform noise in one
            region deceives the model by itself, wherever it is; the image's mean does less.
        noise, draws: levels relative to each weight tensor's deviation, and draws of each.
        epsilon, replays: of free adversarial training, and (epsilon) of the PGD that judges it.
        robust_steps, robust_lr: of the adversarial training before the fooling.
        judge_steps: of that PGD.
        judged: images that are attacked at each look at panel c.
        part: photos that are measured and kept together.
    """

    panels: tuple[str, ...] = ("a", "b", "c")
    train: str = ""
    data: str = ""
    images: int = 10_000
    train_images: int = 0
    models: tuple[str, ...] = ("densenet121", "resnet50", "resnet50")
    layers: tuple[str, ...] = ("", "layer4.1", "layer4.1")
    lr: tuple[float, ...] = (3e-6, 1e-6, 2e-6)
    weight: tuple[float, ...] = (6.0, 4.0, 2.0)
    keep: str = "labels"
    trainable: str = ""
    schedule: str = "constant"
    margin: float | None = None
    steps: int = 300_000
    attacked_steps: int = 300_000
    batch_size: int = 8
    evaluate_every: int = 5000
    max_accuracy_drop: float = 0.02
    region: int = 9
    regions: int = 100
    ragged: bool = True
    fill: str = "noise"
    noise: tuple[float, ...] = LEVELS
    draws: int = 5
    epsilon: float = 4 / 255
    replays: int = 4
    robust_steps: int = 100_000
    robust_lr: float = 1e-4
    judge_steps: int = 10
    judged: int = 1000
    part: int = 50
    seed: int = 0
    presets = {  # noqa: RUF012 (a constant of the class, no field)
        "paper": {},
        "small": {
            "train": "shared:data/cifar10/train-50000.parquet",
            "train_images": 12000,
            "data": "shared:data/cifar10/test",
            "images": 300,
            "models": ("shared:weights/zoo.py:resnet20",) * 3,
            "layers": ("layer3.1",) * 3,
            "lr": (1e-3, 1e-3, 3e-4),
            "weight": (8.0, 6.0, 10.0),
            "keep": "outputs",
            "trainable": "layer3",
            "max_accuracy_drop": 0.02,
            "schedule": "cosine",
            "margin": 0.3,
            "steps": 1500,
            "attacked_steps": 400,
            "batch_size": 64,
            "evaluate_every": 100,
            "region": 4,
            "regions": 16,
            "ragged": False,
            "fill": "mean",
            "draws": 3,
            "epsilon": 2 / 255,
            "robust_steps": 400,
            "robust_lr": 3e-4,
            "judged": 200,
        },
    }
    columns = {  # noqa: RUF012
        "panel": "panel",
        "model": "model",
        "condition": "order",
        "noise": "noise",
        "aopc": "AOPC",
        "top1": "top-1",
        "top1_attacked": "top-1, PGD",
        "fsr": "FSR",
    }

    def __post_init__(self) -> None:
        odd = [panel for panel in self.panels if panel not in PANELS]
        if odd or not self.panels:
            raise InputError(f"the figure has the panels a, b and c, got {', '.join(self.panels) or 'none'}")
        for name in ("models", "layers", "lr", "weight"):
            if len(getattr(self, name)) != 3:
                raise InputError(f"{name} needs one value for each of a, b and c, got {getattr(self, name)}")
        # stopped here and not after hours of training
        WeightNoise(self.noise, self.draws)

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        # said before a model is fetched
        for name, what in ((self.data, "data"), (self.train, "train")):
            named(name, what)
        described, measured = [], []
        opened: dict[str, tuple[Source, Source]] = {}
        for panel in sorted(self.panels):
            place = "abc".index(panel)
            model = hardware.host(load(named(self.models[place], "models")))
            model.default_layer = self.layers[place] or default_layer(model)
            described.append(model_record(model))
            if model.name not in opened:
                opened[model.name] = self.open(model)
            data, train = opened[model.name]
            run.describe(data=data_record(data))
            measured.append(PANELS[panel](self, run, model, train, data, hardware, say))
        run.describe(model=described)
        table = run.merge(("panel", *SORT, "noise", "draw"))
        rows, answers = [], []
        for panel, more in zip(sorted(self.panels), measured, strict=True):
            own = table.filter(pl.col("panel") == panel)
            found, sentences = FINISH[panel](own, more, run)
            rows, answers = rows + found, answers + sentences
        for sentence in answers:
            say(sentence)
        skipped = list({entry["image"]: entry for data, _ in opened.values() for entry in data.skipped}.values())
        summary = {"rows": [row.plain() for row in rows], "answer": answers, "skipped": skipped}
        run.write_json("summary.json", summary)
        return summary

    def open(self, model: Classifier) -> tuple[Source, Source]:
        """Photos to judge by and photos to fool on, with the labels of the model's classes."""
        return (
            open_data(named(self.data), classes=model.classes, limit=self.images, seed=self.seed),
            open_data(
                named(self.train, "train"), classes=model.classes, limit=self.train_images or None, seed=self.seed
            ),
        )

    def recipe(self, panel: str) -> FineTune:
        """How the panel's model is fooled."""
        place = "abc".index(panel)
        attacked = panel == "c"  # trained as adversarial training is
        return FineTune(
            steps=self.attacked_steps if attacked else self.steps,
            lr=self.lr[place],
            weight=self.weight[place],
            batch_size=self.batch_size,
            keep="labels" if attacked else self.keep,  # type: ignore[arg-type]
            trainable=None if attacked else self.trainable or None,
            schedule="constant" if attacked else self.schedule,  # type: ignore[arg-type]
            margin=None if attacked else self.margin,
            evaluate_every=self.evaluate_every,
            # what adversarial training left is kept within the three points
            max_accuracy_drop=0.03 if attacked else self.max_accuracy_drop,
            seed=self.seed,
        )
