"""What an audit keeps is checked before it is used: each fault is a sentence that names it."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.commands.audit.test_tensors import some
from torch import Tensor

from heatproof.commands.audit.kept import KeptMaps, check_table, placed, read_mosaics, read_parts
from heatproof.commands.audit.mosaic import Mosaics
from heatproof.errors import RunError
from heatproof.results.run import Run


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """The only part of an audit of three photos with a reference."""
    with Run.start(tmp_path / "run", command="audit", settings={}) as run:
        some(3, compared=True).save(run, 0, seen=0, count=3)
    return tmp_path / "run/kept/000000.safetensors"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("maps", torch.zeros(3, 4), r"expected maps of 3 dimensions, got \[3, 4\]"),
        ("maps", torch.zeros(3, 3, 4, dtype=torch.int64), "maps is of torch.int64"),
        ("targets", torch.zeros(3, 2), "targets is of torch.float32"),
        ("witness", torch.zeros(2, 5, 6), "expected witness of 3 photos, got 2"),
        ("witness", torch.full((3, 5, 6), torch.nan), "witness holds NaN or infinity"),
        ("by_class", torch.full((3, 2), torch.inf), "a tensor holds infinity"),
        ("by_class", torch.zeros(3, 1), "by_class and targets are not of the same photos and classes"),
        ("by_class", torch.zeros(2, 2), "expected by_class of 3 photos, got 2"),
        ("targets", torch.full((3, 2), -1), "by_class and targets are not of the same photos and classes"),
        ("likeness_to_reference", torch.zeros(3, 2, 1), "likeness_to_reference is not of the same photos and classes"),
        ("tiled", torch.tensor([0, 1, 3]), "tiled does not say which photos the tiles are"),
        ("tiled_in_part", torch.tensor([0, 1, 3]), "tiled does not say which photos the tiles are"),
        ("tiled", torch.tensor([0, 1]), "tiled does not say which photos the tiles are"),
    ],
)
def test_a_part_that_does_not_fit_is_named(name: str, value: Tensor, said: str, part: Path) -> None:
    assert read_parts(part.parents[1])[0]["targets"].shape == (3, 2)
    save_file({**load_file(part), name: value}, part)
    with pytest.raises(RunError, match=f"kept: {said}; delete it and .*parts, and give the same command again"):
        read_parts(part.parents[1])


def test_a_part_that_changes_while_it_is_read(part: Path) -> None:
    maps = KeptMaps("maps", (part,), (3,), "begin anew")
    assert len(torch.cat([*maps.parts()])) == 3
    save_file({**load_file(part), "maps": torch.zeros(2, 3, 4)}, part)
    with pytest.raises(RunError, match=r"000000\.safetensors was changed while it was read; begin anew"):
        list(maps.parts())


def test_a_table_has_each_photo_once() -> None:
    texts = {"image": ["a", "b"], "model": ["m", "m"], "explainer": ["e", "e"]}
    numbers = {name: [0.5, 0.5] for name in ("trust", "agreement", "aopc", "aopc_random", "aopc_witness")}
    marks = {"place": [0, 1], "target": [3, 4], "empty": [False, False], "correct": [True, None]}
    table = pl.DataFrame({**texts, **numbers, **marks})
    check_table(Path("images.parquet"), table, "begin anew")
    for column, values in (("place", [0, 0]), ("place", [1, 2]), ("target", [3, None])):
        twice = table.with_columns(pl.Series(column, values))
        with pytest.raises(RunError, match=r"images\.parquet does not hold each photo of an audit once; begin anew"):
            check_table(Path("images.parquet"), twice, "begin anew")


def test_photos_of_parts_are_numbered_from_zero_on_unless_their_numbers_say_nothing() -> None:
    assert placed(pl.DataFrame({"place": [7, 3, 12]}))["place"].to_list() == [1, 0, 2]
    for places in ([3, 3], [3, None], ["a", "b"]):
        table = pl.DataFrame({"place": places})
        assert placed(table) is table


def test_mosaics_of_other_sizes(tmp_path: Path) -> None:
    mosaics = Mosaics(
        tiles=torch.tensor([[0, 1, 1, 0]]),
        classes=torch.tensor([[3, 5]]),
        shares=torch.rand(1, 2, 2),
        quarters=torch.tensor([2]),
        maps=torch.rand(1, 2, 3, 4),
    )
    with Run.start(tmp_path, command="audit", settings={}) as run:
        replace(some(3), mosaics=mosaics).save_mosaics(run)
    path = tmp_path / "mosaics.safetensors"
    whole = load_file(path)
    assert torch.equal(read_mosaics(path, "begin anew")["shares"], mosaics.shares)
    for name, value in (
        ("mosaic_shares", torch.zeros(4)),
        ("mosaic_classes", torch.zeros(1, 3, dtype=torch.int64)),
        ("mosaic_quarters", torch.zeros(1)),
        ("mosaic_maps", torch.full((1, 2, 3, 4), torch.inf)),
    ):
        save_file({**whole, name: value}, path)
        with pytest.raises(RunError, match=r"mosaics\.safetensors holds no mosaics of an audit; begin anew"):
            read_mosaics(path, "begin anew")
