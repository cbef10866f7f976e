"""Pictures beside a check show a photo in the middle, and there is none where the audit knows of none."""

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import torch
from tests.commands.audit.test_tensors import some

from heatproof.commands.audit.examples import EXAMPLES, Kept
from heatproof.commands.audit.measure import Audit
from heatproof.commands.audit.mosaic import Mosaics
from heatproof.data.sources import open_data
from heatproof.models.loading import load

COUNT = 4


@pytest.fixture(scope="module")
def kept() -> Kept:
    """Four photos, of which the values rise, and two mosaics of them."""
    source = open_data("demo", limit=COUNT)
    values = [0.1 * place for place in range(COUNT)]
    table = pl.DataFrame(
        {
            "image": source.ids,
            "place": range(COUNT),
            "empty": [False] * COUNT,
            "target": [3] * COUNT,
            **dict.fromkeys(("agreement", "frame", "aopc", "aopc_witness"), values),
            "aopc_random": [0.0] * COUNT,
        }
    )
    mosaics = Mosaics(
        tiles=torch.tensor([[0, 1, 2, 3]] * 2),
        classes=torch.tensor([[1, 2], [3, 5]]),
        shares=torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]),
        quarters=torch.full((2,), 2),
        maps=torch.rand(2, 2, 4, 4),
    )
    return Kept(Audit(), load("demo"), source, table, replace(some(COUNT), mosaics=mosaics))


def example(kept: Kept, number: str) -> Any:
    found = EXAMPLES[number](kept)
    assert found is not None
    return found


def test_the_photo_is_the_one_in_the_middle(kept: Kept) -> None:
    for number in ("agreement", "frame", "faithfulness"):
        assert example(kept, number).panels[0].caption.startswith(f"{kept.source.ids[2]}: ")
    fewer = replace(kept, table=kept.table.with_columns(empty=pl.col("place") > 0))
    assert example(fewer, "agreement").panels[0].caption.startswith(f"{kept.source.ids[0]}: ")


def test_the_swap_is_of_the_mosaic_that_has_both_classes(kept: Kept) -> None:
    found = example(kept, "mosaic_swap")
    names = [kept.model.class_name(number) for number in (3, 5)]
    assert found.columns == ("mosaic of four photos", *(f"map of {name}" for name in names))
    assert kept.tensors.mosaics is not None
    for panel, wanted in zip(found.panels[1:], kept.tensors.mosaics.maps[1], strict=True):
        assert (panel.heatmap == wanted.numpy()).all()


@pytest.mark.parametrize("number", ["agreement", "frame", "faithfulness", "likeness"])
def test_maps_that_are_all_empty_have_no_picture(kept: Kept, number: str) -> None:
    assert example(kept, number).panels
    assert EXAMPLES[number](replace(kept, table=kept.table.with_columns(empty=True))) is None


def test_two_maps_are_not_said_to_be_alike(kept: Kept) -> None:
    assert len(example(kept, "likeness").panels) == 3
    assert EXAMPLES["likeness"](replace(kept, table=kept.table.with_columns(empty=pl.col("place") > 1))) is None


@pytest.mark.parametrize("number", ["mosaic", "mosaic_swap"])
def test_where_no_mosaic_says_anything_none_is_shown(kept: Kept, number: str) -> None:
    assert kept.tensors.mosaics is not None
    unknown = kept.tensors.mosaics._replace(shares=torch.full((2, 2, 2), torch.nan))
    for mosaics in (None, unknown):
        assert EXAMPLES[number](replace(kept, tensors=replace(kept.tensors, mosaics=mosaics))) is None
