"""The algebra's refusals; its values stand in the doctests."""

import pytest
import torch

from heatproof.errors import InputError
from heatproof.heatmaps import normalise, topk_mask


def test_what_makes_no_sense_is_named() -> None:
    maps = torch.rand(1, 2, 2)
    with pytest.raises(InputError, match="normalise knows max, minmax, absmax and sum, got 'l1'"):
        normalise(maps, "l1")  # type: ignore[arg-type]
    for fraction in (0.0, 1.5):
        with pytest.raises(InputError, match=r"fraction must lie in \(0, 1\]"):
            topk_mask(maps, fraction)
