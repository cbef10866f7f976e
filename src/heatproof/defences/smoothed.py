"""The mean of an explainer's maps over noisy copies of a photo."""

import torch
from torch import nn

from heatproof.defences.noisy import Noise, answered, check_noise, check_wrapped, explanation, noisy_maps
from heatproof.explainers.cam import GradCAM
from heatproof.types import Classes, Explainer, Explanation, Images, is_signed, settings


@settings
class Smoothed:
    """Any explainer, averaged over noisy copies of the photo: heatmap = (1/n) sum_i h(x + noise_i).

    Attackers of one photo must move the maps of a whole neighbourhood.

    **Source** Smilkov et al. 2017 (SmoothGrad); uniform noise in the l-infinity ball Wang et al. 2020. **Differs**
    noisy pixels are cut to [0, 1], as any photo's are [ours]. **Range** that of the explainer.

    Args:
        explainer: what is averaged.
        n: noisy copies.
        sigma: standard deviation of the noise, or half the width of uniform noise, in pixel units of [0, 1].
        noise: ``gaussian``, or ``uniform`` in [-sigma, sigma].
        seed: the noise is the same for every image and every call.
        at_once: images in one forward pass (memory only; with a graph all are kept).

    Raises:
        InputError: no copies, no noise, or something that is no explainer.
    """

    explainer: Explainer = GradCAM()
    n: int = 32
    sigma: float = 0.1
    noise: Noise = "gaussian"
    seed: int = 0
    at_once: int = 64

    def __post_init__(self) -> None:
        check_wrapped("smoothed", self.explainer)
        check_noise("smoothed", self.n, self.sigma, self.at_once, self.noise)

    @property
    def signed(self) -> bool:
        return is_signed(self.explainer)

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        given = answered(model, images, targets, create_graph=create_graph)
        total = torch.zeros((), device=images.device)
        for maps in noisy_maps(self, model, given, self.noise, create_graph=create_graph):
            total = total + maps.sum(1) / self.n
        return explanation(given, total, create_graph=create_graph)
