"""Commands in two processes, as torchrun starts them: the rows of one, and sentences where it cannot be."""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from polars.testing import assert_frame_equal
from safetensors.torch import load_file
from tests.command_line import heatproof

from heatproof.results.reading import read_run

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "heatproof"]
ACCELERATE = [
    *(sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1"),
    # without --multi_gpu accelerate starts one process only, unless MPI starts it; there need be no GPU
    *("--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
]
LAUNCHERS = {"torchrun": LAUNCHER, "accelerate launch": [*ACCELERATE, "-m", "heatproof"]}
VERBS = {
    "shift": ["shift", "demo", "--model", "demo", "--limit", "8", "--batch-size", "2", "--epsilon", "0.05"],
    "compare": ["compare", "demo", "demo", "demo", "--limit", "8", "--batch-size", "2", "--explainer", "gradcam()"],
    "explain": ["explain", "demo", "--model", "demo", "--limit", "4", "--batch-size", "2"],
    "evaluate": [
        *("evaluate", "demo", "demo", "--limit", "4", "--batch-size", "2"),
        *("--explainer", "gradcam()", "--metric", "aopc(region=16)"),
    ],
    "audit": ["audit", "demo", "demo", "--limit", "12", "--budget", "37", "--batch-size", "3"],
}
FOOL = [
    *("fool", "demo", "--model", "demo", "--penalty", "location()", "--steps", "30", "--limit", "40"),
    *("--batch-size", "8", "--set", "evaluate_every=1", "--set", "holdout=0.2", "--set", "patience=0"),
]


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_two_processes_write_the_rows_of_one(verb: str, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    done = subprocess.run([*LAUNCHER, *VERBS[verb], "--out", str(shared)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert heatproof(*VERBS[verb], "--out", str(alone)) == 0
    assert_frame_equal(*(pl.read_parquet(folder / "images.parquet") for folder in (shared, alone)))
    assert read_run(shared).rows == read_run(alone).rows
    assert (shared / "report.html").is_file()
    # what is shown is shown once
    assert done.stderr.count("open ") == 1
    again = subprocess.run([*LAUNCHER, *VERBS[verb], "--out", str(shared)], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("complete already") == 1


def ended(folder: Path) -> list[Any]:
    """What a fooling came to, but for the time it took."""
    lasting = {"seconds"}
    rows = [{name: value for name, value in row.items() if name not in lasting} for row in read_run(folder).rows]
    weights = {name: value.tolist() for name, value in load_file(folder / "model.safetensors").items()}
    return [rows, weights, pl.read_parquet(folder / "images.parquet").to_dicts(), (folder / "report.html").is_file()]


def killed_when(there: Path, command: list[str], log: Path) -> None:
    """Start a launcher, and kill it and all that it started as soon as a file is there."""
    with open(log, "w") as file, subprocess.Popen(command, stdout=file, stderr=file) as launcher:
        while not there.exists():
            assert launcher.poll() is None, log.read_text()
            time.sleep(0.01)
        started = psutil.Process(launcher.pid)
        everyone = [started, *started.children(recursive=True)]
        for process in everyone:
            # what the launcher's death has ended already
            with suppress(psutil.NoSuchProcess):
                process.kill()
        assert psutil.wait_procs(everyone[1:], timeout=60)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_fooling_in_two_processes_is_killed_and_goes_on(
    launcher: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    whole, cut, log = tmp_path / "whole" / "out", tmp_path / "cut" / "out", tmp_path / "log"
    command = [*LAUNCHERS[launcher], *FOOL, "--out"]
    done = subprocess.run([*command, str(whole)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    killed_when(cut / "checkpoint.pt", [*command, str(cut)], log)
    assert read_run(cut).status == "running"
    # the gradients of two processes are summed in another order than one alone sums them
    assert heatproof(*FOOL, "--out", str(cut)) == 1
    assert "on 2 processes" in " ".join(capsys.readouterr().err.split())
    done = subprocess.run([*command, str(cut)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (cut / "checkpoint.pt").exists()
    assert ended(cut) == ended(whole)


@pytest.mark.slow
def test_accelerate_launch_writes_the_rows_of_one_process(tmp_path: Path) -> None:
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    words = [*LAUNCHERS["accelerate launch"], *VERBS["shift"], "--out", str(shared)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("open ") == 1
    assert heatproof(*VERBS["shift"], "--out", str(alone)) == 0
    assert_frame_equal(*(pl.read_parquet(folder / "images.parquet") for folder in (shared, alone)))


@pytest.mark.slow
def test_two_processes_are_refused_as_one_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    words = [*LAUNCHER, *VERBS["shift"], "--out", str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    own = [line for line in done.stderr.splitlines() if line.startswith("heatproof: ")]
    assert any("letter.txt" in line or "no run" in line for line in own), done.stderr
    assert (tmp_path / "out" / "letter.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("rank", "count", "words", "status", "message"),
    [
        ("3", None, VERBS["shift"], 0, "open "),
        ("abc", None, VERBS["shift"], 2, "expected a whole number in the environment variable RANK, got 'abc'"),
        ("0", "two", VERBS["shift"], 2, "expected a whole number in the environment variable WORLD_SIZE"),
        (None, "2", VERBS["shift"], 2, "RANK must be from 0 to 1, but it is not set"),
        ("2", "2", VERBS["compare"], 2, "RANK must be from 0 to 1, but it is 2"),
        ("0", "2", ["demo"], 2, "heatproof demo works in one process and was launched in 2"),
    ],
)
def test_an_odd_environment_is_understood_or_told(
    rank: str | None,
    count: str | None,
    words: list[str],
    status: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("RANK", rank), ("WORLD_SIZE", count)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert heatproof(*words, "--out", str(tmp_path / "out")) == status
    told = " ".join(capsys.readouterr().err.split())
    assert message in told
    assert "Traceback" not in told
