"""Is this the same person, and why? What attacks do to a face verification and to the maps that explain it.

An embedding network is trained on identities; pairs of photos of people it never saw are told apart by the cosine of
their embeddings. The first photo of each pair is attacked, and Grad-CAM explains its likeness to the second.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from heatproof.attacks.gradient import FGSM, PGD
from heatproof.commands.shift.measure import CLEAN, Shift
from heatproof.commands.shift.verification import Likenesses, Verification, likenesses, run_verification
from heatproof.data.photo_pairs import draw_pairs
from heatproof.data.sources import Source, open_data
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.scores import Output
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.models.verifier import verifier
from heatproof.report.words import measured
from heatproof.results.names import slug
from heatproof.results.run import Run
from heatproof.results.table import Mean
from heatproof.studies.backbones import Training, headless, new_head, of_classes, train
from heatproof.studies.shared import named
from heatproof.types import settings

FACES = "shared:data/faces/lfw-deepfunneled"
FEWEST_TRAINED = 2


@settings
class FaceVerification:
    """Pairs of faces: verification accuracy, MOD and VID under FGSM and PGD on the likeness, people never trained on.

    The people are parted in three, by the seed: an embedding network is trained on the identities of the first, the
    threshold is the one that tells most pairs of the second right, and the third's pairs are attacked. The attack
    lowers the likeness of two photos of one person and raises that of two people's.

    Args:
        data: a folder of identities, each a folder of photos; empty: the faces of LFW in ``../shared``.
        backbone: a name that ``heatproof explain --model`` takes, or ``shared:weights/zoo.py:NAME``; it ends in a
            linear layer.
        pretrained: begin with published weights, batch norm's statistics frozen (a factory gives what it gives).
        size: side of the images.
        threshold_people: so many identities for the threshold.
        test_people: so many for the test.
        pairs: pairs to test, half of one person and half of two; as many for the threshold.
        epochs: passes over the training photos.
        lr: at the start.
        batch_size: photos in a step, and in a pass of the attack.
        steps: of PGD.
        epsilons: of both attacks, in pixel units of [0, 1].
        seed: of the people's parts, the pairs and the training.
    """

    data: str = ""
    backbone: str = "shared:weights/zoo.py:mobilenet_v2"
    pretrained: bool = True
    size: int = 112
    threshold_people: int = 12
    test_people: int = 20
    pairs: int = 200
    epochs: float = 10
    lr: float = 3e-4
    batch_size: int = 20
    steps: int = 10
    epsilons: tuple[float, ...] = (0.01, 0.05, 0.075, 0.1)
    seed: int = 0

    columns: ClassVar[dict[str, str]] = {
        "attack": "attack",
        "epsilon": "epsilon",
        "mod": "MOD",
        "vid": "VID",
        "top1": "verification accuracy",
        "psnr": "PSNR",
    }

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        trained, chosen, tested = self._people()
        say(
            f"{trained.name}: {len(trained.classes or [])} identities to train on ({len(trained)} photos), "
            f"{self.threshold_people} for the threshold, {self.test_people} for the test"
        )
        model = self._embedding(trained, run, hardware, say)
        found = likenesses(verifier(model), draw_pairs(chosen, self.pairs, self.seed), hardware, self.batch_size)
        threshold = found.best_threshold
        pairs = draw_pairs(tested, self.pairs, self.seed)
        clean = likenesses(verifier(model), pairs, hardware, self.batch_size)
        settings = Shift(
            (FGSM(), PGD(steps=self.steps)), self.epsilons, (GradCAM(score=Output()),), part=self.batch_size
        )
        summary = run_verification(
            settings, Verification(threshold), [model], lambda preprocessing: pairs, run, hardware=hardware
        )
        sentences = self._sentences(summary["rows"], found, clean)
        summary |= {
            "people": {
                "train": len(trained.classes or []),
                "threshold": self.threshold_people,
                "test": self.test_people,
            },
            "threshold": {"cosine": threshold, "accuracy": found.accuracy(threshold), "auc": found.auc},
            "test_auc": clean.auc,
            "answer": [*sentences, *summary["answer"]],
        }
        run.write_json("summary.json", summary)
        return summary

    def _people(self) -> tuple[Source, Source, Source]:
        """The photos to train on, for the threshold and for the test; no person is in two of them."""
        source = open_data(named(self.data or FACES), classes=None)
        count, aside = len(source.classes or []), self.threshold_people + self.test_people
        if min(self.threshold_people, self.test_people) < 2 or count - aside < FEWEST_TRAINED:
            raise InputError(
                f"{source.name} holds {count} identities, of which {self.threshold_people} are for the threshold and "
                f"{self.test_people} for the test: at least 2 each, and {FEWEST_TRAINED} to train on"
            )
        order = np.random.default_rng(self.seed).permutation(count).tolist()
        parts = order[aside:], order[: self.threshold_people], order[self.threshold_people : aside]
        trained, chosen, tested = (of_classes(source, sorted(part)) for part in parts)
        return trained, chosen, tested

    def _embedding(self, trained: Source, run: Run, hardware: Hardware, say: Callable[[str], None]) -> Classifier:
        """The network trained to tell the first people apart, without the layer that names them."""
        with torch.random.fork_rng(devices=[]):  # weights drawn at random belong to the seed
            torch.manual_seed(self.seed)
            model = load(named(self.backbone), pretrained=self.pretrained)
        model.input_size = self.size
        new_head(model, trained.classes or [], self.seed)
        training = Training(self.epochs, self.lr, self.batch_size, frozen_norm=self.pretrained, seed=self.seed)
        train(model, trained, training, run, slug(self.backbone), hardware=hardware, say=say)
        headless(model)
        return model

    def _sentences(self, rows: Sequence[Mapping[str, Any]], chosen: Likenesses, tested: Likenesses) -> list[str]:
        threshold = chosen.best_threshold
        clean = next(row for row in rows if row["attack"] == CLEAN)
        first = (
            f"At a cosine of {threshold:.3f}, which tells {chosen.accuracy(threshold):.1%} of the pairs of "
            f"{self.threshold_people} other people right, {_share(clean)} of {clean['count']} pairs of "
            f"{self.test_people} people never trained on are told right (AUC {tested.auc:.3f})."
        )
        sentences = [first]
        for attack in dict.fromkeys(row["attack"] for row in rows if row["attack"] != CLEAN):
            own = [row for row in rows if row["attack"] == attack]
            low, high = own[0], own[-1]
            accuracies = ", ".join(f"{_share(row)} at {row['epsilon']:.4g}" for row in own)
            spread = ""
            if low["vid"] is not None:
                spread = f", VID {measured(Mean(low['vid'], low['vid_low'], low['vid_high'], 0))}"
            sentences.append(
                f"Under {attack} it is {accuracies}; the maps of the likeness move by MOD {low['mod']:.3f} to "
                f"{high['mod']:.3f}{spread}."
            )
        return sentences


def _share(row: Mapping[str, Any]) -> str:
    span = f" [{row['top1_low']:.1%}, {row['top1_high']:.1%}]" if row["top1_low"] is not None else ""
    return f"{row['top1']:.1%}{span}"
