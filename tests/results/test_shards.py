"""The list of a shard's files: whole, damaged, and a summary that is not there."""

from pathlib import Path

import pytest

from heatproof.errors import RunError
from heatproof.results.shards import FILES, is_whole, list_files, read_files, tell_missing


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


@pytest.mark.parametrize("text", ["{", "[]", '{"files": {"../up": 1}}', '{"files": {"parts/000000.parquet": -1}}', ""])
def test_a_damaged_list_is_told_and_the_shard_is_not_whole(shard: Path, text: str) -> None:
    (shard / FILES).write_text(text)
    with pytest.raises(RunError, match="give the shard's command again"):
        read_files(shard)
    assert not is_whole(shard)


def test_without_a_summary_nothing_is_told(tmp_path: Path) -> None:
    tell_missing(tmp_path, {"shards": {"missing": [2]}})
    assert list(tmp_path.iterdir()) == []
