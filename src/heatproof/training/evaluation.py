"""How good the weights are, by the held-out images: what a checkpoint is ranked by."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from heatproof.processes import Processes
from heatproof.training.clean_model import ReferenceOutputs, StoredOutputs
from heatproof.training.feeds import Fed, Feed
from heatproof.types import Labels, Logits


class Evaluated(NamedTuple):
    """One evaluation.

    Attributes:
        accuracy: what the budget holds.
        score: up is better; of the checkpoints inside the budget the one with the highest is handed out.
        columns: all numbers, as the history names them.
    """

    accuracy: float
    score: float
    columns: dict[str, float]


class Evaluation(Protocol):
    """Judges the weights as they are now.

    Attributes:
        count: held-out images that the accuracy is a share of.
    """

    @property
    def count(self) -> int: ...
    def evaluate(self) -> Evaluated: ...


@dataclass
class PredictionCounts:
    """How many predictions are right, and how many are the clean model's."""

    images: float = 0.0
    right: float = 0.0
    agreeing: float = 0.0

    def add(self, predicted: Labels, fed: Fed, reference: ReferenceOutputs) -> None:
        """Count a batch; an image without a label counts as right where the clean model's prediction is met."""
        self.images += len(predicted)
        self.right += int((predicted == true_labels(fed, reference)).sum())
        self.agreeing += int(agreeing(predicted, reference.logits, reference.targets).sum())

    @property
    def columns(self) -> dict[str, float]:
        """``accuracy`` and ``agreement``. **Range** [0, 1]."""
        return {"accuracy": self.right / self.images, "agreement": self.agreeing / self.images}


def true_labels(fed: Fed, reference: ReferenceOutputs) -> Labels:
    """The labels, and the clean model's prediction where there is none."""
    return torch.where(fed.labels >= 0, fed.labels, reference.targets)


def agreeing(predicted: Labels, clean: Logits | None, targets: Labels) -> Tensor:
    """Whether each prediction is the clean model's; where no label is known its target is that prediction."""
    return predicted == (clean.argmax(1) if clean is not None else targets)


def held_out(
    feed: Feed, stored: StoredOutputs, batch_size: int, processes: Processes
) -> Iterator[tuple[Fed, ReferenceOutputs]]:
    """This process's share of the held-out images with the clean model's outputs, on the device."""
    for turn, fed in enumerate(feed.ordered(batch_size)):
        if turn % processes.count == processes.index:
            yield fed.to(processes.device), stored.at(fed.positions, processes.device)
