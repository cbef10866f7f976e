"""Maps given as rows of numbers: what is none is refused."""

import math

import pytest
import torch

from heatproof.errors import InputError
from heatproof.manipulation.masks import written_out


def test_rows_are_kept_as_numbers():
    assert written_out(torch.tensor([[0.0, 0.5]])) == ((0.0, 0.5),)


@pytest.mark.parametrize(("cells", "shape"), [([[0.0, math.nan]], "[1, 2]"), ([1.0, 2.0], "[2]"), ([[]], "[1, 0]")])
def test_what_is_no_map_is_refused_with_its_shape(cells, shape):
    with pytest.raises(InputError) as refused:
        written_out(cells)
    assert str(refused.value) == f"a map is [rows, cols] of finite numbers, got {shape}"
