"""Gaussian blur: torchvision's and SciPy's as witnesses."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d, gaussian_filter

from heatproof.images import blurred
from heatproof.vision import torchvision

PHOTOS = torch.rand(2, 3, 24, 31, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("sigma", "reach"), [(0.7, 2), (2.0, 6), (5.0, 5)])
def test_mirrored_blur_is_torchvisions(sigma, reach):
    expected = torchvision.transforms.functional.gaussian_blur(PHOTOS, 2 * reach + 1, sigma)
    torch.testing.assert_close(blurred(PHOTOS, sigma, reach=reach), expected)


@pytest.mark.parametrize(("border", "scipys"), [("reflect", "mirror"), ("replicate", "nearest")])
def test_blur_is_scipys_at_either_border(border, scipys):
    expected = gaussian_filter(PHOTOS.numpy(), 2.0, mode=scipys, radius=6, axes=(2, 3))
    np.testing.assert_allclose(blurred(PHOTOS, 2.0, border=border).numpy(), expected, rtol=0, atol=1e-14)


def test_an_image_smaller_than_the_reach_repeats_its_border():
    small = PHOTOS[..., :4, :3]
    line = np.exp(-(np.arange(-6.0, 7.0) ** 2) / 8)
    expected = small.numpy()
    for axis in (2, 3):
        expected = correlate1d(expected, line / line.sum(), axis=axis, mode="nearest")
    np.testing.assert_allclose(blurred(small, 2.0).numpy(), expected, rtol=0, atol=1e-14)


def test_autocast_does_not_round_pixels():
    images = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = blurred(images, 2.0)
    assert torch.equal(found, blurred(images, 2.0))
