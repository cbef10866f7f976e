"""What the gradient says of each channel of each pixel, and of no layer."""

import pytest
import torch

from heatproof.errors import InputError
from heatproof.explainers.gradient import SimpleGrad
from networks import photos, small


def test_a_layer_s_gradient_is_attributed_to_no_pixel() -> None:
    model, images = small(), photos(2)
    found = SimpleGrad().attribute(model, images, None, create_graph=False)
    torch.testing.assert_close(found.values.abs().sum(1), SimpleGrad()(model, images).heatmaps)
    with pytest.raises(InputError, match=r"says nothing of pixels; leave out its layer"):
        SimpleGrad("last").attribute(model, images, None, create_graph=False)
