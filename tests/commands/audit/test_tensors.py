"""What an audit keeps comes back from its files as it was, those of version 0.1 too."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from heatproof.commands.audit.kept import KeptMaps, in_parts
from heatproof.commands.audit.measure import center_distances, likeness
from heatproof.commands.audit.mosaic import PHOTOS, Mosaics
from heatproof.commands.audit.numbers import numbers
from heatproof.commands.audit.run import read_audit
from heatproof.commands.audit.summary import drift_between, read_baseline
from heatproof.commands.audit.tensors import AuditTensors
from heatproof.errors import InputError, RunError
from heatproof.results.run import Run

OLD = Path(__file__).with_name("run_0.1")
"""The tensors and the table of an audit by version 0.1: the demo network, 4 scenes in parts of 3, a budget of 33, with
itself as the reference."""


def some(photos: int, seed: int = 0, compared: bool = False) -> AuditTensors:
    draw = torch.Generator().manual_seed(seed)
    classes = torch.rand(photos, 2, 2, generator=draw)
    return AuditTensors(
        maps=torch.rand(photos, 3, 4, generator=draw),
        witness=torch.rand(photos, 5, 6, generator=draw),
        targets=torch.randint(9, (photos, 2), generator=draw),
        by_class=torch.rand(photos, 2, generator=draw).where(torch.tensor([True, False]), torch.nan),
        tiles=torch.randint(256, (photos, 3, 8, 8), generator=draw).to(torch.uint8),
        likeness_to_reference=classes if compared else None,
    )


def assert_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def maps_of(tensors: AuditTensors) -> torch.Tensor:
    """The maps, which are in memory."""
    assert isinstance(tensors.maps, torch.Tensor)
    return tensors.maps


def at_hand(tensors: AuditTensors) -> AuditTensors:
    """The same with the maps in memory."""
    maps, witness = (torch.cat([*in_parts(found)]) for found in (tensors.maps, tensors.witness))
    return replace(tensors, maps=maps, witness=witness)


def test_maps_in_files_are_those_in_memory(tmp_path: Path) -> None:
    parts = [some(4, seed) for seed in range(3)]
    # an empty map and one that is equal everywhere count as neither like nor unlike
    of_parts = [maps_of(own) for own in parts]
    of_parts[1][2], of_parts[2][0] = 0, 3
    with Run.start(tmp_path / "run", command="audit", settings={}) as run:
        for number, own in enumerate(parts):
            own.save(run, number, seen=4 * number, count=12)
        kept = AuditTensors.load(run.folder).maps
        maps = torch.cat(of_parts)
        assert isinstance(kept, KeptMaps)
        assert len(kept) == len([*kept]) == 12
        assert_equal(kept[6], maps[6])
        assert_equal(torch.stack([*kept]), maps)
        with pytest.raises(IndexError):
            kept[12]
        assert_equal(likeness(kept), likeness(maps))
        assert_equal(center_distances(kept), center_distances(maps))
        assert int(likeness(maps).isnan().sum()) == 2
        names = [f"{place}|猫.png" for place in range(12)]
        run.write_maps("heatmaps/maps.safetensors", names, kept)
        read = read_baseline(run.folder)
        assert sorted(read) == sorted(names)
        for name, own in zip(names, maps, strict=True):
            assert_equal(read[name], own)
        # and as the library of the format reads them
        assert_equal(load_file(run.path("heatmaps/maps.safetensors"))[names[7]], maps[7])
        (run.folder / "kept/000001.safetensors").write_bytes(b"")
        with pytest.raises(RunError, match=r"000001\.safetensors is no whole safetensors file.*; delete it"):
            kept[5]


@pytest.mark.parametrize("compared", [False, True])
def test_parts_come_back_in_order(tmp_path: Path, compared: bool) -> None:
    first, second = some(2, 0, compared), some(3, 1, compared)
    mosaics = Mosaics(
        tiles=torch.tensor([[0, 1, 1, 0]]),
        classes=torch.tensor([[3, 5]]),
        shares=torch.rand(1, 2, 2),
        quarters=torch.tensor([2]),
        maps=torch.rand(1, 2, 3, 4),
    )
    with Run.start(tmp_path / "run", command="audit", settings={}) as run:
        second.save(run, 1, seen=2, count=5)
        first.save(run, 0, seen=0, count=5)
        assert AuditTensors.load(run.folder).mosaics is None
        AuditTensors(**{**vars(first), "mosaics": mosaics}).save_mosaics(run)
        found = at_hand(AuditTensors.load(run.folder))
    for name in ("maps", "witness", "targets", "by_class", "tiles"):
        assert_equal(getattr(found, name), torch.cat([getattr(first, name), getattr(second, name)]))
    if compared:
        assert found.likeness_to_reference is not None
        assert_equal(found.likeness_to_reference[:2], first.likeness_to_reference)  # pyright: ignore
    else:
        assert found.likeness_to_reference is None
    assert found.mosaics is not None
    for own, expected in zip(found.mosaics, mosaics, strict=True):
        assert_equal(own, expected)


def test_tiles_are_spread_over_the_data(tmp_path: Path) -> None:
    count, part = 3 * PHOTOS, 50
    with Run.start(tmp_path / "run", command="audit", settings={}) as run:
        whole = [some(part, seed) for seed in range(count // part)]
        for number, own in enumerate(whole):
            own.save(run, number, seen=number * part, count=count)
        found = AuditTensors.load(run.folder)
    assert len(found.tiles) == PHOTOS
    assert found.tiled is not None
    # every third photo, the last ones too
    assert found.tiled[[0, 1, -1]].tolist() == [0, 3, count - 1]
    assert_equal(found.tiles, torch.cat([own.tiles for own in whole])[found.tiled])
    assert_equal(found.tile_targets(), torch.cat([own.targets for own in whole])[found.tiled, 0])


def test_tiles_belong_to_their_photos_where_some_cannot_be_read(tmp_path: Path) -> None:
    count, part = 3 * PHOTOS, 50
    with Run.start(tmp_path / "run", command="audit", settings={}) as run:
        whole = [some(part - (seed < 2), seed) for seed in range(count // part)]
        for number, own in enumerate(whole):
            own.save(run, number, seen=number * part, count=count)
        found = AuditTensors.load(run.folder, count - 2)
    assert found.tiled is not None
    assert_equal(found.tiles, torch.cat([own.tiles for own in whole])[found.tiled])
    assert_equal(found.tile_targets(), torch.cat([own.targets for own in whole])[found.tiled, 0])


def test_the_parts_of_version_0_1_are_read(tmp_path: Path) -> None:
    found = at_hand(AuditTensors.load(OLD))
    parts = [load_file(file) for file in sorted((OLD / "kept").iterdir())]
    assert [len(part["maps"]) for part in parts] == [3, 1]
    assert_equal(maps_of(found), torch.cat([part["maps"] for part in parts]))
    assert_equal(found.targets, torch.cat([part["targets"] for part in parts]))
    # the same network: the map of each class is the reference's
    assert found.likeness_to_reference is not None
    torch.testing.assert_close(
        found.likeness_to_reference.diagonal(dim1=1, dim2=2).double().nanmean(), torch.tensor(1.0).double()
    )
    assert found.mosaics is not None
    assert_equal(found.mosaics.shares, load_file(OLD / "mosaics.safetensors")["mosaic_shares"])
    # written again they are the same tensors by the same names, in both directions of time
    with Run.start(tmp_path / "run", command="audit", settings={}) as run:
        found.save(run, 0, seen=0, count=4)
        again = load_file(run.folder / "kept/000000.safetensors")
    assert again.keys() == parts[0].keys()
    assert all(again[name].dtype == value.dtype for name, value in parts[0].items())


def test_an_audit_of_version_0_1_is_a_baseline_and_read_for_its_numbers() -> None:
    table, tensors = read_audit(OLD)
    earlier = read_baseline(OLD)
    maps = dict(zip(table["image"].to_list(), tensors.maps, strict=True))
    drift = drift_between(maps, earlier, 64)
    assert (drift.mod, drift.count) == (pytest.approx(0, abs=1e-6), 4)
    moved = drift_between({image: found.flip(0) for image, found in maps.items()}, earlier, 64)
    assert moved.mod is not None
    assert moved.mod > 0.05
    found = dict(numbers(table, tensors))
    # as its own summary.json has them
    for name, value in {"agreement": 0.5878, "faithfulness": 0.5067, "share": 1.378, "mosaic_swap": -0.1203}.items():
        values = [v for v in found[name] if v is not None]
        assert sum(values) / len(values) == pytest.approx(value, rel=1e-3)
    with pytest.raises(InputError, match="none of these photos"):
        drift_between({"another": tensors.maps[0]}, earlier, 64)


def test_what_is_no_audit_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run folder of an audit"):
        AuditTensors.load(tmp_path)
    (tmp_path / "kept").mkdir()
    save_file({"maps": torch.zeros(1, 2, 2)}, tmp_path / "kept/000000.safetensors")
    with pytest.raises(RunError, match="no witness, targets, by_class, tiles"):
        AuditTensors.load(tmp_path)
