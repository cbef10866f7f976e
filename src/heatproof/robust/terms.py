"""What moves heatmaps, as terms of a loss: one value per image, low is steady.

g is what the explainer says of each channel of each pixel, the gradient of a logit for ``simple_grad()``; where it says
nothing of channels, its signed heatmap. Pixels lie in [0, 1]: sources that differentiate with respect to normalised
inputs have gradients that are smaller by the normalisation's standard deviation.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from heatproof.models.intact import evaluating
from heatproof.models.twice import twice_differentiable
from heatproof.training.terms import Batch, Shared
from heatproof.types import Images, PerImage


@dataclass(frozen=True)
class Curved:
    """``weight`` * |H v|^2, v drawn from N(0, 1) in each pixel, H = dg/dx the Hessian of the explained logit.

    The mean over v is the squared Frobenius norm of H.

    **Source** Dombrowski et al. 2022 [paper]; one v for each image and step as in the code of Joo et al. 2023.
    **Differs** of the first ``share`` of a batch alone, divided by that share, 0 for the others: whose turn it is
    is drawn for each step, so that the mean stays and only its variance grows [ours].
    **Range** [0, inf), 0 for a linear network, and for one of ReLUs alone.

    Attributes:
        seed: of v.
        share: of a batch's photos, rounded up.
    """

    weight: float
    seed: int = 0
    share: float = 1.0
    name: str = "curved"
    adapts: bool = True

    def __call__(self, batch: Batch) -> PerImage:
        shared = batch.images
        count = len(shared.pixels)
        asked = math.ceil(self.share * count)
        if asked == count:
            pixels, values = shared.pixels, shared.attribution.values
        else:
            pixels = shared.pixels.detach()[:asked].requires_grad_()
            values = shared.attribution_at(pixels).values
        direction = drawn(shared, self.seed, values)
        (bent,) = torch.autograd.grad((values * direction).sum(), pixels, create_graph=True)
        return F.pad(bent.square().flatten(1).sum(1) * (count / asked), (0, count - asked))


@dataclass(frozen=True)
class Misaligned:
    """``l2`` * |g - g'|^2 + ``cosine`` * (1 - cos(g, g')) / 2, g' at x + uniform noise of +-epsilon, g held constant.

    **Source** Joo et al. 2023 [code], where g is held constant too. **Differs** the noisy image is clipped to [0, 1].
    **Range** [0, inf), 0 where the gradient is the same everywhere.

    Attributes:
        epsilon: of the noise, in pixel units of [0, 1].
        seed: of the noise.
    """

    l2: float
    cosine: float
    epsilon: float
    seed: int = 0
    weight: float = 1.0
    name: str = "misaligned"
    adapts: bool = True

    def __call__(self, batch: Batch) -> PerImage:
        shared = batch.images
        here = shared.attribution.values.detach().flatten(1)
        noise = (2 * drawn(shared, self.seed, shared.fed.images, uniform=True) - 1) * self.epsilon
        there = shared.attribution_at((shared.fed.images + noise).clamp(0, 1)).values.flatten(1)
        turned = (1 - F.cosine_similarity(here, there, dim=1)) / 2
        return self.l2 * (here - there).square().sum(1) + self.cosine * turned


@dataclass(frozen=True)
class Thin:
    """How little the highest cells of the map stand out: sum over j = 1..pairs of s_(k + j) - s_(k - j).

    s_(1) >= s_(2) >= ... are the sorted cells of the map, |dy/dx| summed over channels for ``simple_grad()``. The less,
    the thicker is the gap that an attack must close before a cell below rank k overtakes one above.

    **Source** Chen et al. 2024 (R2ET), the pairs around rank k [code]. **Differs** the map is divided by its mean: else
    the gap grows with the gradient's size alone, and so does what an attack can move [ours]; their code takes the
    gradient of the cross-entropy, here it is the explainer's [ours].
    **Range** (-inf, 0], low is thick.

    Attributes:
        k: share of the cells that count as the highest.
        pairs: at most so many; ``None``: as many as there are, up to k - 1.
    """

    weight: float
    k: float = 0.1
    pairs: int | None = None
    name: str = "thin"
    adapts: bool = True

    def __call__(self, batch: Batch) -> PerImage:
        maps = batch.images.explanation.heatmaps.flatten(1)
        return thinness(maps / maps.abs().mean(1, keepdim=True).clamp(min=1e-12), self.k, self.pairs)


def thinness(cells: Tensor, k: float, pairs: int | None) -> PerImage:
    """Sum over the pairs around rank k of the lower cell minus the higher one.

    >>> thinness(torch.tensor([[5.0, 1.0, 4.0, 3.0, 2.0]]), 0.4, 1)
    tensor([-2.])
    """
    count = cells.shape[1]
    rank = max(1, round(k * count))
    # where the highest cell alone counts, it is the higher one of its pair
    above = max(rank - 1, 1)
    width = min(above, count - rank, above if pairs is None else pairs)
    ranked = cells.sort(1, descending=True).values
    return ranked[:, rank : rank + width].sum(1) - ranked[:, above - width : above].sum(1)


@dataclass(frozen=True)
class Informative:
    """lambda_max of B B^T, B = W L, W = dlogits/dx, L L^T = diag(p) - p p^T: the loss's curvature at the pixels.

    L = diag(sqrt p) - p sqrt(p)^T, so that column c of B is sqrt(p_c) d log p_c / dx, and B B^T is the Fisher
    information of the prediction in the pixels. The eigenvector is held constant: the derivative is exact where the
    largest eigenvalue is simple.

    **Source** Wang et al. 2020 (SSR) [code], which takes L from an eigendecomposition. **Differs** the columns of the
    ``classes`` most probable classes alone, which gives a lower bound of the eigenvalue (B's other columns are small,
    as sqrt(p_c) is) [ours]; their code averages W over channels, here all count [ours].
    **Range** [0, inf).

    Attributes:
        classes: at most so many columns.
    """

    weight: float
    classes: int = 10
    name: str = "informative"
    adapts: bool = True

    def __call__(self, batch: Batch) -> PerImage:
        setup, pixels = batch.images.setup, batch.images.pixels
        with evaluating(setup.body), setup.hardware.autocast(), twice_differentiable():
            logits = setup.body(pixels)
        # half precision is for convolutions
        logs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
        return largest_information(logs, pixels, self.classes)


def largest_information(logs: Tensor, pixels: Images, classes: int) -> PerImage:
    """The largest eigenvalue of sum_c p_c (d log p_c / dx) (d log p_c / dx)^T over the most probable classes.

    Args:
        logs: log-probabilities with the graph that leads to ``pixels``.
    """
    most = logs.detach().topk(min(classes, logs.shape[1]), dim=1).indices
    roots = (logs.gather(1, most) / 2).exp()
    columns = []
    for place in range(most.shape[1]):
        chosen = logs.gather(1, most[:, place : place + 1]).sum()
        (slope,) = torch.autograd.grad(chosen, pixels, retain_graph=True)
        columns.append(slope.flatten(1) * roots.detach()[:, place : place + 1])
    factor = torch.stack(columns, 2)
    top = torch.linalg.eigh(factor.transpose(1, 2) @ factor).eigenvectors[:, :, -1]
    mixed = torch.zeros_like(logs).scatter(1, most, top * roots)
    (slope,) = torch.autograd.grad(logs, pixels, grad_outputs=mixed, create_graph=True)
    return slope.square().flatten(1).sum(1)


@dataclass(frozen=True)
class Decayed:
    """``weight`` / 2 * the sum of the squares of all trained weights of more than one dimension.

    **Source** Dombrowski et al. 2022 [paper]; in the loss, not beside the step, as Adam's ``weight_decay`` in the code
    of Chen et al. 2024. **Range** [0, inf).
    """

    weight: float
    name: str = "decayed"
    adapts: bool = True

    def __call__(self, batch: Batch) -> PerImage:
        trained = batch.images.setup.trained.values()
        total = torch.stack([weight.square().sum() for weight in trained if weight.ndim > 1]).sum() / 2
        return total.expand(len(batch.images.fed.images))


def drawn(shared: Shared, seed: int, like: Tensor, *, uniform: bool = False) -> Tensor:
    """Numbers for a batch, on the CPU: its own, and the same on every device and in a resumed run."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + shared.draw) % 2**62)
    draw = torch.rand if uniform else torch.randn
    return draw(like.shape, generator=generator).to(like)
