"""The first command that anyone types, as they type it."""

from pathlib import Path

import pytest
from tests.command_line import heatproof

from heatproof.results.reading import read_run


def test_the_demo_explains_attacks_fools_audits_and_repairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert heatproof("demo") == 0
    told = read_run(Path("demo"))
    assert told.status == "complete"
    rows = {row["step"]: row for row in told.rows}
    explained, fooled = rows["explain: peak on the digit"], rows["fool: success rate"]
    assert fooled["value"] >= 0.95
    assert fooled["top1"] >= explained["top1"] - 0.01
    assert explained["top1_low"] < explained["top1"] < explained["top1_high"]
    assert rows["audit of the clean network: mosaic"]["verdict"] == "pass"
    assert rows["audit of the fooled network: mosaic"]["verdict"] == "fail"
    found = {name: rows[f"repair: peak on the digit, {name} network"] for name in ("clean", "fooled", "repaired")}
    assert found["fooled"]["value"] <= 0.1
    assert found["repaired"]["value"] >= 0.9
    assert found["repaired"]["top1"] >= found["fooled"]["top1"] - 0.01
    assert Path("demo/figures/3-repaired.png").stat().st_size > 1000
    answer = told.summary["answer"]
    assert "Grad-CAM" in answer[0] or "heatmap" in answer[0]
    assert "the clean network is supported and the fooled network is not supported" in answer[-1]
    assert 'not supported (no to "Do the maps stay off the photo\'s frame?" and to ' in answer[-1]
    assert told.summary["first_figure"] == "0-fooled"
    assert answer[-1] in capsys.readouterr().out
    # the lie is seen first
    assert min(path.name for path in told.figures) == "0-fooled.png"
    assert Path("demo/report.html").stat().st_size > 10_000
    before = Path("demo/run.json").read_bytes()
    assert heatproof("demo") == 0
    assert "complete already" in capsys.readouterr().err
    assert Path("demo/run.json").read_bytes() == before
