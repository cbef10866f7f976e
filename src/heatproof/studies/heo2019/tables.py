"""Fooling Neural Network Interpretations via Adversarial Model Manipulation: Tables 1, 2, 3 and 5, on any networks.

Every cell (network, fooling, interpreter that is fooled) is a run folder of its own under ``cells/``: what is complete
is not done again, and what was stopped goes on. ``compared/`` holds the measurements, per network.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl

from heatproof.commands.compare.run import Compare, Fooled, run_compare
from heatproof.commands.fool.run import Fool, run_fool
from heatproof.data.sources import Source, open_data, parted
from heatproof.errors import InputError, did_you_mean
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.explainers.lrp.propagation import LRP
from heatproof.manipulation.penalties import ActiveSwap, CenterMass, Location, TopK
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.layers import default_layer
from heatproof.models.loading import load
from heatproof.results.names import slug
from heatproof.results.run import Run
from heatproof.results.strict import read_images
from heatproof.studies import small_networks
from heatproof.studies.heo2019 import published as paper
from heatproof.studies.heo2019.rows import Cell, draw, sentences, table_1, table_2, table_3, table_5
from heatproof.studies.shared import shared
from heatproof.training.data import feed_photos
from heatproof.training.settings import FineTune
from heatproof.types import Explainer, Penalty, settings

LAYERS = {
    "vgg19": "features.35",
    "resnet50": "layer4.1",
    # the input of its last dense layer is no module's output in torchvision's network
    "densenet121": "features",
    "resnet20": "layer3.1",
    "resnet56": "layer3.7",
    "vgg": "features.19",
    "densenet": "block2.layer5",
}
"""The layer of Grad-CAM and of the _T interpreters: the last ReLU before pooling, or the last block's input [code]."""

FROM = {
    "resnet20": "layer3",
    "resnet56": "layer3",
    "vgg": "features.14",
    "densenet": "block2",
}
"""The small preset trains from here on [ours]: the last layers suffice, and what lies before is computed once."""

# weight and margin of the small preset, found on photos that no table is made from
SMALL = {
    ("location", "lrp_t"): (6.0, 0.3),
    ("location", "gradcam"): (4.0, 0.3),
    ("top_k", "lrp_t"): (2.0, 0.3),
    ("top_k", "gradcam"): (10.0, 0.5),
    ("center_mass", "lrp_t"): (0.3, 0.3),
    ("center_mass", "gradcam"): (0.3, 0.3),
    ("active_swap", "lrp_t"): (10.0, 0.3),
    ("active_swap", "gradcam"): (10.0, 0.3),
}


@settings
class Heo2019:
    """The tables, for any list of networks, foolings and interpreters.

    ``--preset imagenet``: the paper's networks, layers, learning rates and weights, batches of 8, labels, on ImageNet.
    ``--preset small``: CIFAR-10 on two cores, the last layers trained with lr and weight found here, the function held
    by the clean outputs, and a VGG and a DenseNet that are trained first.

    Args:
        models: names that ``--model`` takes; ``resnet20`` and ``resnet56`` of the shared folder, ``vgg`` and
            ``densenet`` of :mod:`heatproof.studies.small_networks` in the small preset.
        foolings: of location, top_k, center_mass, active_swap.
        through: the interpreters that are fooled: gradcam, lrp_t.
        data: photos to train on.
        watched: photos that choose the checkpoint; empty: a tenth of ``data``.
        test: photos that the tables are made from, at most ``test_limit``, which is the paper's number.
        first, second: the classes of the swap, by name or number.
        recipe: ``paper`` or ``small``: where lr and weight come from.
        steps: of each fooling (the paper: up to 300,000, active 4,000).
        batch_size: images per step.
        limit: photos to train on, at most.
        max_accuracy_drop: the budget while training.
        pairs: two-class images to train on.
        epochs: of the small networks' own training.
        seed: of everything random.
    """

    models: tuple[str, ...] = ("vgg19", "resnet50", "densenet121")
    foolings: tuple[str, ...] = paper.FOOLINGS
    through: tuple[str, ...] = paper.THROUGH
    data: str = "imagenet/train"
    watched: str = ""
    test: str = "imagenet/val"
    first: int | str = 386
    second: int | str = 555
    recipe: str = "paper"
    steps: int = 4000
    batch_size: int = 8
    limit: int = 1_300_000
    test_limit: int = 10_000
    max_accuracy_drop: float = 0.02
    pairs: int = 1100
    epochs: int = 6
    seed: int = 0
    presets = {  # noqa: RUF012 (a constant of the class, no field)
        "imagenet": {},
        "small": {
            "models": ("resnet20", "vgg", "densenet"),
            "data": "shared:data/cifar10/train-50000.parquet",
            "watched": "shared:data/cifar10/train",
            "test": "shared:data/cifar10/test",
            "first": "dog",
            "second": "truck",
            "recipe": "small",
            "steps": 1500,
            "batch_size": 64,
            "limit": 12000,
            "max_accuracy_drop": 0.01,
        },
    }
    columns = {  # noqa: RUF012
        "table": "table",
        "model": "network",
        "fooling": "fooling",
        "through": "fooled through",
        "measured": "measured",
        "value": "here",
        "paper": "paper",
    }

    def __post_init__(self) -> None:
        for given, known in ((self.foolings, paper.FOOLINGS), (self.through, paper.THROUGH)):
            for name in given:
                if name not in known:
                    raise InputError(f"heo2019 has no {name!r}; {did_you_mean(name, known)}")
        if self.recipe not in ("paper", "small"):
            raise InputError(f"recipe is paper or small, got {self.recipe!r}")

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        cells: list[Cell] = []
        for name in self.models:
            cells += self._network(name, run, hardware, say)
        answer = sentences(cells)
        for line in answer:
            say(line)
        rows = [asdict(cell) for cell in cells]
        summary = {"answer": answer, "rows": rows, "skipped": []}
        run.write_json("summary.json", summary)
        run.write_parquet("images.parquet", [{"image": f"{i}", **row} for i, row in enumerate(rows)])
        draw(cells, run)
        return summary

    def _network(self, name: str, run: Run, hardware: Hardware, say: Callable[[str], None]) -> list[Cell]:
        place, model = self._model(name, run, say)
        name = model.name
        test = open_data(_path(self.test), classes=model.classes, limit=self.test_limit)
        data = open_data(_path(self.data), classes=model.classes, limit=self.limit, seed=self.seed)
        watched = open_data(_path(self.watched), classes=model.classes, limit=500) if self.watched else None
        if watched is None:
            rest, aside = parted(len(data), 0.1, self.seed)
            places = data.positions
            data, watched = (replace(data, positions=[places[i] for i in chosen]) for chosen in (rest, aside))
        layer = layer_of(name, model)
        fooled: dict[tuple[str, str], Fooled] = {}
        for fooling in self.foolings:
            for through in self.through:
                settings = self._cell(name, model, fooling, through, layer)
                folder = run.path(f"cells/{name}-{fooling}-{through}")
                given = {"asked": settings, "model": name, "data": self.data, "limit": self.limit}
                with Run.start(folder, command="fool", settings=given, seed=self.seed) as cell:
                    if not cell.done:
                        summary = run_fool(settings, model, place, data, cell, held_out=watched, hardware=hardware)
                        say(f"{name}: {summary['answer'][0]}")
                made = load(str(folder), trust_code=True)
                made.name = f"{fooling}-{through}"
                fooled[fooling, through] = Fooled(made, settings.explainer, settings.penalty)
        passive = [entry for (fooling, _), entry in fooled.items() if fooling != "active_swap"]
        active = [entry for (fooling, _), entry in fooled.items() if fooling == "active_swap"]
        cells: list[Cell] = []
        measured = interpreters(layer)
        shown = tuple(measured[key] for key in paper.MEASURED)
        if passive:
            penalties = tuple(dict.fromkeys(entry.penalty for entry in passive if entry.penalty is not None))
            table = self._compared(
                name, "passive", Compare(shown, penalties, shown=3), model, passive, test, run, hardware
            )
            cells += table_1(name, table, passive, measured) + table_3(name, table, passive)
        if active:
            shown = tuple(measured[key] for key in paper.MEASURED_ACTIVE)
            swap = Compare(shown, (self._penalty(model, "active_swap"),), pairs=200, shown=3)
            table = self._compared(name, "active", swap, model, active, test, run, hardware)
            cells += table_2(name, table, active, measured)
            # the swap's accuracy, over all photos and over its two classes
            plain = Compare((measured["gradcam"],), (Location(normalisation="minmax"),), shown=1)
            table = self._compared(name, "active-accuracy", plain, model, active, test, run, hardware)
            classes = (model.class_index(self.first), model.class_index(self.second))
            cells += table_3(name, table, active) + table_5(name, table, active, classes)
        return cells

    def _model(self, name: str, run: Run, say: Callable[[str], None]) -> tuple[str, Classifier]:
        if self.recipe == "small" and name in ("vgg", "densenet"):
            file = run.path(f"models/{name}.safetensors")
            if not file.exists():
                photos = open_data(_path(self.data), classes=small_networks.CLASSES)
                build = getattr(small_networks, name)
                small_networks.train(build, file, feed_photos(photos, 32), epochs=self.epochs, seed=self.seed, say=say)
            place = f"{Path(small_networks.__file__)}:{name}@{file.resolve()}"
        elif self.recipe == "small" and name in ("resnet20", "resnet56"):
            place = f"{shared('weights/zoo.py').resolve()}:{name}"
        else:
            place = name
        model = load(place)
        # a path is no name for folders and tables
        model.name = slug(model.name) if "/" in name else name
        return place, model

    def _penalty(self, model: Classifier, fooling: str) -> Penalty:
        if fooling == "active_swap":
            return ActiveSwap(model.class_index(self.first), model.class_index(self.second), normalisation="minmax")
        # one normaliser for all interpreters, min-max: on a Grad-CAM with a zero in it, it is the division by the max
        return {"location": Location(normalisation="minmax"), "top_k": TopK(), "center_mass": CenterMass()}[fooling]

    def _cell(self, name: str, model: Classifier, fooling: str, through: str, layer: str) -> Fool:
        given: dict[str, Any] = {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "max_accuracy_drop": self.max_accuracy_drop,
        }
        if self.recipe == "small":
            weight, margin = SMALL[fooling, through]
            recipe = FineTune(
                lr=1e-3,
                weight=weight,
                keep="outputs",
                trainable=FROM.get(name),
                schedule="cosine",
                margin=margin,
                evaluate_every=max(1, self.steps // 15),
                patience=0,
                seed=self.seed,
                **given,
            )
        else:
            lr, weight = paper.RECIPES[fooling, through][paper.family(name)]
            recipe = FineTune(lr=lr, weight=weight, evaluate_every=max(1, self.steps // 10), seed=self.seed, **given)
        penalty = self._penalty(model, fooling)
        return Fool(penalty, interpreters(layer)[through], recipe, pairs=self.pairs, shown=3)

    def _compared(
        self,
        name: str,
        what: str,
        settings: Compare,
        model: Classifier,
        fooled: Sequence[Fooled],
        test: Source,
        run: Run,
        hardware: Hardware,
    ) -> pl.DataFrame:
        folder = run.path(f"compared/{name}-{what}")
        given = {"asked": settings, "model": name, "fooled": [entry.model.name for entry in fooled]}
        given |= {"test": self.test, "limit": self.test_limit}
        with Run.start(folder, command="compare", settings=given, seed=self.seed) as comparison:
            if not comparison.done:
                run_compare(settings, model, fooled, test, comparison, hardware=hardware)
        return read_images(folder)


def interpreters(layer: str) -> dict[str, Explainer]:
    """Heo et al.'s interpreters at one layer."""
    return {
        "gradcam": GradCAM(layer),
        "lrp_t": LRP(layer=layer),
        "simple_grad_t": SimpleGrad(layer),
        "lrp": LRP(),
    }


def layer_of(name: str, model: Classifier) -> str:
    """The paper's layer of a known network, the default layer of another."""
    return LAYERS.get(name) or default_layer(model)


def _path(name: str) -> str:
    return str(shared(name.removeprefix("shared:"))) if name.startswith("shared:") else name
