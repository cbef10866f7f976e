"""The list of a shard's files: whole, damaged, and a summary that is not there."""

from pathlib import Path

import pytest

from heatproof.errors import RunError
from heatproof.results.shards import FILES, delete_damaged, files_of, is_whole, list_files, read_files, tell_missing


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "000000.parquet").write_bytes(b"rows")
    (tmp_path / "parts" / ".000001.parquet.aside").write_bytes(b"half")
    list_files(tmp_path)
    return tmp_path


def test_a_shard_is_whole_while_its_files_are_as_listed(shard: Path) -> None:
    assert is_whole(shard)
    (shard / "parts" / "000000.parquet").write_bytes(b"row")
    assert not is_whole(shard)
    (shard / "parts" / "000000.parquet").unlink()
    assert not is_whole(shard)


def test_a_flipped_bit_makes_a_shard_damaged(shard: Path) -> None:
    (shard / "parts" / "000000.parquet").write_bytes(b"rowt")
    assert not is_whole(shard)
    # an earlier version wrote down no hashes
    (shard / FILES).write_text('{"files": {"parts/000000.parquet": 4}}')
    assert is_whole(shard)


@pytest.mark.parametrize(
    ("damaged", "left"),
    [
        # its part alone is made anew
        ("kept/000001.safetensors", ["parts/000000.parquet", "kept/000000.safetensors", "figures/a.png"]),
        ("parts/000001.parquet", ["parts/000000.parquet", "kept/000000.safetensors", "figures/a.png"]),
        # of a figure nobody knows of which part it is
        ("figures/a.png", ["kept/000000.safetensors", "kept/000001.safetensors"]),
        ("", ["parts/000000.parquet", "parts/000001.parquet", "kept/000000.safetensors", "figures/a.png"]),
    ],
)
def test_what_is_damaged_goes_with_the_rows_of_its_part(tmp_path: Path, damaged: str, left: list[str]) -> None:
    for name in ("parts/000000.parquet", "parts/000001.parquet", "figures/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"rows")
    (tmp_path / "kept").mkdir()
    for number in range(2):
        (tmp_path / "kept" / f"{number:06d}.safetensors").write_bytes(b"maps")
    list_files(tmp_path)
    if damaged:
        (tmp_path / damaged).write_bytes(b"flip")
    delete_damaged(tmp_path)
    there = files_of(tmp_path).keys()
    assert damaged not in there
    assert {*left} <= there
    assert [name for name in there if name.startswith("parts/")] == [name for name in left if name.startswith("parts/")]


@pytest.mark.parametrize("text", ["{", "[]", '{"files": {"../up": 1}}', '{"files": {"parts/000000.parquet": -1}}', ""])
def test_a_damaged_list_is_told_and_the_shard_is_not_whole(shard: Path, text: str) -> None:
    (shard / FILES).write_text(text)
    with pytest.raises(RunError, match="give the shard's command again"):
        read_files(shard)
    assert not is_whole(shard)


def test_without_a_summary_nothing_is_told(tmp_path: Path) -> None:
    tell_missing(tmp_path, {"shards": {"missing": [2]}})
    assert list(tmp_path.iterdir()) == []
