"""Every architecture, every column: the map follows the square, or is refused by name, or nothing can be told."""

import pytest

from zoo.columns import COLUMNS
from zoo.families import NAMES
from zoo.harness import judged
from zoo.measure import ENOUGH


@pytest.mark.zoo
@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("name", NAMES)
def test_the_map_follows_the_square_or_is_refused(name: str, column: str) -> None:
    for key, cell in judged(name, column).items():
        assert cell.status in ("works", "refused", "cannot tell"), f"{key}: {cell}"
        assert all(control <= ENOUGH for control in cell.controls.values()), f"{key}: a planted fault follows: {cell}"
