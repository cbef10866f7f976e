"""SIGINT and SIGTERM: one sentence, a folder that can be gone on with, and the exit status of the signal."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest
from tests.command_line import heatproof

from heatproof import cli
from heatproof.results.reading import read_run

WORDS = ["shift", "demo", "--model", "demo", "--limit", "6", "--batch-size", "2", "--epsilon", "0.05", "--out"]
# a signal that comes while torch is being loaded
EARLY = """
import os, sys
from heatproof import cli

class Signalling:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Signalling())
cli.main()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_interrupts_and_the_same_command_goes_on(
    number: int, status: int, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heatproof.commands.shift import run as shift

    before, once, measured = signal.getsignal(signal.SIGTERM), shift.measure, []

    def measure(*words, **named):
        measured.append(1)
        if len(measured) == 2:
            os.kill(os.getpid(), number)
        return once(*words, **named)

    monkeypatch.setattr(shift, "measure", measure)
    assert heatproof(*WORDS, str(tmp_path / "out")) == status
    assert "interrupted; the same command goes on from what" in " ".join(capsys.readouterr().err.split())
    assert read_run(tmp_path / "out").status == "interrupted"
    assert signal.getsignal(signal.SIGTERM) is before
    assert heatproof(*WORDS, str(tmp_path / "out")) == 0
    assert len(measured) == 4  # one part before the signal, one cut off, two after it
    assert heatproof(*WORDS, str(tmp_path / "straight")) == 0
    resumed, straight = (pl.read_parquet(tmp_path / name / "images.parquet") for name in ("out", "straight"))
    assert resumed.equals(straight)
    capsys.readouterr()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_torch_is_loaded(number: int, status: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", EARLY.format(number=int(number)), *WORDS, str(tmp_path / "out")]
    stopped = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (status, "", "")
    assert not (tmp_path / "out").exists()


def test_outside_the_main_thread_a_signal_is_left_to_whoever_has_it() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def terminable() -> None:
        with cli._terminable() as came:
            found.append((came, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=terminable)
    thread.start()
    thread.join()
    assert found == [([], before)]
