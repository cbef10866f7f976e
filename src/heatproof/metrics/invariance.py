"""Does the map stay where the same question is asked in other pixels? A check of explainers, without any attack."""

import copy
from typing import ClassVar

import torch
from torch import nn

from heatproof.errors import InputError, SpecError, did_you_mean
from heatproof.metrics.evaluation import Column, Explained, Finding, Question
from heatproof.metrics.removal import unordered
from heatproof.metrics.stability import BETTER, Likeness, measures
from heatproof.models.classifier import Classifier
from heatproof.types import settings


@settings
class InputInvariance:
    """How alike the maps of two networks that are the same function are, each of its own pixels.

    m(h(x; f), h(x'; f')) with x' = (1 - shift) x + shift, a haze over the whole photo, and f'(x') = f(x): the mean and
    deviation that the classifier takes off are moved with the pixels, so that the network is given the same numbers and
    says the same. A map that differs shows the pixels' origin and not what the model does: input times gradient and
    integrated gradients from black do, gradients and Grad-CAM do not.

    **Source** Kindermans et al. 2019 (input invariance). **Differs** they add a constant, which leaves the range of
    pixels; the factor brings it back and scales gradients everywhere alike, which the likenesses do not see [ours].
    **Range** that of the measure; NaN where the map is empty or equal everywhere.

    Args:
        by: ``spearman``, ``ssim``, ``nissim``, ``topk_intersection`` or ``center_distance``.
        shift: how dense the haze is, above 0 and below 1.

    Raises:
        SpecError: another measure.
        InputError: another shift, or a model that is no :class:`~heatproof.models.classifier.Classifier`.
    """

    by: Likeness = "spearman"
    shift: float = 0.5
    question: ClassVar[Question] = "robustness"
    condition: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if self.by not in BETTER:
            raise SpecError(f"maps are compared by no {self.by!r}; {did_you_mean(str(self.by), BETTER)}")
        if not 0 < self.shift < 1:
            raise InputError(f"the shift of the pixels lies above 0 and below 1, got {self.shift}")

    @property
    def columns(self) -> tuple[Column, ...]:
        better, unit = BETTER[self.by]
        meaning = f"{self.by} of the maps of the same function, of photos under a haze of {self.shift:.4g} and without"
        return (Column(f"invariance_{self.by}", better, unit, meaning),)

    def check(self, model: nn.Module, size: tuple[int, int], boxes: bool) -> None:
        """Stop a bare network, whose pixels have no origin that could be moved."""
        if not isinstance(model, Classifier):
            raise InputError("input_invariance moves the mean that a Classifier takes off: give hp.Classifier(network)")

    def measure(self, explained: Explained) -> list[Finding]:
        model, heatmaps = explained.model, explained.heatmaps
        self.check(model, explained.size, explained.boxes is not None)
        assert isinstance(model, Classifier)
        hazy = (1 - self.shift) * explained.images + self.shift
        maps = explained.explainer(self._moved(model), hazy, explained.targets).heatmaps.detach()
        alike = measures(explained.size)[self.by](heatmaps, maps.float())
        return [Finding((alike.masked_fill(unordered(heatmaps, "most"), torch.nan),))]

    def _moved(self, model: Classifier) -> Classifier:
        """The same network behind another normalisation; the model itself is left as it is."""
        moved = copy.copy(model)
        moved._buffers = dict(model._buffers)  # pyright: ignore[reportPrivateUsage]
        moved.mean = (1 - self.shift) * model.mean + self.shift
        moved.std = (1 - self.shift) * model.std
        return moved
