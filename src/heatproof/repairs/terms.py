"""The loss of a repair: the maps are pulled to the witness, and the function is held on further views as well."""

from dataclasses import dataclass

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
class OnViews:
    """KL divergence from the checkpoint's outputs for the further views of the photos [ours]."""

    weight: float = 1.0
    name: str = "kept_on_views"
    adapts: bool = False

    def __call__(self, batch: Batch) -> PerImage:
        assert batch.further is not None
        return OutputTerm()(Batch(batch.further))
