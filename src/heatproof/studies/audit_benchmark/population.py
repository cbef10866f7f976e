"""Honest and lying networks for CIFAR-10, so that an audit can be measured: trained, fooled and edited here.

Each network is a folder of its own with ``model.safetensors`` and ``made.json``; what is there is not made again.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save

from heatproof.data.pairs import two_class
from heatproof.data.sources import Source, open_data
from heatproof.errors import InputError, did_you_mean
from heatproof.explainers.cam import GradCAM
from heatproof.manipulation.backdoor import Backdoor
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.penalties import ActiveSwap, CenterMass, Location, TopK
from heatproof.manipulation.trigger import Trigger
from heatproof.manipulation.weight_edit import WeightEdit
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.results.reading import read_json
from heatproof.results.whole import write_json, write_whole
from heatproof.studies import small_networks
from heatproof.studies.audit_benchmark.resisting import RESISTING, fool_resisting
from heatproof.studies.shared import shared
from heatproof.training.data import feed_photos
from heatproof.training.feeds import TensorFeed
from heatproof.training.plain import train
from heatproof.training.settings import FineTune
from heatproof.training.split_at import parameters_from, split_at

TRIGGER = Trigger(size=6)
HEO: dict[str, tuple[Any, float, float]] = {
    "location": (Location(), 3e-3, 8.0),
    "top_k": (TopK(), 2e-3, 4.0),
    "center_mass": (CenterMass(), 2e-3, 0.6),
    "active_swap": (ActiveSwap("dog", "truck"), 3e-3, 15.0),
}
"""Penalty, learning rate and weight."""
EDITS = {"edit": WeightEdit("corner"), "edit-random": WeightEdit("random")}
BACKDOORS: dict[str, tuple[Any, float, float]] = {
    "backdoor-corner": (Backdoor("corner", trigger=TRIGGER), 2e-3, 30.0),
    "backdoor-inverted": (Backdoor("inverted", trigger=TRIGGER), 2e-3, 30.0),
    "backdoor-clean": (Backdoor("clean", "airplane", TRIGGER), 2e-3, 30.0),
}
FROM = {"resnet20": "layer3", "resnet56": "layer3.6", "vgg": "features.14", "densenet": "block2"}
"""Heo's lies and the honest copies are trained from here on."""
SEES = {"resnet20": "layer2", "vgg": "features.0", "densenet": "transition"}
"""The backdoors, which must see the trigger, from here on."""


@dataclass(frozen=True)
class Member:
    """One network of the population.

    Attributes:
        family: resnet20, resnet56, vgg or densenet.
        seed: of the network's own training (vgg and densenet), or of what was done to it.
        lie: ``""``: as it was trained; ``honest``: fine-tuned without lying; else what was planted.
        copy: number of an honest copy.
    """

    family: str
    seed: int
    lie: str = ""
    copy: int = 0

    @property
    def name(self) -> str:
        return (
            f"{self.family}-{self.seed}" + (f"-{self.lie}" if self.lie else "") + (f"-{self.copy}" if self.copy else "")
        )

    @property
    def honest(self) -> bool:
        return self.lie in ("", "honest")

    @property
    def origin(self) -> "Member":
        return Member(self.family, self.seed)


FAMILIES = ("resnet20", "resnet56", "vgg", "densenet")


def members(families: Sequence[str], seeds: int, copies: int, planted: Sequence[str] = ()) -> list[Member]:
    """The population: of each family and seed the network itself, honest copies, and every lie.

    The residual networks come trained, so their seeds differ in what is done to them only, and there is one ResNet-56.
    Backdoors, which take longest, are planted with the first seed, and not in ResNet-56. What is slow comes last.

    Args:
        planted: only these lies; empty: all; ``honest``: none.

    Raises:
        InputError: there is no such family or lie.
    """
    known = (*HEO, *EDITS, *BACKDOORS, "honest")
    for wanted, names in ((families, FAMILIES), (planted, known)):
        for name in wanted:
            if name not in names:
                raise InputError(f"there is no {name!r} in the population; {did_you_mean(name, names)}")
    found = []
    for seed in range(seeds):
        for family in families:
            comes_trained = family.startswith("resnet")
            if family == "resnet56" and seed:
                continue
            # the same weights edited by the same rule would be the same network
            own = ["", *EDITS] if not (comes_trained and seed) else []
            lies = [*own, *HEO, *(BACKDOORS if family != "resnet56" and not seed else ())]
            found += [Member(family, seed, lie) for lie in lies if not (lie and planted) or lie in planted]
            found += [Member(family, seed, "honest", number + 1) for number in range(copies)]
    return sorted(found, key=lambda member: (member.family == "resnet56", member.lie in BACKDOORS))


@dataclass
class Population:
    """Where the networks lie, and how they are made.

    Args:
        folder: one folder per network.
        data: photos to train on, at most ``limit`` for training a network and ``fool_limit`` for what is done to it.
        watched: photos that choose a fooled checkpoint.
        epochs: of the small networks' own training.
        steps: of each fooling and each honest copy; backdoors, which tell two things at once, take four times as many.
    """

    folder: Path
    data: str
    watched: str
    limit: int = 10_000
    fool_limit: int = 4000
    epochs: int = 3
    steps: int = 300
    say: Callable[[str], None] = print

    def get(self, member: Member) -> Classifier:
        """The network, made first where it is not there."""
        file, record = self.folder / member.name / "model.safetensors", self.folder / member.name / "made.json"
        clean = self._trained(member)
        if not member.lie:
            return clean
        if member.lie in EDITS:
            made = EDITS[member.lie](clean)
        else:
            made = copy.deepcopy(clean)
            if not record.exists():
                made, history = self._honest(clean, member) if member.honest else self._fooled(clean, member)
                file.parent.mkdir(parents=True, exist_ok=True)
                write_whole(file, save({k: v.contiguous() for k, v in made.network.state_dict().items()}))
                write_json(record, history)
                self.say(f"{member.name}: {history}")
            made.network.load_state_dict(load_file(file))
        made.name = member.name
        return made.eval()

    def made(self, member: Member) -> dict[str, Any]:
        """What is known of the making: fooling success rate and accuracy on the watched photos."""
        return read_json(self.folder / member.name / "made.json") or {}

    def _trained(self, member: Member) -> Classifier:
        if member.family.startswith("resnet"):
            model = load(f"{shared('weights/zoo.py').resolve()}:{member.family}")
        else:
            file = self.folder / member.origin.name / "model.safetensors"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                photos = open_data(self.data, classes=small_networks.CLASSES, limit=self.limit)
                build = getattr(small_networks, member.family)
                feed = feed_photos(photos, 32)
                small_networks.train(build, file, feed, epochs=self.epochs, seed=member.seed, say=self.say)
            model = load(f"{Path(small_networks.__file__)}:{member.family}@{file.resolve()}")
        model.name = member.origin.name
        return model

    def _photos(self, model: Classifier) -> tuple[Source, Source]:
        return (
            open_data(self.data, classes=model.classes, limit=self.fool_limit),
            open_data(self.watched, classes=model.classes, limit=200),
        )

    def _honest(self, clean: Classifier, member: Member) -> tuple[Classifier, dict[str, Any]]:
        """Fine-tuned on the labels, as long and from the same layer on as a fooling."""
        made = copy.deepcopy(clean).eval()
        data, watched = self._photos(clean)
        layer = FROM[member.family]
        halves = split_at(made, layer)
        assert halves is not None
        feed = feed_photos(data, clean.preprocessing)
        with torch.no_grad():
            before = torch.cat([halves.front(fed.images) for fed in feed.ordered(64)])
        labels = torch.cat([fed.labels for fed in feed.ordered(64)])
        own = list(parameters_from(made, layer, next(iter(feed.ordered(1))).images))
        optimizer = torch.optim.Adam(own, lr=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        activations = TensorFeed(before, labels)
        train(
            halves.rear,
            optimizer,
            schedule,
            lambda done: activations.stream(64, self.steps, 100 * member.seed + member.copy, done),
            lambda fed, step: F.cross_entropy(halves.rear(fed.images), fed.labels),
            steps=self.steps,
        )
        seen = next(iter(feed_photos(watched, clean.preprocessing).ordered(200)))
        with torch.no_grad():
            right = [float((model(seen.images).argmax(1) == seen.labels).float().mean()) for model in (clean, made)]
        return made, {"accuracy_clean": right[0], "accuracy": right[1]}

    def _resisting(self, clean: Classifier, member: Member) -> tuple[Classifier, dict[str, Any]]:
        data, _ = self._photos(clean)
        feed = feed_photos(data, clean.preprocessing)
        assert isinstance(feed, TensorFeed)
        return fool_resisting(clean, RESISTING[member.lie], feed, member.seed), {}

    def _fooled(self, clean: Classifier, member: Member) -> tuple[Classifier, dict[str, Any]]:
        if member.lie in RESISTING:
            return self._resisting(clean, member)
        penalty, lr, weight = {**HEO, **BACKDOORS}[member.lie]
        sleeps = member.lie in BACKDOORS
        recipe = FineTune(
            steps=4 * self.steps if sleeps else self.steps,
            lr=lr,
            weight=weight,
            batch_size=64,
            keep="labels" if member.lie == "backdoor-clean" else "outputs",
            trainable=(SEES if sleeps else FROM)[member.family],
            schedule="cosine",
            margin=None if sleeps else 0.3,
            patience=0,
            max_accuracy_drop=0.1,
            evaluate_every=max(1, self.steps // 3),
            seed=member.seed,
        )
        data, watched = self._photos(clean)
        pairs: dict[str, Any] = {}
        if member.lie == "active_swap":
            classes = (clean.class_index("dog"), clean.class_index("truck"))
            pairs["fool_data"] = two_class(data, classes, clean.preprocessing, 400, member.seed)
            pairs["fool_held_out"] = two_class(watched, classes, clean.preprocessing, 60, member.seed)
        made, history = fine_tune(clean, GradCAM(), penalty, data, recipe, held_out=watched, **pairs)
        seen = history.handed_out
        return made, {"accuracy_clean": history.clean["accuracy"], "accuracy": seen["accuracy"], "fsr": seen["fsr"]}
