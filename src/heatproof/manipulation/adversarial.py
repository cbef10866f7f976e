"""A fooling that goes on under adversarial training: the function is held on attacked images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from heatproof.manipulation.fine_tune import check_penalty, fooling
from heatproof.manipulation.fooling import Fooled
from heatproof.processes import Processes
from heatproof.training.adversarial import (
    AttackedEvaluation,
    AttackTraining,
    FreeTraining,
    KeptUnderAttack,
    PerturbationCheckpoint,
    Replayed,
    check_adversarial,
)
from heatproof.training.data import image_size, train_and_held_out
from heatproof.training.evaluation import Evaluated
from heatproof.training.history import History
from heatproof.training.loop import TrainingLoop
from heatproof.training.settings import FineTune
from heatproof.training.setup import Feeds, device_of, set_up
from heatproof.training.state import Checkpoint
from heatproof.training.terms import Batch, Loss
from heatproof.types import Attack, Explainer, Penalty, PerImage

M = TypeVar("M", bound=nn.Module)


def train_adversarially(
    model: M,
    explainer: Explainer,
    penalty: Penalty,
    data: object,
    how: FreeTraining | AttackTraining,
    settings: FineTune,
    *,
    judge: Attack,
    held_out: object = None,
    checkpoint: Checkpoint | None = None,
    advance: Callable[[dict[str, float]], None] = lambda row: None,
) -> tuple[M, History]:
    """Train a copy on attacked images while its heatmaps are fooled; ``model`` is left alone.

    L = CE(attacked images) + weight * penalty(heatmaps of the clean images). With ``weight=0`` nothing is fooled: it is
    adversarial training alone, and the fooling rate is only measured.

    The rows of the history have three columns more: ``accuracy_clean``, ``accuracy_attacked`` and ``fsr_watched``.
    ``accuracy`` is the accuracy on attacked images here, so that is what the budget holds; ``fsr`` is 0 where nothing
    is to be fooled, so that the best checkpoint is the one with the highest accuracy.

    **Source** Heo et al. 2019, section 5 and Figure 4c. They do not say on which images the map is fooled: clean
    ones [ours].

    Args:
        data: labelled images, as for ``fine_tune``.
        how: free or against an attack.
        judge: the attack whose success is measured, for instance ``PGD(epsilon=4/255, steps=10)``.
        held_out: images to evaluate on; by default a share of ``data``.

    Raises:
        InputError: settings that need stored activations (``trainable``), ``accumulate`` or labels that are not there,
            or several processes.
        RunError: the checkpoint was made with other settings.
    """
    check_penalty(penalty)
    processes = Processes.here(device_of(model))
    check_adversarial(settings, how, processes)
    train, held_out_feed = train_and_held_out(data, held_out, settings, image_size(model))
    feeds = Feeds(Replayed(train, how.replays if isinstance(how, FreeTraining) else 1), held_out_feed)
    setup = set_up(model, explainer, feeds, settings, processes)
    plain, evaluation = fooling(penalty, None, setup, settings, processes, settings.batch_size)
    under_attack = KeptUnderAttack(how)
    fooled = Fooled(penalty, settings.margin) if settings.weight else NotFooled()
    loop = TrainingLoop(
        settings,
        setup,
        Loss([under_attack, fooled], setup, plain.reference),
        FoolingUnderAttack(AttackedEvaluation(evaluation, setup, evaluation.stored, judge), settings.weight > 0),
        processes,
        settings.batch_size,
        f"{settings!r} {how!r} {explainer!r} {penalty!r}",
    )
    history = loop.run(PerturbationCheckpoint(checkpoint, under_attack) if checkpoint is not None else None, advance)
    return setup.handed_out(model), history


@dataclass(frozen=True)
class NotFooled:
    """Nothing is to be fooled: no penalty, and no pass to compute one."""

    name: str = "fooled"
    weight: float = 1.0
    adapts: bool = True

    def __call__(self, batch: Batch) -> PerImage:
        images = batch.images.fed.images
        return torch.zeros(len(images), device=images.device)


@dataclass(frozen=True)
class FoolingUnderAttack:
    """``fsr_watched`` beside ``fsr``, which is 0 where nothing is to be fooled."""

    attacked: AttackedEvaluation
    fooling: bool

    @property
    def count(self) -> int:
        return self.attacked.count

    def evaluate(self) -> Evaluated:
        found = self.attacked.evaluate()
        fsr = found.columns["fsr"]
        columns = {**found.columns, "fsr": fsr if self.fooling else 0.0, "fsr_watched": fsr}
        return Evaluated(found.accuracy, found.score if self.fooling else 0.0, columns)
