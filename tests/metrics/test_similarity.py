"""Similarity of heatmaps: laws by hypothesis, values by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.signal.windows import gaussian
from tests.shapes import unchecked

from heatproof.errors import InputError
from heatproof.metrics.similarity import center_distance, nissim, psnr, spearman, ssim, topk_intersection

# coarse steps make ties and empty maps likely
VALUES = st.integers(-4, 8).map(lambda step: step / 4)


def stacks(count):
    shapes = st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(2, 8))
    return shapes.flatmap(
        lambda shape: st.tuples(*[arrays.arrays("float64", shape, elements=VALUES).map(torch.from_numpy)] * count)
    )


@settings(deadline=None, max_examples=40)
@given(stacks(2), st.sampled_from(["max", "minmax"]))
def test_nissim_laws(pair, how):
    a, b = pair
    value = nissim(a, b, size=16, normalisation=how)
    assert ((value >= 0) & (value <= 1)).all()
    assert torch.equal(value, nissim(b, a, size=16, normalisation=how))
    assert torch.equal(nissim(a, a, size=16, normalisation=how), torch.zeros(len(a), dtype=a.dtype))
    # a map's own scale does not matter
    torch.testing.assert_close(nissim(3 * a, b / 7, size=16, normalisation=how), value)
    alone = torch.cat([nissim(x[None], y[None], size=16, normalisation=how) for x, y in zip(a, b, strict=True)])
    assert torch.equal(alone, value)


@settings(deadline=None, max_examples=40)
@given(stacks(2))
def test_ranks_and_overlaps_stay_in_range(pair):
    a, b = pair
    rank = spearman(a, b)
    known = rank[~rank.isnan()]
    assert (known.abs() <= 1).all()
    constant = (a.flatten(1).amax(1) == a.flatten(1).amin(1)) | (b.flatten(1).amax(1) == b.flatten(1).amin(1))
    assert torch.equal(rank.isnan(), constant)
    overlap = topk_intersection(a, b, 0.3)
    assert ((overlap >= 0) & (overlap <= 1)).all()
    assert (topk_intersection(a, a, 0.3) == 1).all()
    moved = center_distance(a, b)
    assert ((moved >= 0) & (moved < 1)).all()
    assert not center_distance(a, a).any()


def test_empty_maps():
    empty, full = torch.zeros(1, 7, 7), torch.ones(1, 7, 7)
    assert nissim(empty, empty) == 0
    # constant maps: only the luminance term is left, c1 / (1 + c1)
    expected = (1 - 0.0001 / 1.0001) / 2
    torch.testing.assert_close(nissim(empty, full), torch.tensor([expected]))
    torch.testing.assert_close(nissim(full, empty), torch.tensor([expected]))
    # max takes the positive part: a map that is all negative is empty
    assert nissim(-full, empty) == 0


def test_ssim_of_constant_maps_by_hand():
    a, b = torch.full((1, 12, 15), 0.25), torch.full((1, 12, 15), 0.75)
    torch.testing.assert_close(ssim(a, b), torch.tensor([(2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)]))


def test_maps_of_different_resolution_meet_at_the_given_size():
    fine = torch.rand(2, 14, 14, generator=torch.Generator().manual_seed(0))
    coarse = torch.rand(2, 7, 7, generator=torch.Generator().manual_seed(1))
    assert nissim(fine, coarse, size=(20, 24)).shape == (2,)
    # less than a window is a window
    assert torch.equal(nissim(coarse, coarse.flip(2), size=5), nissim(coarse, coarse.flip(2), size=11))


def test_spearman_with_ties_by_hand():
    a = torch.tensor([[[1.0, 2.0, 2.0, 4.0]]])
    b = torch.tensor([[[1.0, 3.0, 2.0, 4.0]]])
    # ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: Pearson = 4.5 / sqrt(4.5 * 5)
    torch.testing.assert_close(spearman(a, b), torch.tensor([4.5 / math.sqrt(22.5)]))


def test_psnr_by_hand():
    clean = torch.full((3, 3, 4, 4), 0.5)
    moved = clean.clone()
    moved[0] += 0.1
    moved[1, 0] += 0.3
    torch.testing.assert_close(
        psnr(moved, clean), torch.tensor([20.0, -10 * math.log10(0.03), math.inf]), rtol=0, atol=1e-4
    )


@unchecked()
def test_bad_maps_are_named():
    maps = torch.zeros(2, 12, 12)
    with pytest.raises(InputError, match="at least 11 x 11"):
        ssim(maps[:, :10], maps[:, :10])
    with pytest.raises(InputError, match="one shape"):
        spearman(maps, maps[:1])
    with pytest.raises(InputError, match="in pairs"):
        nissim(maps, maps[:1])
    with pytest.raises(InputError, match="'max' or 'minmax'"):
        nissim(maps, maps, normalisation="absmax")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="PSNR"):
        psnr(maps, maps[:1])
    assert len(nissim(maps[:0], maps[:0])) == 0


@pytest.mark.parametrize("size", [(5, 5), (6, 9), (8, 8)], ids=str)
def test_ssim_of_a_small_map_is_the_formula_in_one_window(size):
    a, b = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    window = min(size)
    # scipy's window is Wang's too: exp(-x^2 / (2 sigma^2)) about the middle, also where the side is even
    line = torch.from_numpy(gaussian(window, 1.5))
    weights = torch.outer(line, line) / line.sum() ** 2
    values = []
    for start in range(size[1] - window + 1):
        x, y = a[:, :window, start : start + window], b[:, :window, start : start + window]
        m, n = ((weights * maps).sum((1, 2), keepdim=True) for maps in (x, y))
        s, t, st_ = ((weights * p * q).sum((1, 2)) for p, q in ((x - m, x - m), (y - n, y - n), (x - m, y - n)))
        m, n = m[:, 0, 0], n[:, 0, 0]
        values.append((2 * m * n + 1e-4) * (2 * st_ + 9e-4) / ((m**2 + n**2 + 1e-4) * (s + t + 9e-4)))
    torch.testing.assert_close(ssim(a, b, window=window), torch.stack(values).mean(0))
