"""The loss of a repair: the maps are pulled to the witness, and the function is held on further views as well."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from heatproof.repairs.witness import Witness, likeness
from heatproof.training.terms import Batch, OutputTerm
from heatproof.types import PerImage


@dataclass(frozen=True)
class Pulled:
    """1 - cosine of the signed, centred map and the witness: fooling in reverse [ours]. **Range** [0, 2]."""

    witness: Witness
    weight: float = 1.0
    name: str = "pulled"
    adapts: bool = False

    def __call__(self, batch: Batch) -> PerImage:
        maps = batch.images.explanation.heatmaps
        return 1 - likeness(maps, self.witness.at(batch.images.fed.positions))


@dataclass(frozen=True)
class KeptWithMosaics:
    """KL divergence from the checkpoint's outputs, and of mosaics from the mean of its outputs for their photos [ours].

    What it answers of a mosaic itself may be what its lie is made of: a swap of two classes lives where both are.

    Args:
        photos: so many of the feed are no mosaics, the first ones.
        means: probabilities of each mosaic's photos, mean over the four.
    """

    photos: int
    means: Float[Tensor, "mosaics classes"]
    weight: float = 1.0
    name: str = "kept"
    adapts: bool = False

    def __call__(self, batch: Batch) -> PerImage:
        away = OutputTerm()(batch)
        places = batch.images.fed.positions.cpu() - self.photos
        means = self.means[places.clamp(min=0)].to(away)
        mixed = F.kl_div(batch.images.logits.log_softmax(1), means, reduction="none").sum(1)
        return torch.where(places.to(away.device) < 0, away, mixed)


@dataclass(frozen=True)
class OnViews:
    """KL divergence from the checkpoint's outputs for the further views of the photos [ours]."""

    weight: float = 1.0
    name: str = "kept_on_views"
    adapts: bool = False

    def __call__(self, batch: Batch) -> PerImage:
        assert batch.further is not None
        return OutputTerm()(Batch(batch.further))
