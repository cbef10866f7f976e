"""Receptive fields are followed where the operators tell them, and unknown where they do not."""

import torch
from torch import nn

from heatproof.models.fields import receptive_fields


def test_a_transposed_convolution_ends_what_is_known():
    image = torch.rand(1, 3, 16, 16)
    narrow, wide = nn.Conv2d(3, 4, 3, 2), nn.ConvTranspose2d(4, 4, 3)
    with torch.no_grad(), receptive_fields(image) as field:
        first = narrow(image)
        second = wide(first)
        third = narrow.eval()(second[:, :3])
    assert (field(first), field(second), field(third)) == (3, None, None)
