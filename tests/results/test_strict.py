"""One door for a run's files: each fault is one sentence that names the file and says what to do."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from heatproof.errors import InputError, RunError
from heatproof.results import Run
from heatproof.results.strict import gather_tensors, read_maps, read_object, read_summary

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
    assert gather_tensors(tmp_path)["a"].shape == (7, 3)
    save_file(other, tmp_path / "000002.safetensors")
    with pytest.raises(RunError, match=r"000002\.safetensors does not fit 000000.*delete it and the file"):
        gather_tensors(tmp_path)
