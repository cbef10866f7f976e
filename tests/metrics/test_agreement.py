"""Patch correlation against closed forms."""

import pytest
import torch
from tests.shapes import unchecked

from heatproof.errors import InputError
from heatproof.metrics.agreement import patch_correlation


def test_a_map_of_the_contributions_of_a_linear_model_agrees_wholly() -> None:
    generator = torch.Generator().manual_seed(0)
    contributions = torch.randn(3, 6, 6, generator=generator)
    covers = (torch.rand(20, 6, 6, generator=generator) < 0.3).float()
    drops = torch.einsum("nhw,mhw->nm", contributions, covers)
    torch.testing.assert_close(patch_correlation(contributions, drops, covers), torch.ones(3))
    torch.testing.assert_close(patch_correlation(-5 * contributions, drops, covers), -torch.ones(3))


def test_what_is_constant_has_no_correlation() -> None:
    heat, covers = torch.ones(1, 4, 4), torch.eye(16).view(16, 4, 4)
    assert patch_correlation(heat, torch.rand(1, 16), covers).isnan().all()
    assert patch_correlation(torch.rand(1, 4, 4), torch.full((1, 16), 0.3), covers).isnan().all()


@unchecked()
def test_numbers_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="one drop per image and patch"):
        patch_correlation(torch.ones(1, 4, 4), torch.ones(1, 3), torch.ones(2, 4, 4))
