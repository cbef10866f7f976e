"""Maps given as rows of numbers: what is none is refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heatproof.errors import InputError
from heatproof.manipulation.masks import drawn, entropy_share, frame, rim, written_out


def test_rows_are_kept_as_numbers():
    assert written_out(torch.tensor([[0.0, 0.5]])) == ((0.0, 0.5),)


@pytest.mark.parametrize(("cells", "shape"), [([[0.0, math.nan]], "[1, 2]"), ([1.0, 2.0], "[2]"), ([[]], "[1, 0]")])
def test_what_is_no_map_is_refused_with_its_shape(cells, shape):
    with pytest.raises(InputError) as refused:
        written_out(cells)
    assert str(refused.value) == f"a map is [rows, cols] of finite numbers, got {shape}"


def test_the_rim_is_the_frame_and_its_inner_corners():
    mask = rim(7, 7)
    assert int(mask.sum()) == 28
    assert bool((mask >= frame(7, 7)).all())
    assert torch.equal(drawn("rim", 14, 14), rim(14, 14))


@given(rows=st.integers(3, 20), cols=st.integers(3, 20), share=st.floats(0.1, 0.9))
def test_a_rim_is_symmetric_and_its_cells_are_the_farthest(rows: int, cols: int, share: float):
    mask = rim(rows, cols, share)
    assert torch.equal(mask, mask.flip(0))
    assert torch.equal(mask, mask.flip(1))
    assert 0 < mask.mean() < 1
    down, across = ((torch.arange(side) - (side - 1) / 2) / side for side in (rows, cols))
    far = (down[:, None].square() + across.square()).sqrt()
    assert far[mask == 1].min() > far[mask == 0].max() - 1e-6


@pytest.mark.parametrize("share", [0.2, 4 / 7])
def test_an_even_map_on_a_rim_is_as_spread_as_the_rim(share: float):
    mask = rim(14, 14, share)
    assert entropy_share(3 * mask[None]) == pytest.approx(float(mask.mean()))
    # empty maps say nothing; a sharper one lowers the mean of the entropies
    both = torch.stack([mask, torch.zeros_like(mask)])
    assert entropy_share(both) == pytest.approx(float(mask.mean()))
    sharp = torch.zeros_like(mask)
    sharp[0, 0] = 1
    assert entropy_share(torch.stack([mask, sharp])) == pytest.approx(math.sqrt(float(mask.sum())) / 196)


def test_of_empty_maps_no_share_is_found():
    with pytest.raises(InputError, match="something is positive"):
        entropy_share(-torch.ones(2, 3, 3))


def test_a_rim_needs_cells():
    with pytest.raises(InputError, match="'rim' needs heatmaps of at least 3x3 cells"):
        rim(2, 5)
