"""Generalizing Adversarial Explanations with Grad-CAM: which backbone's heatmaps stay in place on faces?

A folder of identities becomes a classifier per backbone (fine-tuned from published weights, or from scratch), split
80/10/10; FGSM at four epsilons moves Grad-CAM on the test photos; MOD and VID rank the backbones. The original ran on
VGGFace2; the recipe is the same for any folder of folders.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import polars as pl
import torch

from heatproof.attacks.gradient import FGSM
from heatproof.commands.shift.measure import Shift
from heatproof.commands.shift.run import run_shift
from heatproof.data.batches import Augment
from heatproof.data.sources import Source, open_data
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.preprocessing import Preprocessing
from heatproof.processes import Processes
from heatproof.results.names import slug
from heatproof.results.run import Run
from heatproof.studies.backbones import Training, accuracy, new_head, split, train
from heatproof.studies.ranking import Trained, hold_against, rank, sentences
from heatproof.studies.shared import named, shared
from heatproof.types import settings

FACES = "shared:data/faces/lfw-deepfunneled"
SHARED = "shared:"
"""A backbone called ``shared:NAME`` is the factory NAME among the shared weights; data called so lie there too."""


@settings
class Chakraborty2022:
    """Faces: a classifier per backbone, FGSM at four epsilons, MOD and VID, a ranking.

    Args:
        data: a folder of identities, each a folder of photos (``shared:PATH`` below ``../shared``); empty: the faces of
            LFW there.
        backbones: names that ``heatproof explain --model`` takes, or ``shared:NAME``.
        pretrained: fine-tune from published weights, batch norm's statistics frozen; false trains from scratch (a
            factory gives what it gives).
        identities: so many of the identities, the first by name; 0 takes all.
        size: side of the images; 0 takes each backbone's own.
        shares: of each identity's photos, for training, validation and test.
        epochs: passes over the training photos.
        lr: the highest; 0 takes 3e-4 for fine-tuning and 1e-3 from scratch.
        rates: ``lr`` of each backbone, in their order, where one does not suit all (VGG's linear layers have no batch
            norm); empty: ``lr``.
        warmup: share of the steps in which the rate climbs to ``lr``.
        augment: what changes the training photos: ``flip``, ``zoom`` or ``crop``.
        train_precision: of the training alone, ``fp32`` or ``bf16``; empty: that of the run. Maps are measured in the
            run's.
        save_every: epochs between two checkpoints of a training.
        batch_size: photos in a step, and in a pass of the attack.
        repeats: trainings per backbone, with the seeds ``seed``, ``seed + 1``, ...; all backbones are trained and
            measured once before the next begins, so that an unfinished run holds a whole comparison.
        epsilons: of FGSM, in pixel units of [0, 1].
        seed: of the split and the first training.
    """

    data: str = ""
    backbones: tuple[str, ...] = ("vgg16", "resnet50", "resnet101", "inception_v3", "timm:legacy_xception")
    pretrained: bool = True
    identities: int = 0
    size: int = 0
    shares: tuple[float, ...] = (0.8, 0.1, 0.1)
    epochs: float = 10
    lr: float = 0.0
    rates: tuple[float, ...] = ()
    warmup: float = 0.0
    augment: Augment = "flip"
    train_precision: str = ""
    save_every: float = 1
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
        },
        "att_faces": {
            "data": "shared:data/faces/att_faces",
            "backbones": ("resnet101", "inception_v3", "resnet50", "vgg16_bn", "timm:legacy_xception"),
            "pretrained": False,
            "size": 112,
            "shares": (0.5, 0.1, 0.4),
            "epochs": 18,
            "rates": (1e-3, 1e-3, 1e-3, 5e-5, 1e-3),
            "warmup": 0.2,
            "save_every": 4,
            "batch_size": 16,
            "repeats": 2,
        },
    }
    """``small``: two small pretrained backbones on 20 identities, minutes on two CPU cores. ``att_faces``: the paper's
    five from scratch on 40 people of ten grey photos, one to two hours; ``torchrun --nproc-per-node 2`` shares them."""
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
        self,
        run: Run,
        *,
        hardware: Hardware = Hardware(),
        processes: Processes = Processes(),
        say: Callable[[str], None] = print,
    ) -> dict[str, Any]:
        if self.repeats < 1 or not self.backbones:
            raise InputError("the study needs at least one backbone and one training of it")
        if self.rates and len(self.rates) != len(self.backbones):
            raise InputError(f"expected a rate for each of {len(self.backbones)} backbones, got {len(self.rates)}")
        source = self._faces()
        parts = split(source, self.seed, self.shares)
        say(f"{source.name}: {len(source.classes or [])} identities, {' / '.join(str(len(p)) for p in parts)} photos")
        settings = Shift((FGSM(),), self.epsilons, (GradCAM(),), part=self.batch_size)
        models: list[Classifier] = []
        trained: list[Trained] = []
        summary: dict[str, Any] = {}
        for repeat in range(self.repeats):
            self._train_own(source.classes or [], parts[0], repeat, run, hardware, processes, say)
            processes.wait()
            for backbone in self.backbones:
                model = self._train(backbone, source.classes or [], parts[0], repeat, run, hardware, say)
                found = [accuracy(model, part, hardware, self.batch_size) for part in parts[1:]]
                say(f"{model.name}: accuracy {found[0]:.1%} in validation, {found[1]:.1%} in the test")
                models.append(model)
                trained.append(Trained(model.name, backbone, *found))
            last = repeat == self.repeats - 1
            summary = run_shift(
                settings,
                models,
                lambda model: parts[2],
                run,
                hardware=hardware,
                processes=processes,
                draw=last,
                record=last,
            )
            if processes.index:
                continue
            ranking = rank(summary["rows"], pl.read_parquet(run.path("images.parquet")), trained)
            claims = hold_against(ranking)
            summary |= {
                "trained": [entry.plain() for entry in trained],
                "ranking": [{"rank": place, **entry.plain()} for place, entry in enumerate(ranking, 1)],
                "claims": [claim.plain() for claim in claims],
                "split": {name: len(part) for name, part in zip(("train", "validation", "test"), parts, strict=True)},
                "answer": [*sentences(ranking, claims, len(parts[2])), *summary["answer"]],
            }
            run.write_json("summary.json", summary)
        return summary

    def _train_own(
        self,
        classes: Sequence[str],
        part: Source,
        repeat: int,
        run: Run,
        hardware: Hardware,
        processes: Processes,
        say: Callable[[str], None],
    ) -> None:
        """What falls to this process of the trainings of one repeat; their weights lie in the run folder then."""
        for backbone in self.backbones[processes.index :: processes.count]:
            self._train(backbone, classes, part, repeat, run, hardware, say)

    def _train(
        self,
        backbone: str,
        classes: Sequence[str],
        part: Source,
        repeat: int,
        run: Run,
        hardware: Hardware,
        say: Callable[[str], None],
    ) -> Classifier:
        """The trained classifier: from the run folder where it is trained already."""
        model = self._classifier(backbone, classes, repeat)
        model.name += f" ({repeat + 1})" if self.repeats > 1 else ""
        rates = self.rates or [self.lr or (3e-4 if self.pretrained else 1e-3)] * len(self.backbones)
        training = Training(
            self.epochs,
            rates[self.backbones.index(backbone)],
            self.batch_size,
            frozen_norm=self.pretrained,
            warmup=self.warmup,
            augment=self.augment,
            save_every=self.save_every,
            fused=not self.pretrained,
            seed=self.seed + repeat,
        )
        own = replace(hardware, precision=self.train_precision or hardware.precision)  # type: ignore[arg-type]
        train(model, part, training, run, slug(f"{backbone}-{repeat}"), hardware=own, say=say)
        return model

    def _faces(self) -> Source:
        source = open_data(named(self.data or FACES), classes=None)
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
        with torch.random.fork_rng(devices=[]):  # weights drawn at random belong to the seed
            torch.manual_seed(self.seed + repeat)
            model = load(name, pretrained=self.pretrained)
        if self.size:
            model.input_size = self.size
        if not self.pretrained:  # then no published weights say how photos come
            model.preprocessing = Preprocessing(model.input_shape)
        new_head(model, classes, self.seed + repeat)
        model.default_layer = None
        return model
