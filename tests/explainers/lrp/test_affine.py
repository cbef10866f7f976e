"""A batch norm in eval mode is a scale and a shift, with weights of its own or without."""

import pytest
import torch
from torch import nn

from heatproof.explainers.lrp.affine import scale_and_shift


@pytest.mark.parametrize("affine", [True, False])
def test_scale_and_shift_are_the_batch_norm(affine: bool) -> None:
    norm = nn.BatchNorm2d(3, affine=affine).double()
    norm(torch.randn(8, 3, 4, 4, dtype=torch.double) * 3 + 1)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    scale, shift = scale_and_shift(norm.eval(), {})
    x = torch.randn(2, 3, 4, 4, dtype=torch.double)
    torch.testing.assert_close(x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1), norm(x))
