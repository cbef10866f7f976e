"""The first command that anyone types, as they type it."""

import re
from pathlib import Path

import pytest
from tests.command_line import heatproof

from heatproof.commands.demo import totals
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
    assert rows["audit of the honest network: mosaic"]["verdict"] == "pass"
    assert rows["audit of the fooled network: mosaic"]["verdict"] == "fail"
    found = {name: rows[f"repair: peak on the digit, {name} network"] for name in ("honest", "fooled", "repaired")}
    assert found["fooled"]["value"] <= 0.1
    assert found["repaired"]["value"] >= 0.9
    assert found["repaired"]["top1"] >= found["fooled"]["top1"] - 0.01
    assert Path("demo/figures/3-repaired.png").stat().st_size > 1000
    answer = told.summary["answer"]
    assert "Grad-CAM" in answer[0] or "heatmap" in answer[0]
    assert (
        "the heatmaps of the honest network are supported; the heatmaps of the fooled network are not supported"
        in answer[-1]
    )
    assert 'not supported (no to "Do the maps stay off the photo\'s frame?" and to ' in answer[-1]
    assert told.summary["first_figure"] == "0-fooled"
    said = capsys.readouterr()
    assert answer[-1] in said.out
    # how far it is, and how long each long part still takes
    assert re.search(f"fooling: [0-9]+ of {totals()['fooling'][0]}, about [0-9]+ s left", said.err)
    # the lie is seen first
    assert min(path.name for path in told.figures) == "0-fooled.png"
    assert Path("demo/report.html").stat().st_size > 10_000
    before = Path("demo/run.json").read_bytes()
    assert heatproof("demo") == 0
    assert "complete already" in capsys.readouterr().err
    assert Path("demo/run.json").read_bytes() == before
