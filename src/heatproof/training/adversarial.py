"""Adversarial training for the engine: the term that holds the function on attacked images, and its evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from heatproof.errors import InputError, RunError
from heatproof.models.intact import evaluating
from heatproof.processes import Processes
from heatproof.training.clean_model import StoredOutputs
from heatproof.training.evaluation import Evaluated, Evaluation, held_out, true_labels
from heatproof.training.feeds import Fed, Feed
from heatproof.training.settings import FineTune
from heatproof.training.setup import Setup
from heatproof.training.state import Checkpoint
from heatproof.training.terms import Batch
from heatproof.types import Attack, Images, Labels, Objective, PerImage, settings


@settings
class FreeTraining:
    """ "Free" adversarial training: each batch is trained on ``replays`` times in a row, and each time the gradient
    that moves the weights moves the pixels too.

    delta <- clip(delta + epsilon * sign(d CE / dx), -epsilon, epsilon) after every step, kept from batch to batch; the
    weights see clip(x + delta, 0, 1).

    **Source** Shafahi et al. 2019, algorithm 1 (m = 4, epsilon = 4/255 on ImageNet).

    Args:
        epsilon: of the L-inf ball, in pixel units of [0, 1].
        replays: m.

    Raises:
        InputError: an epsilon outside (0, 1], or no replay.
    """

    epsilon: float = 4 / 255
    replays: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 1:
            raise InputError(f"epsilon must lie in (0, 1], in pixel units of [0, 1], got {self.epsilon:g}")
        if self.replays < 1:
            raise InputError(f"free training replays each batch at least once, got {self.replays}")


@settings
class AttackTraining:
    """Adversarial training against an attack: min over w of the mean CE on attack(x), made anew for every batch.

    **Source** Madry et al. 2018, equation 2.1 (``PGD(epsilon=8/255, steps=7, keep="last")`` on CIFAR-10).

    Args:
        attack: climbs the cross-entropy of the labels.
    """

    attack: Attack


@dataclass(frozen=True)
class Replayed:
    """A feed whose every batch comes several times in a row.

    >>> from heatproof.training.feeds import TensorFeed
    >>> feed = Replayed(TensorFeed(torch.rand(4, 3, 8, 8), torch.arange(4)), times=2)
    >>> [fed.positions.tolist() for fed in feed.stream(batch_size=2, steps=3, seed=0)]
    [[2, 0], [2, 0], [1, 3]]
    """

    feed: Feed
    times: int

    @property
    def ids(self) -> Sequence[str]:
        return self.feed.ids

    @property
    def fixed(self) -> bool:
        return self.feed.fixed

    @property
    def labels(self) -> Sequence[int] | Tensor:
        return self.feed.labels

    def __len__(self) -> int:
        return len(self.feed)

    def stream(
        self, batch_size: int, steps: int, seed: int, start: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[Fed]:
        batches = self.feed.stream(batch_size, -(-steps // self.times), seed, start // self.times, shard)
        step = start
        for fed in batches:
            for _ in range(min(self.times - step % self.times, steps - step)):
                yield fed
                step += 1

    def ordered(self, batch_size: int) -> Iterator[Fed]:
        return self.feed.ordered(batch_size)


@dataclass
class KeptUnderAttack:
    """Cross-entropy of the labels on attacked images: the term that holds the function and makes it robust.

    Attributes:
        perturbation: of free training.
        shown: the images that the weights saw last, whose gradient moves the perturbation.
    """

    how: FreeTraining | AttackTraining
    name: str = "kept"
    weight: float = 1.0
    adapts: bool = False
    perturbation: Tensor | None = None
    shown: Tensor | None = None

    def __call__(self, batch: Batch) -> PerImage:
        fed, setup = batch.images.fed, batch.images.setup
        low, high = int(fed.labels.min()), int(fed.labels.max())
        if low < 0:
            raise InputError(f"adversarial training needs the label of every image, got {low}..{high}")
        if isinstance(self.how, FreeTraining):
            shown = self._perturbed(fed.images, self.how.epsilon)
        else:
            shown = self.how.attack(cross_entropy(setup, fed.labels), fed.images)
        return cross_entropy(setup, fed.labels)(shown)

    def settle(self) -> None:
        """Move the perturbation by the gradient of the last step."""
        if self.shown is None or self.shown.grad is None or self.perturbation is None:
            return
        assert isinstance(self.how, FreeTraining)
        epsilon = self.how.epsilon
        moved = self.perturbation + epsilon * self.shown.grad.sign()
        self.perturbation, self.shown = moved.clamp(-epsilon, epsilon), None

    def _perturbed(self, images: Images, epsilon: float) -> Images:
        self.settle()
        if self.perturbation is None:
            self.perturbation = torch.zeros_like(images)
        self.shown = (images + self.perturbation.to(images)).clamp(0, 1).requires_grad_()
        return self.shown


@dataclass(frozen=True)
class AttackedEvaluation:
    """Judges the held-out images as they are, and their predictions under attack.

    ``accuracy`` is that on attacked images.

    Attributes:
        evaluation: of the images as they are.
        stored: the clean model's outputs for the held-out images.
    """

    evaluation: Evaluation
    setup: Setup
    stored: StoredOutputs
    judge: Attack

    @property
    def count(self) -> int:
        return self.evaluation.count

    def evaluate(self) -> Evaluated:
        plain, setup = self.evaluation.evaluate(), self.setup
        right = 0
        alone = Processes(device=setup.hardware.place)
        for fed, reference in held_out(setup.feeds.held_out, self.stored, setup.batch_size, alone):
            labels = true_labels(fed, reference)
            attacked = self.judge(cross_entropy(setup, labels), fed.images)
            with torch.no_grad(), evaluating(setup.body), setup.hardware.autocast():
                right += int((setup.body(attacked).argmax(1) == labels).sum())
        accuracy = right / self.count
        own = {"accuracy": accuracy, "accuracy_attacked": accuracy, "accuracy_clean": plain.accuracy}
        return Evaluated(accuracy, plain.score, {**plain.columns, **own})


@dataclass(frozen=True)
class PerturbationCheckpoint:
    """A checkpoint that stores free training's perturbation too, so that a resumed run ends with the same weights."""

    checkpoint: Checkpoint
    term: KeptUnderAttack

    def __str__(self) -> str:
        return str(self.checkpoint)

    def load(self) -> dict[str, Any] | None:
        state = self.checkpoint.load()
        if state is not None:
            if "perturbation" not in state:
                raise RunError(f"{self} holds no perturbation; delete it to begin anew")
            self.term.perturbation = state.pop("perturbation")
        return state

    def save(self, state: dict[str, Any]) -> None:
        self.term.settle()
        self.checkpoint.save({**state, "perturbation": self.term.perturbation})


def cross_entropy(setup: Setup, labels: Labels) -> Objective:
    """The cross-entropy of the labels as a function of the images."""

    def objective(images: Images) -> PerImage:
        with evaluating(setup.body), setup.hardware.autocast():
            logits = setup.body(images)
        return F.cross_entropy(logits.float(), labels, reduction="none")

    return objective


def check_adversarial(settings: FineTune, how: object, processes: Processes) -> None:
    """Stop settings that adversarial training does not have.

    Raises:
        InputError: naming them.
    """
    for name in ("trainable", "accumulate", "batch_norm", "keep"):
        plain = vars(FineTune())[name]
        if vars(settings)[name] != plain:
            raise InputError(
                f"adversarial training takes {name}={plain!r} only, got {vars(settings)[name]!r}; leave it out: "
                f"{replace(settings, **{name: plain})!r}"
            )
    if not isinstance(how, FreeTraining | AttackTraining):
        raise InputError(f"adversarial training is FreeTraining() or AttackTraining(attack), got {how!r}")
    if processes.count > 1:
        raise InputError("adversarial training runs in one process, since the perturbation is its own; start one")
