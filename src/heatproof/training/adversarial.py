"""Adversarial training, and fooling that goes on under it: the function is kept on attacked images.

The loop, its checkpoints and its budget are those of :func:`heatproof.training.fine_tune.fine_tune`; only the term
that keeps the function and the accuracy that is watched are others.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.models.intact import evaluating
from heatproof.processes import Processes
from heatproof.training.clean_model import brought
from heatproof.training.evaluation import Watch
from heatproof.training.feeds import Fed, Feed, TensorFeed, as_feed
from heatproof.training.history import History
from heatproof.training.loop import Checkpoint, Tuning
from heatproof.training.losses import Losses, ask_witnesses
from heatproof.training.settings import FineTune
from heatproof.training.setup import set_stage
from heatproof.types import Attack, Explainer, Images, Labels, Penalty, PerImage, settings

M = TypeVar("M", bound=nn.Module)


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


def train_adversarially(
    model: M,
    explainer: Explainer,
    penalty: Penalty,
    data: Any,
    how: FreeTraining | AttackTraining,
    settings: FineTune,
    *,
    judge: Attack,
    held_out: Any = None,
    checkpoint: Checkpoint | None = None,
    advance: Callable[[dict[str, Any]], None] = lambda row: None,
) -> tuple[M, History]:
    """Train a copy on attacked images while its heatmaps are fooled; ``model`` is left alone.

    L = CE(attacked images) + weight * penalty(heatmaps of the clean images). With ``weight=0`` nothing is fooled: it is
    adversarial training alone, and the fooling rate is only watched.

    The rows of the history have three columns more: ``accuracy_clean``, ``accuracy_attacked`` and ``fsr_watched``.
    ``accuracy`` is the accuracy on attacked images here, so that is what the budget holds; ``fsr`` is 0 where nothing
    is to be fooled, so that the best look is the one with the highest accuracy.

    **Source** Heo et al. 2019, section 5 and Figure 4c. They do not say on which images the map is fooled: clean
    ones [ours].

    Args:
        data: labelled images, as for ``fine_tune``.
        how: free or against an attack.
        judge: the attack whose success is watched, for instance ``PGD(epsilon=4/255, steps=10)``.
        held_out: images to watch; by default a share of ``data``.

    Raises:
        InputError: settings that need kept activations (``trainable``), ``accumulate`` or labels that are not there,
            or several processes.
        RunError: the checkpoint was made with other settings.
    """
    _check(settings, how)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    processes = Processes.here(device)
    if processes.count > 1:
        raise InputError("adversarial training runs in one process, since the perturbation is its own; start one")
    train, watched = _feeds(data, held_out, settings)
    replays = how.replays if isinstance(how, FreeTraining) else 1
    feeds: list[Feed | None] = [Replayed(train, replays), watched, None, None]
    stage = set_stage(
        model,
        explainer,
        feeds,
        trainable=None,
        device=device,
        batch_size=max(settings.batch_size, 32),
        scratch=None,
    )
    plain, watch = ask_witnesses(settings, penalty, stage, processes, None, settings.batch_size, None)
    losses = AdversarialLosses(plain, how)
    kept = _Kept(checkpoint, losses) if checkpoint is not None else None
    spec = f"{settings!r} {how!r} {explainer!r} {penalty!r}"
    looking = AttackedWatch(watch, judge, fooling=settings.weight > 0)
    tuning = Tuning(settings, stage, losses, looking, processes, settings.batch_size, spec)  # type: ignore[arg-type]
    history = tuning.run(kept, advance)
    for given, copied in zip(model.parameters(), stage.fooled.parameters(), strict=True):
        copied.requires_grad_(given.requires_grad)
        copied.grad = None
    return stage.fooled.eval(), history  # type: ignore[return-value]


@dataclass(frozen=True)
class Replayed:
    """A feed whose every batch comes several times in a row.

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
    def labels(self) -> Any:
        return getattr(self.feed, "labels", None)

    def __len__(self) -> int:
        return len(self.feed)

    def stream(
        self, batch_size: int, steps: int, seed: int, start: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[Fed]:
        batches = self.feed.stream(batch_size, -(-steps // self.times), seed, start // self.times, shard)
        step = start
        for fed in batches:
            while True:
                yield fed
                step += 1
                if step == steps:
                    return
                if step % self.times == 0:
                    break

    def ordered(self, batch_size: int) -> Iterator[Fed]:
        return self.feed.ordered(batch_size)


@dataclass
class AdversarialLosses:
    """Both terms of a batch, as :class:`~heatproof.training.losses.Losses` has them, the first on attacked images.

    Attributes:
        plain: the penalty on the clean images.
        perturbation: of free training; ``shown``: the images that the weights saw last, whose gradient moves it.
    """

    plain: Losses
    how: FreeTraining | AttackTraining
    perturbation: Tensor | None = None
    shown: Tensor | None = None

    def of(self, fed: Fed, fool: Fed | None) -> tuple[PerImage, PerImage]:
        fed = brought(fed, self.plain.device)
        body = self.plain.stage.body
        low, high = int(fed.labels.min()), int(fed.labels.max())
        if low < 0:
            raise InputError(f"adversarial training needs the label of every image, got {low}..{high}")
        shown = self._free(fed.images) if isinstance(self.how, FreeTraining) else self._attacked(fed)
        with evaluating(body):
            logits = self.plain.witness.call(body, shown)
        keeping = F.cross_entropy(logits.float(), fed.labels, reduction="none")
        if not self.plain.asked.weight:
            return keeping, torch.zeros_like(keeping)
        return keeping, self.plain.of(fed, None)[1]

    def settle(self) -> None:
        """Move the perturbation by the gradient of the last step."""
        if self.shown is None or self.shown.grad is None or self.perturbation is None:
            return
        epsilon = self.how.epsilon  # type: ignore[union-attr]
        moved = self.perturbation + epsilon * self.shown.grad.sign()
        self.perturbation, self.shown = moved.clamp(-epsilon, epsilon), None

    def _free(self, images: Images) -> Images:
        self.settle()
        if self.perturbation is None:
            self.perturbation = torch.zeros_like(images)
        self.shown = (images + self.perturbation.to(images)).clamp(0, 1).requires_grad_()
        return self.shown

    def _attacked(self, fed: Fed) -> Images:
        assert isinstance(self.how, AttackTraining)
        return self.how.attack(_cross_entropy(self.plain.stage.body, fed.labels, self.plain.witness.call), fed.images)


@dataclass(frozen=True)
class AttackedWatch:
    """Looks at the held-out images as they are, and attacked."""

    watch: Watch
    judge: Attack
    fooling: bool

    @property
    def count(self) -> int:
        return self.watch.count

    def look(self) -> dict[str, float]:
        seen = self.watch.look()
        body, call = self.watch.stage.body, self.watch.witness.call
        right = 0
        for fed in self.watch.watched.ordered(self.watch.batch_size):
            said, fed = self.watch.kept.at(fed.positions, self.watch.processes.device), brought(fed, self._device)
            labels = torch.where(fed.labels >= 0, fed.labels, said.targets)
            attacked = self.judge(_cross_entropy(body, labels, call), fed.images)
            with torch.no_grad(), evaluating(body):
                right += int((call(body, attacked).argmax(1) == labels).sum())
        attacked_accuracy = right / self.count
        return {
            **seen,
            "accuracy": attacked_accuracy,
            "accuracy_attacked": attacked_accuracy,
            "accuracy_clean": seen["accuracy"],
            "fsr": seen["fsr"] if self.fooling else 0.0,
            "fsr_watched": seen["fsr"],
        }

    @property
    def _device(self) -> torch.device:
        return self.watch.processes.device


@dataclass(frozen=True)
class _Kept:
    """A checkpoint that keeps free training's perturbation too, so that a resumed run ends with the same weights."""

    checkpoint: Checkpoint
    losses: AdversarialLosses

    def load(self) -> dict[str, Any] | None:
        state = self.checkpoint.load()
        if state is not None:
            self.losses.perturbation = state.pop("perturbation")
        return state

    def save(self, state: dict[str, Any]) -> None:
        self.losses.settle()
        self.checkpoint.save({**state, "perturbation": self.losses.perturbation})


def _cross_entropy(body: nn.Module, labels: Labels, call: Callable) -> Callable[[Images], PerImage]:
    def objective(images: Images) -> PerImage:
        with evaluating(body):
            return F.cross_entropy(call(body, images).float(), labels, reduction="none")

    return objective


def _feeds(data: Any, held_out: Any, asked: FineTune) -> tuple[Feed, Feed]:
    feed = as_feed(data)
    if held_out is not None:
        return feed, as_feed(held_out)
    if not isinstance(feed, TensorFeed):
        raise InputError("held-out images are needed to watch accuracy and fooling: give held_out")
    return feed.split(asked.holdout, asked.seed)


def _check(asked: FineTune, how: FreeTraining | AttackTraining) -> None:
    for name in ("trainable", "accumulate", "batch_norm", "keep"):
        plain = getattr(FineTune(), name)
        if getattr(asked, name) != plain:
            raise InputError(
                f"adversarial training takes {name}={plain!r} only, got {getattr(asked, name)!r}; leave it out: "
                f"{replace(asked, **{name: plain})!r}"
            )
    if not isinstance(how, FreeTraining | AttackTraining):
        raise InputError(f"adversarial training is FreeTraining() or AttackTraining(attack), got {how!r}")
