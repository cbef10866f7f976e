"""A trigger of one's own cells is stamped as it was given, and cells that are no grey levels are refused."""

import pytest
import torch

from heatproof.errors import InputError
from heatproof.manipulation.trigger import Trigger


def test_given_cells_are_stamped_as_they_are():
    cells = [[0.0, 0.25], [0.5, 1.0]]
    trigger = Trigger(size=2, pixels=cells)  # type: ignore[arg-type]
    before = torch.full((1, 3, 6, 6), 0.75)
    stamped = trigger(before)
    changed = (stamped != before)[0]
    assert changed.sum() == 3 * 4
    assert torch.equal(stamped[0][changed].view(3, 2, 2), torch.tensor(cells).expand(3, 2, 2))
    assert Trigger(size=2, pixels=torch.tensor(cells)) == trigger  # type: ignore[arg-type]


@pytest.mark.parametrize("cells", [[[0.0, 1.5], [0.0, 0.0]], [[0.0, 1.0]]])
def test_cells_that_are_no_grey_levels_are_refused(cells):
    with pytest.raises(InputError, match=r"the pixels of a trigger are 2x2 grey levels in \[0, 1\]"):
        Trigger(size=2, pixels=cells)
