"""Algebra on heatmaps against closed forms and NumPy."""

import math

import numpy as np
import pytest
import torch

from heatproof.errors import InputError
from heatproof.heatmaps import normalise, pearson, topk_mask


def test_pearson_by_hand() -> None:
    # deviations (-1, 0, 1) and (-1, 1, 0): 1 / 2
    torch.testing.assert_close(
        pearson(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 2.0, 1.0]])), torch.tensor([0.5])
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)], ids=str)
def test_pearson_is_that_of_numpy(dtype, tolerance) -> None:
    draw = np.random.default_rng(0)
    a = draw.normal(size=(5, 7, 9))
    b = a + draw.normal(size=a.shape) * np.array([0.0, 0.1, 1.0, 10.0, 100.0])[:, None, None]
    expected = [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)]
    a, b = torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype)
    np.testing.assert_allclose(pearson(a, b).numpy(), expected, rtol=0, atol=tolerance)
    # neither scale nor shift matters, and a sign is a sign
    torch.testing.assert_close(pearson(3 * a + 1, b), pearson(a, b))
    torch.testing.assert_close(pearson(-a, b), -pearson(a, b))


def test_what_is_constant_but_for_rounding_has_no_correlation() -> None:
    flat = torch.full((1, 50, 50), 0.1)
    flat[0, 0] = torch.nextafter(torch.tensor(0.1), torch.tensor(1.0))
    other = torch.rand(1, 50, 50, generator=torch.Generator().manual_seed(0))
    assert pearson(flat, other).isnan().all()
    assert pearson(flat, other, constant=0.0).item() == 0
    assert math.isfinite(pearson(flat, other, rounding=0).item())  # which is asked for where values are exact


def test_what_makes_no_sense_is_named() -> None:
    maps = torch.rand(1, 2, 2)
    with pytest.raises(InputError, match="normalise knows max, minmax, absmax and sum, got 'l1'"):
        normalise(maps, "l1")  # type: ignore[arg-type]
    for fraction in (0.0, 1.5):
        with pytest.raises(InputError, match=r"fraction must lie in \(0, 1\]"):
            topk_mask(maps, fraction)
