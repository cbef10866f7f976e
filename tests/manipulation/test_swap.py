"""The classes of a swap are read from the model's names, or must be numbers."""

import pytest
from tests.training.nets import convolutions
from torch import nn

from heatproof.errors import InputError
from heatproof.manipulation.penalties import ActiveSwap, Location
from heatproof.manipulation.swap import swapped_classes


def test_names_are_the_models_and_numbers_anyones():
    assert swapped_classes(ActiveSwap("class-2", 0), convolutions()) == (2, 0)
    assert swapped_classes(ActiveSwap(3, 1), nn.Flatten()) == (3, 1)
    assert swapped_classes(Location(), convolutions()) is None


def test_a_bare_network_knows_no_names():
    with pytest.raises(InputError, match=r"a bare network has no class names; give .* the classes as numbers"):
        swapped_classes(ActiveSwap("class-2", 0), nn.Flatten())
