"""What a fooling that came to nothing says: what helps depends on whether the accuracy held."""

import json
from pathlib import Path

import pytest
from tests.command_line import heatproof


@pytest.mark.parametrize(
    ("lr", "said"), [("1e-9", "--steps 4 --weight 12 --lr 2e-09."), ("3", "--lr 1 --steps 4, or more photos.")]
)
def test_what_helps(lr: str, said: str, tmp_path: Path) -> None:
    words = ["fool", "demo", "--model", "demo", "--penalty", "location()", "--limit", "40", "--steps", "2"]
    words += ["--batch-size", "4", "--set", "evaluate_every=1", "--max-accuracy-drop", "0"]
    assert heatproof(*words, "--lr", lr, "--out", str(tmp_path / "out")) == 0
    assert said in json.loads((tmp_path / "out/summary.json").read_text())["answer"][0]
