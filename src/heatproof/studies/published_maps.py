"""What published attacks on maps raise, and what they are judged by: the parts of study ``published-map-attacks``."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heatproof.attacks.objectives import Goal, Look
from heatproof.errors import InputError
from heatproof.explainers.gradient import InputXGradient
from heatproof.explainers.lrp.propagation import LRP
from heatproof.heatmaps import normalise, pearson
from heatproof.metrics.similarity import WINDOW, ssim
from heatproof.models.intact import evaluating
from heatproof.types import (
    Classes,
    Explainer,
    Explanation,
    Heatmaps,
    Images,
    PerChannel,
    PerImage,
    settings,
)

MAP_WEIGHT = 1e11 / (224 * 224) ** 2
"""Of the mean squared error of maps whose mean is 1: 1e11 [Dombrowski, code] on 224 x 224 cells that sum to 1."""
OUTPUT_WEIGHT = 1e6 / 1000
"""Of the squared change of probabilities, summed over classes: 1e6 [Dombrowski, code] on the mean over 1,000."""


@settings
class Magnitudes:
    """The map that the three papers attack: |what is said of a channel of a pixel|, summed over channels.

    **Source** Dombrowski et al. 2019, Ghorbani et al. 2019, their code. **Range** [0, inf).

    Args:
        explainer: one that tells the channels apart, or LRP.

    Raises:
        InputError: another.
    """

    explainer: Explainer = InputXGradient()
    signed = False

    def __post_init__(self) -> None:
        if not isinstance(self.explainer, LRP | PerChannel):
            raise InputError(f"magnitudes are summed over channels, which {self.explainer!r} does not tell apart")

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        of = self.explainer
        if isinstance(of, LRP):
            values, logits, shown = of.relevance(model, images, targets, create_graph=create_graph)
        else:
            assert isinstance(of, PerChannel)
            values, logits, shown = of.attribute(model, images, targets, create_graph=create_graph)
        return Explanation((values if create_graph else values.detach()).abs().sum(1), logits, shown)


def share_of(k: int, heatmaps: Heatmaps) -> float:
    """The share of the cells that takes k of them, whatever rounding does.

    Raises:
        InputError: there are not more than k.

    >>> share_of(3, torch.zeros(1, 2, 5))
    0.35
    """
    cells = heatmaps[0].numel()
    if k >= cells:
        raise InputError(f"k={k} of the most important cells were asked for, and maps have {cells}; give a smaller k")
    return (k + 0.5) / cells


@dataclass(frozen=True, eq=False)
class Become:
    """Each photo's map becomes a map of its own: ``MAP_WEIGHT`` * mean_j (h_j - t_j)^2, both scaled to a mean of 1.

    Test loss and interval are those of :class:`~heatproof.manipulation.penalties.TargetMap`, which has one map for all.

    **Source** Dombrowski et al. 2019, eq. 5 and code. **Differs** a mean of 1 where theirs have a sum of 1, so that
    the weight means the same for every number of cells. **Range** [0, inf).
    """

    wanted: Heatmaps
    success = (0.0, 0.25)
    needs_reference = False

    def __call__(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        cells = self.wanted[0].numel()
        now, wanted = (normalise(maps, "sum") * cells for maps in (heatmaps, self.wanted))
        return MAP_WEIGHT * (now - wanted).square().mean((1, 2))

    def test_loss(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        return (1 - pearson(heatmaps.detach(), self.wanted, constant=0.0)) / 2


def hold_output(model: nn.Module) -> Goal:
    """Keep the probabilities: -``OUTPUT_WEIGHT`` * sum_c (p_c(x) - p_c(clean))^2, to be added to ``move_heatmap``.

    **Source** Dombrowski et al. 2019, eq. 5 and code. **Range** (-inf, 0].
    """

    def probabilities(images: Images) -> Tensor:
        with evaluating(model):
            return model(images).softmax(1)

    def start(clean: Images) -> Goal:
        with torch.no_grad():
            before = probabilities(clean)

        def look(images: Images) -> Look:
            value = -OUTPUT_WEIGHT * (probabilities(images) - before).square().sum(1)
            always = torch.ones_like(value, dtype=torch.bool)
            return Look(value, always, always)

        return Goal(look, holds=(model,))

    return Goal(lambda images: start(images).look(images), start=start, holds=(model,))


def likeness(a: Heatmaps, b: Heatmaps) -> dict[str, PerImage]:
    """Dombrowski et al.'s three: MSE of maps that sum to 1, SSIM of maps whose maximum is 1 [ours], Pearson's r."""
    one, two = (normalise(maps, "sum") for maps in (a, b))
    bright = [normalise(maps, "max") for maps in (a, b)]
    window = min(WINDOW, *a.shape[1:])
    return {
        "mse": (one - two).square().mean((1, 2)),
        "ssim": ssim(bright[0], bright[1], window=window),
        "pcc": pearson(a, b),
    }


def photo_likeness(images: Images, clean: Images) -> dict[str, PerImage]:
    """The same three of photos in [0, 1]; SSIM is the mean over channels."""
    window = min(WINDOW, *images.shape[2:])
    of_channels = ssim(images.flatten(0, 1), clean.flatten(0, 1), window=window)
    return {
        "photo_mse": (images - clean).square().mean((1, 2, 3)),
        "photo_ssim": of_channels.unflatten(0, images.shape[:2]).mean(1),
        "photo_pcc": pearson(images, clean),
    }


def held(clean: Explanation, found: Explanation) -> dict[str, Tensor]:
    """Whether the predicted class stayed, and the largest change of a probability."""
    change = (found.logits.softmax(1) - clean.logits.softmax(1)).abs().amax(1)
    return {"kept": found.logits.argmax(1) == clean.logits.argmax(1), "output_change": change}
