"""What a command says where: results on standard output, how it goes on standard error; -q, -v, --open, completion."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.command_line import heatproof

from heatproof.cli import console
from heatproof.cli.audit import BUDGET
from heatproof.commands.audit.covering import FEWEST
from heatproof.commands.audit.measure import OVERHEAD, Audit
from heatproof.commands.quick import QUICK_BUDGET, QUICK_PHOTOS
from heatproof.errors import HeatproofError

EXPLAIN = ["explain", "demo", "--model", "demo", "--limit", "2", "--top", "1", "--explainer", "gradcam()"]

COMPLETED = """
import sys
from heatproof import cli
sys.argv[0] = "heatproof"
cli.main()
sys.exit("torch" in sys.modules)
"""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a browser was asked to open."""
    asked: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: asked.append(address) or True)
    monkeypatch.delenv("CI", raising=False)
    return asked


def test_results_and_all_else_go_apart(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["shift", "demo", "--model", "demo", "--limit", "2", "--epsilon", "0.05"]
    assert heatproof(*words, "--out", str(tmp_path / "out")) == 0
    told = capsys.readouterr()
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["answer"]
    assert all(sentence in told.out for sentence in summary["answer"])
    assert "GradCAM()" in told.out
    assert not any(sentence in told.err for sentence in summary["answer"])
    assert told.err.endswith(f"open {tmp_path / 'out' / 'report.html'}\n")


def test_quiet_leaves_the_result(tmp_path: Path, capsys: pytest.CaptureFixture, opened: list[str]) -> None:
    assert heatproof(*EXPLAIN, "-q", "--open", "--out", str(tmp_path / "out")) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert "GradCAM()" in told.out
    assert opened == []
    # errors are said, and the next command is as loud as ever
    assert heatproof(*EXPLAIN, "-q", "--layer", "nowhere", "--out", str(tmp_path / "no")) == 2
    assert "no layer" in capsys.readouterr().err
    assert heatproof(*EXPLAIN, "--out", str(tmp_path / "out")) == 0
    assert "complete already" in capsys.readouterr().err


def test_verbose_tells_settings_versions_and_time(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert heatproof(*EXPLAIN, "-v", "--out", str(tmp_path / "out")) == 0
    told = capsys.readouterr().err
    assert all(f"\n{name}: " in f"\n{told}" for name in ("model", "seed", "torch", "cpus"))
    assert "\nit took " in told


def test_open_shows_the_page(tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    page = (tmp_path / "out/report.html").resolve().as_uri()
    assert heatproof(*EXPLAIN, "--open", "--out", str(tmp_path / "out")) == 0
    assert heatproof("report", str(tmp_path / "out"), "--open") == 0
    assert opened == [page, page]
    monkeypatch.setenv("CI", "true")
    assert heatproof(*EXPLAIN, "--open", "--out", str(tmp_path / "out")) == 0
    assert len(opened) == 2


def test_where_there_is_no_browser_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    console.open_page(tmp_path / "report.html")
    assert "there is no browser to open" in capsys.readouterr().err


def test_lines_of_progress_tell_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    now = 0.0
    monkeypatch.setattr(console, "Pace", lambda total, **how: console_pace(total, clock=lambda: now, **how))
    from heatproof.answers.pace import Pace as console_pace

    with console.progress("fooling", 100, at_most=True) as advance:
        for now in (0.4, 0.8, 2.0, 3.0):
            advance(1, "FSR 0.5" if now == 0.8 else "")
    assert capsys.readouterr().err.splitlines() == [
        "fooling: 3 of 100, at most about 116 s left, FSR 0.5",
        "fooling: 4 of 100, at most about 106 s left, FSR 0.5",
    ]


def test_long_work_is_told_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("heatproof.commands.effort.seconds_per_pass", lambda model, hardware: 1.0)
    words = ["audit", "demo", "demo", "--limit", "2", "--budget", "40"]
    assert heatproof(*words, "--out", str(tmp_path / "out")) == 1
    assert "about 80 s, 80 passes (40 for each photo; --quick asks for 37 a photo)\n" in capsys.readouterr().err
    monkeypatch.setattr("heatproof.commands.effort.seconds_per_pass", lambda model, hardware: 0.1)
    assert heatproof(*words, "--out", str(tmp_path / "short")) == 1
    assert "passes" not in capsys.readouterr().err


def test_quick_is_the_smallest_budget(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert (OVERHEAD + FEWEST, Audit.budget) == (QUICK_BUDGET, BUDGET)
    words = ["audit", "demo", "demo", "--quick"]
    assert heatproof(*words, "--budget", "40") == 2
    assert "give one of --quick and --budget" in " ".join(capsys.readouterr().err.split())
    assert heatproof(*words, "--limit", "3", "--out", str(tmp_path / "out")) == 1
    asked = json.loads((tmp_path / "out/run.json").read_text())["settings"]
    assert "budget=37" in asked["asked"]
    assert asked["limit"] == 3


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("heatproof au", "audit"),
        ("heatproof shift demo --mod", "--model"),
        ("heatproof explain x --explainer grad", "gradcam"),
        ("heatproof fool x --penalty loc", "location"),
        ("heatproof study heo", "heo2019"),
        ("heatproof list sc", "scores"),
    ],
)
def test_the_shell_completes(typed: str, wanted: str) -> None:
    asked = {"_HEATPROOF_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", COMPLETED], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert wanted in done.stdout.split()
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("verb", ["explain", "shift", "compare", "evaluate", "fool", "defend", "repair"])
def test_verbs_that_can_take_long_tell_it(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Only the estimate is asked for: the work itself is left out."""
    place = "heatproof.commands.explain" if verb == "explain" else f"heatproof.commands.{verb}.run"
    begun: list[str] = []

    def stop(*given: object, **more: object) -> None:
        begun.append(verb)
        raise HeatproofError("enough")

    monkeypatch.setattr(f"{place}.run_{verb}", stop)
    monkeypatch.setattr("heatproof.cli.console.LONG", 0)
    models = ["demo", "demo"] if verb == "compare" else ["demo"] if verb == "evaluate" else []
    words = [verb, *models, "demo", *([] if models else ["--model", "demo"]), "--limit", "60"]
    words += ["--penalty", "location()"] if verb == "fool" else []
    words += ["--metric", "aopc()"] if verb == "evaluate" else []
    assert heatproof(*words, "--out", str(tmp_path / "out")) != 0
    told = capsys.readouterr()
    assert re.search(r"^about [\d.]+ (s|min|h), [\d,]+ passes", told.err, re.MULTILINE)
    assert "passes" not in told.out
    assert begun == [verb]


@pytest.mark.parametrize("verb", ["shift", "evaluate", "compare"])
def test_a_quick_look_says_so(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = {
        "shift": ["demo", "--model", "demo", "--epsilon", "0.05"],
        "evaluate": ["demo", "demo", "--metric", "pointing_game()", "--explainer", "gradcam()"],
        "compare": ["demo", "demo", "demo", "--explainer", "gradcam()"],
    }[verb]
    assert heatproof(verb, *words, "--quick", "--out", str(tmp_path / "out")) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    photos = json.loads((tmp_path / "out/run.json").read_text())["data"]["count"]
    assert photos == QUICK_PHOTOS
    assert "This is a look at 60 of 400 photos, evenly spread" in summary["answer"][-1]
    assert "2.6 times as wide" in summary["answer"][-1]
    assert summary["answer"][-1] in capsys.readouterr().out
    assert heatproof(verb, *words, "--quick", "--limit", "3", "--out", str(tmp_path / "few")) == 0
    assert json.loads((tmp_path / "few/run.json").read_text())["data"]["count"] == 3
