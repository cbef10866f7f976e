"""MOD and VID: by hand, and the law between the two forms of VID."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heatproof.errors import InputError
from heatproof.metrics.shift import mod, vid, vid_per_image


def test_values_by_hand():
    torch.testing.assert_close(mod(torch.tensor([0.1, 0.2, 0.6])), torch.tensor(0.3))
    # ddof 0: sqrt(((0.1)^2 + 0 + (0.1)^2) / 3)
    torch.testing.assert_close(vid([0.1, 0.2, 0.3]), torch.tensor((0.02 / 3) ** 0.5))
    assert vid([0.4]) == 0
    nissim = torch.tensor([[0.0, 0.5], [0.4, 0.5]])
    torch.testing.assert_close(vid_per_image(nissim), torch.tensor([0.2, 0.0]))


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=6))
def test_vid_is_at_most_the_mean_over_images(rows):
    nissim = torch.tensor(rows, dtype=torch.float64)
    assert vid(nissim.mean(1)) <= mod(vid_per_image(nissim)) + 1e-12
    assert vid_per_image(nissim).max() <= 0.5 + 1e-12


def test_nothing_to_average_is_named():
    with pytest.raises(InputError, match="there is none"):
        mod(torch.zeros(0))
    with pytest.raises(InputError, match="there is none"):
        vid([])
