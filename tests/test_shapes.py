"""Shapes in signatures are checked while tests run, and nothing else is."""

import pytest
import torch
from jaxtyping import TypeCheckError
from tests.shapes import unchecked

from heatproof.commands.audit.tensors import AuditTensors
from heatproof.heatmaps import center_of_mass, mass, normalise


def test_a_wrong_shape_is_found() -> None:
    with pytest.raises(TypeCheckError, match="center_of_mass"):
        center_of_mass(torch.rand(3, 4))
    with pytest.raises(TypeCheckError, match="mask"):
        mass(torch.rand(1, 3, 4), torch.rand(4, 3))
    with unchecked(), pytest.raises(RuntimeError):
        mass(torch.rand(1, 3, 4), torch.rand(4, 3))
    with pytest.raises(TypeCheckError):
        normalise(torch.zeros(1, 2, 2, dtype=torch.long))


def test_the_fields_of_a_dataclass_fit_each_other() -> None:
    three, two = torch.rand(3, 2, 2), torch.zeros(2, 1, dtype=torch.long)
    tiles = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(TypeCheckError, match="targets"):
        AuditTensors(maps=three, witness=three, targets=two, by_class=torch.rand(3, 1), tiles=tiles)
