"""Gradients as explanations: plain, averaged over noise, and summed along a path.

Those that say something of each channel of each pixel have it in ``attribute``, before ``summed`` makes a map of it.
"""

import torch
from torch import nn

from heatproof.errors import InputError
from heatproof.explainers.scores import Score
from heatproof.explainers.together import Map, explain_at_layer, gradient_at, predict
from heatproof.models.classifier import Classifier, check_images, resolve_targets
from heatproof.models.layers import PIXELS, layer_name
from heatproof.types import Attribution, Classes, Explanation, Heatmaps, Images, Layered, settings


@settings
class SimpleGrad:
    """Magnitude of the gradient, at the pixels or at a layer (SimpleGrad_T).

    heatmap = sum over channels of \\|dy_c/dx\\| (pixels) or \\|dy_c/dA\\| (a layer).

    **Source** Simonyan et al. 2013; at a layer Heo et al. 2019. **Differs** Simonyan takes the maximum over channels.
    **Range** [0, inf).

    Args:
        layer: ``"pixels"``, a layer's own name, or ``"default"`` for the model's default layer.
        score: the number that is explained.
    """

    layer: Layered = PIXELS
    score: Score = "logit"
    signed = False
    __call__ = explain_at_layer

    def read(self, activation: Map, gradient: Map) -> Heatmaps:
        return gradient.abs().sum(1)

    def attribute(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Attribution:
        """dy_c/dx.

        Raises:
            InputError: at a layer, whose channels are no pixels'.
        """
        if self.layer != PIXELS:
            raise InputError(f"{self!r} says nothing of pixels; leave out its layer")
        check_images(model, images)
        found = gradient_at(model, images, targets, PIXELS, self.score, create_graph=create_graph)
        return Attribution(found.gradient, found.logits, found.targets)

    def summed(self, values: Images) -> Heatmaps:
        return values.abs().sum(1)


@settings
class InputXGradient:
    """The gradient at each pixel times the pixel: the share of the score that is linear in it.

    heatmap = sum over channels of x * dy_c/dx, with x in [0, 1]; where the network is linear the map sums to the score
    but for the bias.

    **Source** Shrikumar et al. 2016. **Differs** x are pixels, as everywhere here, not normalised inputs: black says
    nothing, where elsewhere the mean colour says nothing. **Range** signed, in the score's unit.
    """

    score: Score = "logit"
    signed = True

    def attribute(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Attribution:
        """x * dy_c/dx."""
        check_images(model, images)
        found = gradient_at(model, images, targets, PIXELS, self.score, create_graph=create_graph)
        return Attribution(images * found.gradient, found.logits, found.targets)

    def summed(self, values: Images) -> Heatmaps:
        return values.sum(1)

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        values, logits, targets = self.attribute(model, images, targets, create_graph=create_graph)
        heatmaps = self.summed(values)
        return Explanation(heatmaps if create_graph else heatmaps.detach(), logits, targets)


@settings
class SmoothGrad:
    """SimpleGrad averaged over noisy copies: heatmap = (1/n) sum_i \\|dy_c/dx\\| at x + noise_i.

    The class is the one given, or the one predicted without noise, whose logits are handed out.

    **Source** Smilkov et al. 2017; n and sigma from Heo et al.'s code. **Range** [0, inf).

    Args:
        samples: n, the number of noisy copies.
        sigma: standard deviation of the Gaussian noise on *normalised* inputs (pixels of std sigma times the model's).
        layer: as for SimpleGrad.
        seed: the noise is the same for every image and every call.
    """

    samples: int = 16
    sigma: float = 0.1
    layer: Layered = PIXELS
    score: Score = "logit"
    seed: int = 0
    signed = False

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError(f"smoothgrad needs at least 1 sample, got {self.samples}")

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        check_images(model, images)
        layer = layer_name(model, self.layer, images)
        logits = predict(model, images, create_graph=create_graph)
        targets = resolve_targets(logits, targets, model)
        generator = torch.Generator().manual_seed(self.seed)
        # noise is drawn on the CPU, one picture for the whole batch: equal on every device and in every batch
        spread = self.sigma * (model.std if isinstance(model, Classifier) else 1)
        total = torch.zeros((), device=images.device)
        for _ in range(self.samples):
            noise = torch.randn(images.shape[1:], generator=generator).to(images) * spread
            noisy = gradient_at(model, images + noise, targets, layer, self.score, create_graph=create_graph)
            total = total + noisy.gradient.abs().sum(1) / self.samples
        return Explanation(total, logits, targets)


@settings
class IntegratedGradients:
    """Gradients summed along the straight path from a baseline to the image.

    heatmap = sum over channels of (x - b) * (1/m) sum_k dy_c/dx at b + (k - 1/2)/m (x - b): the midpoint rule. The sum
    over the map tends to y_c(x) - y_c(b) (completeness) as ``steps`` grows.

    **Source** Sundararajan et al. 2017, eq. 1 and 3. **Differs** midpoints instead of right ends: the error falls with
    1/m^2. **Range** signed, in logits.

    Args:
        steps: m.
        baseline: b, one grey value in [0, 1] for every pixel; 0 is black.
    """

    steps: int = 32
    baseline: float = 0.0
    score: Score = "logit"
    signed = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"integrated gradients need at least 1 step, got {self.steps}")

    def attribute(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Attribution:
        """(x - b) times the mean gradient along the path."""
        check_images(model, images)
        logits = predict(model, images, create_graph=create_graph)
        targets = resolve_targets(logits, targets, model)
        way = images - self.baseline
        total = torch.zeros((), device=images.device)
        for step in range(self.steps):
            point = self.baseline + (step + 0.5) / self.steps * way
            here = gradient_at(model, point, targets, PIXELS, self.score, create_graph=create_graph)
            total = total + here.gradient / self.steps
        return Attribution(way * total, logits, targets)

    def summed(self, values: Images) -> Heatmaps:
        return values.sum(1)

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        values, logits, targets = self.attribute(model, images, targets, create_graph=create_graph)
        heatmaps = self.summed(values)
        return Explanation(heatmaps if create_graph else heatmaps.detach(), logits, targets)
