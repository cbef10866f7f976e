"""Generalizing Adversarial Explanations with Grad-CAM: which backbone's heatmaps stay in place on faces?

A folder of identities becomes a classifier per backbone (fine-tuned from published weights, or from scratch), split
80/10/10; FGSM at four epsilons moves Grad-CAM on the test photos; MOD and VID rank the backbones. The original ran on
VGGFace2; the recipe is the same for any folder of folders.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from heatproof.attacks.gradient import FGSM
from heatproof.commands.shift.measure import CLEAN, Shift
from heatproof.commands.shift.run import run_shift
from heatproof.data.sources import Source, open_data
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.results.names import slug
from heatproof.results.run import Run
from heatproof.studies.backbones import Training, accuracy, new_head, split, train
from heatproof.studies.shared import shared
from heatproof.types import settings

FACES = "data/faces/lfw-deepfunneled"
SHARED = "shared:"
"""A backbone called ``shared:NAME`` is the factory NAME among the shared weights."""

FINDINGS = (
    ("vgg16", "resnet50"),
    ("vgg16", "resnet101"),
    ("resnet101", "resnet50"),
    ("resnet50", "inception_v3"),
    ("resnet50", "legacy_xception"),
)
"""Pairs of backbones of which the paper finds the first to shift less."""


@settings
class Chakraborty2022:
    """Faces: a classifier per backbone, FGSM at four epsilons, MOD and VID, a ranking.

    Args:
        data: a folder of identities, each a folder of photos; empty: the faces of ``../shared``.
        backbones: names that ``heatproof explain --model`` takes, or ``shared:NAME``.
        pretrained: fine-tune from published weights, batch norm's statistics frozen; false trains from scratch (a
            factory gives what it gives).
        identities: so many of the identities, the first by name; 0 takes all.
        size: side of the images; 0 takes each backbone's own.
        epochs: passes over the training photos.
        lr: at the start; 0 takes 3e-4 for fine-tuning and 1e-3 from scratch.
        batch_size: photos in a step, and in a pass of the attack.
        repeats: trainings per backbone, with the seeds ``seed``, ``seed + 1``, ...
        epsilons: of FGSM, in pixel units of [0, 1].
        seed: of the split and the first training.
    """

    data: str = ""
    backbones: tuple[str, ...] = ("vgg16", "resnet50", "resnet101", "inception_v3", "timm:legacy_xception")
    pretrained: bool = True
    identities: int = 0
    size: int = 0
    epochs: float = 10
    lr: float = 0.0
    batch_size: int = 32
    repeats: int = 1
    epsilons: tuple[float, ...] = (0.01, 0.05, 0.075, 0.1)
    seed: int = 0

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {
            "backbones": ("shared:squeezenet1_1", "shared:mobilenet_v2"),
            "identities": 20,
            "size": 128,
            "epochs": 15,
        }
    }
    """``small``: two small pretrained backbones on 20 identities, minutes on two CPU cores."""
    columns: ClassVar[dict[str, str]] = {
        "model": "model",
        "epsilon": "epsilon",
        "mod": "MOD",
        "vid": "VID",
        "vid_per_image": "VID per image",
        "top1": "top-1",
        "psnr": "PSNR",
    }

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        if self.repeats < 1 or not self.backbones:
            raise InputError("the study needs at least one backbone and one training of it")
        source = self._faces()
        parts = split(source, self.seed)
        say(f"{source.name}: {len(source.classes or [])} identities, {' / '.join(str(len(p)) for p in parts)} photos")
        models, trained = [], []
        for repeat in range(self.repeats):
            for backbone in self.backbones:
                model = self._classifier(backbone, source.classes or [], repeat)
                model.name += f" ({repeat + 1})" if self.repeats > 1 else ""
                training = Training(
                    self.epochs,
                    self.lr or (3e-4 if self.pretrained else 1e-3),
                    self.batch_size,
                    frozen_norm=self.pretrained,
                    seed=self.seed + repeat,
                )
                train(model, parts[0], training, run, slug(f"{backbone}-{repeat}"), hardware=hardware, say=say)
                found = [accuracy(model, part, hardware, self.batch_size) for part in parts[1:]]
                say(f"{model.name}: accuracy {found[0]:.1%} in validation, {found[1]:.1%} in the test")
                models.append(model)
                trained.append({"model": model.name, "backbone": backbone, "validation": found[0], "test": found[1]})
        settings = Shift((FGSM(),), self.epsilons, (GradCAM(),), part=self.batch_size)
        summary = run_shift(settings, models, lambda model: parts[2], run, hardware=hardware)
        ranking = rank(summary["rows"], trained)
        summary |= {
            "trained": trained,
            "ranking": ranking,
            "split": {name: len(part) for name, part in zip(("train", "validation", "test"), parts, strict=True)},
            "answer": [*sentences(ranking, len(parts[2])), *summary["answer"]],
        }
        run.write_json("summary.json", summary)
        return summary

    def _faces(self) -> Source:
        source = open_data(self.data or str(shared(FACES)), classes=None)
        classes = list(source.classes or [])
        if len(classes) < 2:
            raise InputError(f"{source.name} holds {len(classes)} identities, expected a folder for each of several")
        if self.identities:
            positions = [
                place for place, label in zip(source.positions, source.labels, strict=True) if label < self.identities
            ]
            listing = replace(source.listing, classes=classes[: self.identities])
            source = replace(source, positions=positions, listing=listing)
        return source

    def _classifier(self, backbone: str, classes: Sequence[str], repeat: int) -> Classifier:
        name = backbone
        if backbone.startswith(SHARED):
            name = f"{shared('weights/zoo.py')}:{backbone.removeprefix(SHARED)}"
        model = load(name, pretrained=self.pretrained)
        if self.size:
            model.input_size = self.size
        new_head(model, classes, self.seed + repeat)
        model.default_layer = None
        return model


def rank(rows: Sequence[dict[str, Any]], trained: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Backbones from the least to the most shifted: by the mean MOD over the epsilons and the trainings.

    Each with its test accuracy, its MOD per epsilon and its VID, averaged over the trainings.
    """
    ranking = []
    for backbone in dict.fromkeys(entry["backbone"] for entry in trained):
        own = [entry for entry in trained if entry["backbone"] == backbone]
        names = {entry["model"] for entry in own}
        attacked = [row for row in rows if row["model"] in names and row["attack"] != CLEAN]
        levels = dict.fromkeys(row["epsilon"] for row in attacked)
        mods = {level: float(np.mean([r["mod"] for r in attacked if r["epsilon"] == level])) for level in levels}
        ranking.append(
            {
                "backbone": backbone,
                "trainings": len(own),
                "accuracy": float(np.mean([entry["test"] for entry in own])),
                "mod": float(np.mean(list(mods.values()))),
                "mod_per_epsilon": {f"{level:.4g}": value for level, value in mods.items()},
                "vid": float(np.mean([row["vid"] for row in attacked])),
                "vid_per_image": float(np.mean([row["vid_per_image"] for row in attacked])),
            }
        )
    ranking.sort(key=lambda entry: entry["mod"])
    return [{"rank": place + 1, **entry} for place, entry in enumerate(ranking)]


def sentences(ranking: Sequence[dict[str, Any]], photos: int) -> list[str]:
    """The ranking in words, and each comparison of the paper that can be made here."""
    shown = ", ".join(
        f"{entry['backbone']} (MOD {entry['mod']:.3f}, VID {entry['vid']:.3f}, accuracy {entry['accuracy']:.1%})"
        for entry in ranking
    )
    sentences = [f"From the least to the most shifted on {photos} test photos: {shown}."]
    places = {entry["backbone"].rpartition(":")[2]: entry["rank"] for entry in ranking}
    pairs = [(a, b) for a, b in FINDINGS if a in places and b in places]
    if not pairs:
        sentences.append(
            "None of the paper's comparisons of backbones is among these, so its findings are not tested here."
        )
    for a, b in pairs:
        found = "as" if places[a] < places[b] else "unlike what"
        sentences.append(f"{a} shifts {'less' if places[a] < places[b] else 'more'} than {b}, {found} the paper finds.")
    return sentences
