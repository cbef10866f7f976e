"""Sparsified SmoothGrad of any explainer, with a certificate of how many of its highest cells must stay."""

import math

import torch
from torch import nn
from torch.special import ndtr, ndtri

from heatproof.defences.noisy import answered, check_noise, check_wrapped, explanation, noisy_maps
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.heatmaps import topk_mask
from heatproof.types import (
    Certificate,
    Certified,
    Classes,
    Explainer,
    Explanation,
    Heatmaps,
    Images,
    PerImage,
    is_signed,
    settings,
)


@settings
class Sparsified:
    """The highest cells of noisy maps, averaged, with a certificate of how many of the top cells must stay.

    Each noisy map keeps its highest share ``keep``, over the value at its highest share ``flat`` and at most 1; the
    rest is 0. heatmap x = the mean over n copies. With x_(1) >= x_(2) >= ... and err = sqrt(ln(2 d / (1 - confidence))
    / (2 n)) over d cells, at least as many of the K = top * d highest cells stay among the K highest, for every photo
    within ``radius`` in l2, as there are i <= K with Phi(Phi^-1(x_(i) - err) - 2 radius / sigma) - err > x_(2K-i+1).

    The certificate is of the map's expectation over noise, of the class explained, which an attacked photo is asked
    about as well; it holds with probability ``confidence`` over the draws of the noise.

    **Source** Levine et al. 2019, theorem 2 and code (relaxed sparsified SmoothGrad; keep 0.1, flat 0.01).
    **Differs** sigma in pixel units, not in shares of the photo's range; noisy pixels are cut to [0, 1], which is part
    of the map that is averaged and leaves the certificate what it is [ours].
    **Range** [0, 1]; the certificate's share in [0, 1] of K, up is better.

    Args:
        explainer: of maps without a sign.
        n: noisy copies; the certificate grows with them.
        sigma: standard deviation of the Gaussian noise, in pixel units of [0, 1].
        keep: share of cells kept of each noisy map.
        flat: share of cells that count 1.
        top: share of cells whose staying is certified.
        radius: l2, over all pixel values in [0, 1].
        confidence: of the certificate.
        seed, at_once: as for :class:`~heatproof.defences.smoothed.Smoothed`.

    Raises:
        InputError: an explainer with signed maps, no noise, or too few copies to certify anything.
    """

    explainer: Explainer = GradCAM()
    n: int = 256
    sigma: float = 0.15
    keep: float = 0.1
    flat: float = 0.01
    top: float = 0.1
    radius: float = 0.02
    confidence: float = 0.95
    seed: int = 0
    at_once: int = 64
    signed = False

    def __post_init__(self) -> None:
        check_wrapped("sparsified", self.explainer)
        check_noise("sparsified", self.n, self.sigma, self.at_once)
        check_unsigned("sparsified", self.explainer)
        if not 0 < self.flat <= self.keep <= 1:
            raise InputError(f"0 < flat <= keep <= 1 was expected, got flat={self.flat} and keep={self.keep}")
        if not 0 < self.top <= 0.5:
            raise InputError(f"the share of top cells must lie in (0, 0.5], got {self.top}")
        if not 0 < self.confidence < 1:
            raise InputError(f"the confidence must lie in (0, 1), got {self.confidence}")
        if not self.radius >= 0:
            raise InputError(f"the radius must not be negative, got {self.radius}")

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        given = answered(model, images, targets, create_graph=create_graph)
        total = torch.zeros((), device=images.device)
        for maps in noisy_maps(self, model, given, "gaussian", create_graph=create_graph):
            self._check_enough(maps[0, 0].numel())
            sparse = sparsify(maps.flatten(0, 1), self.keep, self.flat).view(maps.shape)
            total = total + sparse.sum(1) / self.n
        cells = total[0].numel()
        share = certified_overlap(
            total.detach(),
            top=max(1, int(self.top * cells)),
            n=self.n,
            sigma=self.sigma,
            radius=self.radius,
            confidence=self.confidence,
        )
        certificate = Certificate(share, self.radius, self.confidence)
        return Certified.of(explanation(given, total, create_graph=create_graph), certificate)

    def _check_enough(self, cells: int) -> None:
        needed = math.floor(2 * math.log(2 * cells / (1 - self.confidence))) + 1
        if self.n < needed:
            raise InputError(
                f"n={self.n} noisy copies certify nothing of a map of {cells} cells at confidence {self.confidence}: "
                f"at least {needed} are needed, and some hundreds to certify much"
            )


def check_unsigned(name: str, explainer: Explainer) -> None:
    """Stop an explainer whose maps have a sign: its highest cells are not its strongest.

    Raises:
        InputError: with the way out.
    """
    if is_signed(explainer):
        raise InputError(
            f"{name} certifies the highest cells of maps that begin at zero, and those of {explainer!r} are signed; "
            f"say which side: {name}(one_sided({explainer!r}, side='positive')), or 'magnitude'"
        )


def sparsify(heatmaps: Heatmaps, keep: float, flat: float) -> Heatmaps:
    """The highest share ``keep`` of each map over the value at the share ``flat``, at most 1; all else 0.

    >>> sparsify(torch.tensor([[[4.0, 2.0], [1.0, 0.0]]]), keep=0.5, flat=0.25)
    tensor([[[1.0000, 0.5000],
             [0.0000, 0.0000]]])
    """
    ordered = heatmaps.flatten(1).sort(1, descending=True).values
    cap = ordered[:, max(1, int(flat * ordered.shape[1])) - 1][:, None, None]
    scaled = (heatmaps / torch.where(cap > 0, cap, torch.ones_like(cap))).clamp(0, 1)
    return scaled * topk_mask(heatmaps.detach(), keep)


def certified_overlap(
    heatmaps: Heatmaps, *, top: int, n: int, sigma: float, radius: float, confidence: float
) -> PerImage:
    """Share of the ``top`` highest cells certified to stay within ``radius``, of means of n maps in [0, 1].

    >>> certified_overlap(torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]), top=2, n=1000, sigma=1, radius=0.5, confidence=0.9)
    tensor([1.], dtype=torch.float64)
    """
    ordered = heatmaps.flatten(1).double().sort(1, descending=True).values
    err = math.sqrt(math.log(2 * ordered.shape[1] / (1 - confidence)) / (2 * n))
    rivals = ordered[:, top : 2 * top].flip(1)
    held = ndtr(ndtri((ordered[:, :top] - err).clamp(0, 1)) - 2 * radius / sigma) - err
    # the first rival of the lowest top cell is the next cell; a map of fewer than 2K cells has fewer rivals
    held = held[:, held.shape[1] - rivals.shape[1] :] if rivals.shape[1] < top else held
    return (held > rivals).double().sum(1) / top
