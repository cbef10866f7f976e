"""Odd names on the command line: brackets, stars, tildes, line breaks, bytes that are no text."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tests.command_line import heatproof

NAMES = ["bad\udcff.png", "a[1].png", "*.png", "~.png", "猫.png", "犬.png", "x" * 200 + ".png", "new\nline.png"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    folder = Path("ph[1]\udcff*\n")
    folder.mkdir()
    for number, name in enumerate(NAMES):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return str(folder)


@pytest.mark.filterwarnings("ignore:Glyph")
def test_photos_and_folders_of_any_name(photos: str, capsys: pytest.CaptureFixture) -> None:
    words = ["explain", photos, "--model", "demo", "--out", "~[1]\udcff", "--batch-size", "4"]
    assert heatproof(*words) == 0
    out = Path("~[1]\udcff")
    table = pl.read_parquet((out / "images.parquet").read_bytes())
    assert table["image"].n_unique() == table["figure"].n_unique() == len(NAMES)
    assert all((out / figure).is_file() for figure in table["figure"])
    assert json.loads((out / "summary.json").read_text())["skipped"] == []
    # the same command is known again
    assert heatproof(*words) == 0
    assert "complete already" in capsys.readouterr().err
    assert heatproof("report", str(out), str(out), "--out", "both\udcff.html") == 0
    assert Path("both\udcff.html").is_file()


def test_one_photo_by_its_odd_name(photos: str) -> None:
    words = [str(Path(photos) / name) for name in ("a[1].png", "new\nline.png")]
    assert heatproof("explain", *words, "--model", "demo", "--out", "..out") == 0
    assert sorted(path.name for path in Path("..out/figures").iterdir()) == ["a-1.png", "new-line.png"]
