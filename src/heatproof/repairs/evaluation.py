"""How good a repair is, by the held-out photos: what its checkpoints are ranked by, and what the budget holds."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.repairs.witness import Witness, likeness
from heatproof.training.clean_model import StoredOutputs
from heatproof.training.evaluation import Evaluated
from heatproof.training.feeds import Fed
from heatproof.training.setup import Setup
from heatproof.training.terms import without_relu


class Sums(NamedTuple):
    """Over the photos of a batch."""

    right: float
    agreeing: float
    like: float


@dataclass(frozen=True)
class RepairEvaluation:
    """Accuracy, agreement with the checkpoint, and likeness of the maps to the witness, which is the score.

    A photo without a label counts as right by the checkpoint's own probability of the class that is now predicted, mean
    over moved copies of the photo: as far as its probabilities are worth their name, that is the expected accuracy.

    Attributes:
        stored: the checkpoint's outputs for ``setup.feeds.held_out``.
        witness: of the same photos.
        chances: the checkpoint's probabilities for them.
    """

    setup: Setup
    stored: StoredOutputs
    witness: Witness
    chances: Float[Tensor, "photos classes"]

    @property
    def count(self) -> int:
        """Held-out photos."""
        return len(self.setup.feeds.held_out)

    def evaluate(self) -> Evaluated:
        """``accuracy``, ``agreement`` and ``likeness``."""
        sums = [self._sums(fed) for fed in self.setup.feeds.held_out.ordered(self.setup.batch_size)]
        right, agreeing, like = (sum(values) / self.count for values in zip(*sums, strict=True))
        columns = {"accuracy": right, "agreement": agreeing, "likeness": like}
        return Evaluated(right, like, columns)

    def _sums(self, fed: Fed) -> Sums:
        setup = self.setup
        fed = fed.to(setup.hardware.place)
        reference = self.stored.at(fed.positions.cpu(), setup.hardware.place)
        assert reference.logits is not None
        predicted = reference.logits.argmax(1)
        with setup.hardware.autocast():
            explanation = without_relu(setup.explainer)(setup.body, fed.images, predicted)
        like = likeness(explanation.heatmaps.detach().float(), self.witness.at(fed.positions))
        now = explanation.logits.detach().float().argmax(1)
        right = expected_right(now, fed.labels, self.chances[fed.positions.cpu()].to(now.device))
        return Sums(float(right.sum()), float((now == predicted).sum()), float(like.sum()))


def expected_right(predicted: Tensor, labels: Tensor, chances: Float[Tensor, "photos classes"]) -> Tensor:
    """1 or 0 where the label is known, else the probability of the predicted class.

    >>> expected_right(torch.tensor([1, 0]), torch.tensor([1, -1]), torch.tensor([[0.9, 0.1], [0.25, 0.75]]))
    tensor([1.0000, 0.2500])
    """
    return torch.where(labels >= 0, (predicted == labels).to(chances), chances.gather(1, predicted[:, None])[:, 0])
