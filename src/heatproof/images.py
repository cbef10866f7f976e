"""Algebra on images: pure, differentiable functions of ``[batch, channels, rows, cols]``."""

from typing import Literal

import torch
import torch.nn.functional as F

from heatproof.types import Images


def blurred(
    images: Images, sigma: float, *, reach: int | None = None, border: Literal["reflect", "replicate"] = "reflect"
) -> Images:
    """Gaussian blur with standard deviation ``sigma`` in pixels, one axis after the other.

    The weights are exp(-x^2 / (2 sigma^2)) over their sum for x = -reach .. reach.

    **Differs** from torchvision's ``gaussian_blur``, which knows mirrored borders only, fails where the image is no
    larger than the reach, and sums over the whole square.

    Args:
        reach: pixels on either side of the middle one; by default three sigma, at least one.
        border: ``reflect`` mirrors the image about its outermost pixels (which are repeated where it is no larger than
            the reach), ``replicate`` repeats them.

    >>> blurred(torch.tensor([[[[0.0, 0.0, 1.0, 0.0, 0.0]]]]), 0.5).round(decimals=3)
    tensor([[[[0.0000, 0.1070, 0.7870, 0.1070, 0.0000]]]])
    """
    reach = max(1, int(3 * sigma)) if reach is None else reach
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    weights = (-places.square() / (2 * sigma**2)).exp()
    channels = images.shape[1]
    weights = (weights / weights.sum()).expand(channels, 1, -1)
    mode = border if reach < min(images.shape[2:]) else "replicate"
    # pixels are no activations: in half precision they would be rounded, and oneDNN is slow with kernels of this length
    with torch.autocast(images.device.type, enabled=False):
        wide = F.conv2d(F.pad(images, (reach, reach, 0, 0), mode=mode), weights[:, :, None, :], groups=channels)
        return F.conv2d(F.pad(wide, (0, 0, reach, reach), mode=mode), weights[:, :, :, None], groups=channels)
