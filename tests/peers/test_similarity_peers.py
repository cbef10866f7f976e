"""scikit-image's SSIM and SciPy's Spearman as witnesses."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from heatproof.heatmaps import normalise, resize
from heatproof.metrics.similarity import nissim, psnr, spearman, ssim

pytestmark = pytest.mark.peers


def witness(a, b):
    metrics = pytest.importorskip("skimage.metrics")
    settings = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return torch.tensor(
        [metrics.structural_similarity(x, y, **settings) for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    )


@pytest.mark.parametrize("shape", [(11, 11), (64, 48), (224, 224)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_ssim_is_that_of_scikit_image(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(7, *shape, generator=generator, dtype=torch.float64)
    coarse = normalise(resize(torch.rand(7, 3, 3, generator=generator, dtype=torch.float64), shape))
    flat = torch.zeros_like(noise)
    for a, b in ((noise, coarse), (coarse, coarse.flip(0)), (coarse, flat), (flat, flat), (coarse, coarse + 1e-4)):
        found = ssim(a.to(dtype), b.to(dtype))
        torch.testing.assert_close(
            found.double(), witness(a, b), rtol=0, atol=1e-6 if dtype is torch.float32 else 1e-12
        )


def test_nissim_of_maps_is_the_formula_over_scikit_image():
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 5, 7, 7, generator=generator)
    up = [resize(normalise(maps), (224, 224)).double() for maps in (a, b)]
    torch.testing.assert_close(nissim(a, b).double(), (1 - witness(*up)) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("levels", [3, 1000], ids=["ties", "no ties"])
def test_spearman_is_that_of_scipy(levels):
    draw = np.random.default_rng(0)
    a, b = draw.integers(levels, size=(2, 6, 5, 5)).astype(np.float64)
    expected = [spearmanr(x.ravel(), y.ravel())[0] for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(spearman(torch.tensor(a), torch.tensor(b)), torch.tensor(expected))


def test_psnr_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    clean = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = (clean + 0.05).clamp(0, 1)
    expected = [
        metrics.peak_signal_noise_ratio(x.numpy(), y.numpy(), data_range=1) for x, y in zip(clean, moved, strict=True)
    ]
    torch.testing.assert_close(psnr(moved, clean), torch.tensor(expected))
