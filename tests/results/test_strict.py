"""One door for a run's files: each fault is one sentence that names the file and says what to do."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from heatproof.errors import InputError, RunError
from heatproof.results import Run, strict
from heatproof.results.strict import (
    check_columns,
    gather_tensor,
    is_number,
    read_images,
    read_maps,
    read_object,
    read_skipped,
    read_summary,
    read_tensors,
)

RECORD = {"format": 1, "command": "explain", "settings": {}, "seed": 0, "status": "complete"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "another version"),
        ({"format": None}, "another version"),
        ({"settings": []}, "is no settings"),
        ({"status": "done"}, "is no status"),
        ({"status": ["complete"]}, "is no status"),
        ({"resumed": True}, "is no resumed"),
        ({"model": "demo"}, "is no model"),
        ({"seed": "0"}, "is no seed"),
    ],
)
def test_records_of_another_kind(change: dict, said: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({**RECORD, **change}))
    with pytest.raises(RunError, match=rf"run\.json .*{said}.*choose another --out"):
        Run.start(tmp_path, command="explain", settings={})


@pytest.mark.parametrize("text", ["NaN", "[1]", "", "{", "[" * 100_000, '{"a": NaN}', '{"a": Infinity}', "\xff"])
def test_what_is_no_object(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.json .*; give another"):
        read_object(tmp_path / "a.json", "give another", InputError)


@pytest.mark.parametrize(
    "summary",
    [
        {"rows": 3},
        {"rows": [3]},
        {"skipped": [{"image": "a"}]},
        {"skipped": {"image": "a"}},
        {"answer": [3]},
        {"answer": {}},
        {"verdict": 3},
    ],
)
def test_summaries_of_another_kind(summary: Any, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(RunError, match=r"summary\.json is damaged.*--overwrite"):
        read_summary(tmp_path)


def test_an_answer_may_be_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"rows": [], "answer": "Yes."}')
    assert read_summary(tmp_path)["answer"] == ["Yes."]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.zeros(3), r"no maps \[rows, cols\]"),
        (torch.zeros(3, 0), "no maps"),
        (torch.zeros(3, 3, dtype=torch.int64), "no maps"),
        (torch.full((3, 3), torch.nan), "NaN or infinity"),
        (torch.full((3, 3), -torch.inf), "NaN or infinity"),
        (torch.zeros(3, 3, dtype=torch.complex64), "is complex"),
    ],
)
def test_maps_that_are_none(value: torch.Tensor, said: str, tmp_path: Path) -> None:
    save_file({"a.png": value}, tmp_path / "maps.safetensors")
    with pytest.raises(RunError, match=rf"maps\.safetensors .*{said}.*give another --baseline"):
        read_maps(tmp_path / "maps.safetensors", "give another --baseline")


@pytest.mark.parametrize(
    "other",
    [{"a": torch.zeros(2, 4)}, {"a": torch.zeros(2, 3).double()}, {"b": torch.zeros(2, 3)}, {"a": torch.zeros(())}],
)
def test_parts_that_do_not_fit(other: dict, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(5, 3)}, tmp_path / "000000.safetensors")
    save_file({"a": torch.zeros(2, 3)}, tmp_path / "000001.safetensors")
    found = gather_tensor(tmp_path, "a")
    assert found is not None
    assert found.shape == (7, 3)
    assert gather_tensor(tmp_path, "b") is None
    save_file(other, tmp_path / "000002.safetensors")
    with pytest.raises(RunError, match=r"000002\.safetensors does not fit 000000.*delete it and the file"):
        gather_tensor(tmp_path, "a")


def test_maps_come_back_as_they_were_kept(tmp_path: Path) -> None:
    kept = {"a.png": torch.rand(3, 4), "b.png": torch.zeros(1, 1)}
    save_file(kept, tmp_path / "maps.safetensors")
    found = read_maps(tmp_path / "maps.safetensors", "")
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[name], value) for name, value in kept.items())


def test_tensors_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "maps.safetensors"
    for make, said in (
        (lambda: None, "is missing"),
        (lambda: path.write_bytes(b"no header"), "maps.safetensors .*"),
        (lambda: save_file({}, path), "holds no tensors"),
    ):
        make()
        with pytest.raises(RunError, match=f"{said}; give another --baseline"):
            read_tensors(path, "give another --baseline")
    with pytest.raises(RunError, match=r"holds no tensors \(\*\.safetensors\); .*--overwrite"):
        gather_tensor(tmp_path / "nothing", "a")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "is no list of skipped images"),
        ("[3]", "is no list of skipped images"),
        ('[{"image": "a"}]', "has no name or no reason"),
    ],
)
def test_skipped_images_of_another_kind(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "000001.skipped.json").write_text(text)
    with pytest.raises(RunError, match=rf"{said}; delete it and 000001\.parquet beside it"):
        read_skipped(tmp_path / "000001.skipped.json")


def test_tables_that_are_missing_or_of_other_columns(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"images\.parquet: images\.parquet is missing; .*--overwrite"):
        read_images(tmp_path)
    table = pl.DataFrame({"image": ["a"], "moved": [True], "nissim": [0.5], "none": [None]})
    table.write_parquet(tmp_path / "images.parquet")
    assert read_images(tmp_path).equals(table)
    path = tmp_path / "images.parquet"
    check_columns(path, table, {"image": pl.String, "moved": None, "nissim": None, "none": None})
    for columns, said in (
        ({"label": None}, "has no column label"),
        ({"image": None}, "has the column image of String, and number is expected"),
        ({"nissim": pl.String}, "has the column nissim of Float64, and String is expected"),
    ):
        with pytest.raises(RunError, match=f"{said}; .*--overwrite"):
            check_columns(path, table, columns)


def test_an_integer_beyond_every_float_is_no_number() -> None:
    assert is_number(10**300)
    assert not is_number(10**400)


def test_a_file_that_would_fill_the_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict, "LONGEST_JSON", 20)
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_object(tmp_path / "a.json", "") == {"a": 1}
    (tmp_path / "a.json").write_text('{"a": 1, "b": 2, "c": 3}')
    with pytest.raises(RunError, match="it is longer than 20 bytes"):
        read_object(tmp_path / "a.json", "")


def test_kept_tensors_are_numbers_of_a_network(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, dtype=torch.complex64)}, tmp_path / "a.safetensors")
    with pytest.raises(RunError, match=r"a\.safetensors is damaged: 'a' is complex; make it anew"):
        read_tensors(tmp_path / "a.safetensors", "make it anew")
    save_file({}, tmp_path / "a.safetensors")
    with pytest.raises(RunError, match=r"a\.safetensors holds no tensors; make it anew"):
        read_maps(tmp_path / "a.safetensors", "make it anew")
