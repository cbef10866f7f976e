"""Noise as large as an attack: how far a heatmap moves when nobody aims.

One pattern is drawn on the CPU from the seed and added to every image of every batch and device, so an image's noisy
version does not depend on its neighbours. Images of another size get another pattern.
"""

import torch

from heatproof.attacks.balls import check_epsilon
from heatproof.types import Images, Objective, settings


@settings
class RandomSign:
    """FGSM without a gradient: clip(x + epsilon * s, 0, 1), every s -1 or 1 with equal chance.

    The baseline of the same size: before clipping each pixel changes by as much as under FGSM.

    **Range** images in [0, 1], at most ``epsilon`` from the clean ones in every pixel.

    Args:
        epsilon: in pixel units of [0, 1].
        seed: of the pattern.

    Raises:
        InputError: an epsilon that is negative, or above 1.
    """

    epsilon: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)

    def __call__(self, objective: Objective, images: Images) -> Images:
        return self.along(images, self.direction(objective, images))

    def direction(self, objective: Objective | None, images: Images) -> Images:
        """The signs, one pattern for all images; the objective is not asked."""
        generator = torch.Generator().manual_seed(self.seed)
        signs = 2 * torch.randint(0, 2, images.shape[1:], generator=generator) - 1
        return signs.to(images).expand_as(images)

    def along(self, images: Images, direction: Images) -> Images:
        """The images moved by epsilon along stored signs."""
        return (images + self.epsilon * direction).clamp(0, 1)


@settings
class GaussianNoise:
    """White noise: clip(x + epsilon * n, 0, 1), n standard normal in every pixel value.

    **Range** images in [0, 1]. epsilon is the standard deviation, not a bound: before clipping the mean squared change
    is FGSM's, single pixels change by more.

    Args:
        epsilon: the standard deviation in pixel units of [0, 1].
        seed: of the pattern.

    Raises:
        InputError: an epsilon that is negative, or above 1.
    """

    epsilon: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)

    def __call__(self, objective: Objective, images: Images) -> Images:
        return self.along(images, self.direction(objective, images))

    def direction(self, objective: Objective | None, images: Images) -> Images:
        """Standard normal noise, one pattern for all images; the objective is not asked."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(images.shape[1:], generator=generator).to(images).expand_as(images)

    def along(self, images: Images, direction: Images) -> Images:
        """The images with epsilon times a stored pattern added."""
        return (images + self.epsilon * direction).clamp(0, 1)
