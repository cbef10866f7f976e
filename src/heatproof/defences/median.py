"""The middle of an explainer's maps over noisy copies of a photo, and an interval for each cell."""

import math

import torch
from scipy.stats import binom
from torch import nn

from heatproof.defences.noisy import Noise, answered, check_noise, check_wrapped, explanation, noisy_maps
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.types import Classes, Explainer, Explanation, Images, Interval, WithInterval, is_signed, settings


@settings
class MedianOfNoisy:
    """The middle of an explainer's maps over noisy copies, with an interval of the median, cell by cell (MeTFA).

    Of the n sorted values h_(1) <= ... <= h_(n) of a cell, [h_(l), h_(n+1-l)] holds the median of h(x + noise) at
    level 1 - alpha, with the largest l for which P(Binomial(n, 1/2) < l) <= alpha / 2. heatmap = mean of h_(l) ..
    h_(n+1-l).

    **Source** Gan et al. 2022 (MeTFA, read in its abstract): the interval of a median from order statistics is the
    textbook's; that the smoothed map is the mean of those inside it is their MeTFA-smoothed map from memory [m].
    **Differs** noisy pixels are cut to [0, 1], and maps are not scaled before they are sorted [ours].
    **Range** that of the explainer; the interval is in its unit, at level 1 - alpha for each cell on its own.

    Args:
        explainer: what is asked n times.
        n: noisy copies; at least log2(2 / alpha).
        sigma, noise, seed, at_once: as for :class:`~heatproof.defences.smoothed.Smoothed`.
        alpha: how often at most a cell's interval misses the median.

    Raises:
        InputError: too few copies for the level, no noise, or something that is no explainer.
    """

    explainer: Explainer = GradCAM()
    n: int = 32
    sigma: float = 0.1
    alpha: float = 0.05
    noise: Noise = "gaussian"
    seed: int = 0
    at_once: int = 64

    def __post_init__(self) -> None:
        check_wrapped("median_of_noisy", self.explainer)
        check_noise("median_of_noisy", self.n, self.sigma, self.at_once, self.noise)
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha must lie in (0, 1), got {self.alpha}")
        if lowest_rank(self.n, self.alpha) < 1:
            raise InputError(
                f"the smallest and the largest of {self.n} noisy maps hold the median with less than "
                f"{1 - self.alpha:.4g}; an interval of this level needs n={math.ceil(math.log2(2 / self.alpha))} or "
                "more, or a larger alpha"
            )

    @property
    def signed(self) -> bool:
        return is_signed(self.explainer)

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        given = answered(model, images, targets, create_graph=create_graph)
        parts = noisy_maps(self, model, given, self.noise, create_graph=create_graph)
        ordered = torch.cat(list(parts), 1).sort(1).values
        low = lowest_rank(self.n, self.alpha)
        middle = ordered[:, low - 1 : self.n + 1 - low]
        interval = Interval(middle[:, 0].detach(), middle[:, -1].detach(), 1 - self.alpha)
        return WithInterval.of(explanation(given, middle.mean(1), create_graph=create_graph), interval)


def lowest_rank(n: int, alpha: float) -> int:
    """l, counted from 1, of the interval [x_(l), x_(n+1-l)] of a median at level 1 - alpha; 0: n is too small.

    >>> lowest_rank(6, 0.05), lowest_rank(5, 0.05), lowest_rank(32, 0.05)
    (1, 0, 10)
    """
    low = int(binom.ppf(alpha / 2, n, 0.5))
    # ppf is the least k with P(B <= k) >= alpha / 2, so P(B < k) may be at most that, or equal to it at k + 1
    return low + 1 if binom.cdf(low, n, 0.5) <= alpha / 2 else low
