"""Votes of noisy maps on each cell, and which cells are certified to stay among the highest, or below."""

import math

import torch
from scipy.stats import binom, norm
from torch import nn

from heatproof.defences.noisy import answered, check_noise, check_wrapped, explanation, noisy_maps
from heatproof.defences.sparsified import check_unsigned
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.heatmaps import topk_mask
from heatproof.types import Certificate, Certified, Classes, Explainer, Explanation, Heatmaps, Images, settings

SOFTNESS = 0.25
"""Width of the surrogate's step, in standard deviations of the map."""


@settings
class CertifiedPixels:
    """Votes of noisy maps on each cell, and the cells that no change of the photo within a radius can turn.

    Each of n noisy maps votes on each cell: among its highest share ``top``, or not. heatmap = the share of votes for.
    A cell is certified to be among the highest (or not to be) where a binomial test at alpha over the cells finds that
    more than ``tau`` of all noisy maps say so; then most noisy maps say so for every photo within R = sigma
    Phi^-1(tau) in l2.

    The certificate is of the majority over all noise, of the class explained, which an attacked photo is asked about
    as well; all cells of a photo are right with probability 1 - alpha over the draws of the noise.

    **Source** Anani et al. 2025 and code (votes, binomial test, Bonferroni; tau 0.75, alpha 0.001); the radius from
    Fischer et al. 2021, whose certified segmentation it is. **Differs** they find a cell's class in n0 extra copies
    and test the others; here both classes are tested, at alpha / 2 each [ours]. A cell of value 0 is never among the
    highest, and noisy pixels are cut to [0, 1], [ours].
    **Range** [0, 1]; the certificate's share in [0, 1] of all cells, up is better.

    Args:
        explainer: of maps without a sign.
        n: noisy copies.
        sigma: standard deviation of the Gaussian noise, in pixel units of [0, 1]; more noise, a larger radius.
        top: share of cells that a map votes for.
        tau: share of noisy maps that must agree, in [0.5, 1).
        alpha: how often at most a photo's certificate is wrong.
        surrogate: votes have no derivative; with it the derivative is that of a sigmoid about the least of the highest
            cells (straight through: values stay votes): for an attacker who knows the defence, and for nothing else.
        seed, at_once: as for :class:`~heatproof.defences.smoothed.Smoothed`.

    Raises:
        InputError: an explainer with signed maps, no noise, too few copies for the level, or a derivative asked of
            votes.
    """

    explainer: Explainer = GradCAM()
    n: int = 100
    sigma: float = 0.15
    top: float = 0.25
    tau: float = 0.75
    alpha: float = 0.001
    surrogate: bool = False
    seed: int = 0
    at_once: int = 64
    signed = False

    def __post_init__(self) -> None:
        check_wrapped("certified_pixels", self.explainer)
        check_noise("certified_pixels", self.n, self.sigma, self.at_once)
        check_unsigned("certified_pixels", self.explainer)
        if not 0 < self.top < 1:
            raise InputError(f"the share of top cells must lie in (0, 1), got {self.top}")
        if not 0.5 <= self.tau < 1:
            raise InputError(f"tau, the share of votes that must agree, must lie in [0.5, 1), got {self.tau}")
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha must lie in (0, 1), got {self.alpha}")

    @property
    def radius(self) -> float:
        """R = sigma Phi^-1(tau), in l2 over pixel values of [0, 1].

        >>> round(CertifiedPixels(sigma=0.15, tau=0.75).radius, 4)
        0.1012
        """
        return self.sigma * float(norm.ppf(self.tau))

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        if create_graph and not self.surrogate:
            raise InputError(
                "certified_pixels counts votes, which have no derivative in pixels or weights: fool or attack through "
                "certified_pixels(..., surrogate=True), whose derivative is a stand-in, or through the explainer inside"
            )
        given = answered(model, images, targets, create_graph=create_graph)
        total, least = torch.zeros((), device=images.device), 0
        for maps in noisy_maps(self, model, given, "gaussian", create_graph=create_graph):
            least = votes_needed(self.n, self.tau, self.alpha, maps[0, 0].numel())
            voted = _voted(maps.flatten(0, 1), self.top, create_graph).view(maps.shape)
            total = total + voted.sum(1)
        count = total.detach().round()
        cells = (count >= least).to(count.dtype) - (self.n - count >= least).to(count.dtype)
        certificate = Certificate(cells.abs().double().mean((1, 2)), self.radius, 1 - self.alpha, cells)
        return Certified.of(explanation(given, total / self.n, create_graph=create_graph), certificate)


def _voted(heatmaps: Heatmaps, top: float, soft: bool) -> Heatmaps:
    highest = topk_mask(heatmaps.detach(), top)
    hard = (highest & (heatmaps.detach() > 0)).to(heatmaps.dtype)
    if not soft:
        return hard
    least = heatmaps.detach().masked_fill(~highest, torch.inf).amin((1, 2), keepdim=True)
    spread = heatmaps.detach().flatten(1).std(1)[:, None, None]
    near = ((heatmaps - least) / (SOFTNESS * torch.where(spread > 0, spread, torch.ones_like(spread)))).sigmoid()
    return hard + near - near.detach()


def votes_needed(n: int, tau: float, alpha: float, cells: int) -> int:
    """Votes of n from which a binomial test at alpha / (2 cells) says that more than ``tau`` of all vote so.

    Raises:
        InputError: even all n votes do not; says how many are needed.

    >>> votes_needed(100, 0.75, 0.001, 64)
    93
    """
    level = alpha / (2 * cells)
    needed = math.ceil(math.log(level) / math.log(tau))
    if n < needed:
        raise InputError(
            f"n={n} noisy maps cannot certify any of {cells} cells at alpha={alpha:g} and tau={tau:g}, even if all "
            f"agree: at least {needed} are needed"
        )
    # the least count whose tail P(Binomial(n, tau) >= count) is within the level
    return int(binom.isf(level, n, tau)) + 1
