"""Figures drawn in other processes: the same bytes, the same errors, and no process left behind."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from heatproof.errors import InputError, RunError
from heatproof.report.drawing import DrawnBeside
from heatproof.report.figures import explanation_grid

PHOTO = (255 * np.random.default_rng(0).uniform(size=(24, 32, 3))).astype(np.uint8)
HEAT = np.random.default_rng(1).normal(size=(5, 7))


def grid(path, signed=(True,)):
    return PHOTO, [("cat", 0.7)], ["Grad-CAM"], [[HEAT]], list(signed), path


def test_the_same_bytes_whoever_draws(tmp_path):
    explanation_grid(*grid(tmp_path / "here.png"), title="one")
    with DrawnBeside(count=2, few=1) as beside:
        for drawn in [beside.draw(*grid(tmp_path / f"{number}.png"), title="one") for number in range(4)]:
            drawn.result()
        processes = list(beside._started)
        assert 1 <= len(processes) <= 2
    assert {(tmp_path / f"{number}.png").read_bytes() for number in range(4)} == {(tmp_path / "here.png").read_bytes()}
    assert all(process.poll() == 0 for process in processes)


def test_errors_come_back_and_the_process_goes_on(tmp_path):
    (tmp_path / "file").write_text("")
    with DrawnBeside(count=1, few=0) as beside:
        with pytest.raises(RunError, match="cannot write"):
            beside.draw(*grid(tmp_path / "file" / "x.png")).result()
        with pytest.raises(InputError, match="as many signs as columns"):
            beside.draw(*grid(tmp_path / "x.png", signed=())).result()
        with pytest.raises(RunError, match=r"could not be drawn \(TypeError"):
            beside.draw(*grid(tmp_path / "x.png"), nonsense=1).result()
        beside.draw(*grid(tmp_path / "x.png")).result()
        assert len(beside._started) == 1
    assert (tmp_path / "x.png").exists()


def test_a_process_that_is_killed_is_told_of(tmp_path):
    with DrawnBeside(count=1, few=0) as beside:
        beside.draw(*grid(tmp_path / "x.png")).result()
        beside._started[0].kill()
        beside._started[0].wait()
        with pytest.raises(RunError, match="stopped from outside"):
            beside.draw(*grid(tmp_path / "y.png")).result()


def test_a_script_without_a_guard_is_not_run_again_and_its_folder_holds_no_modules(tmp_path):
    (tmp_path / "numpy.py").write_text("raise SystemExit('a stranger')")
    (tmp_path / "script.py").write_text(
        "import os, sys\n"
        "sys.path.remove(os.path.dirname(os.path.abspath(__file__)))\n"
        "print('once')\n"
        "from tests.report.test_drawing import grid\n"
        "from heatproof.report.drawing import DrawnBeside\n"
        "with DrawnBeside(count=1, few=0) as beside:\n"
        "    beside.draw(*grid('x.png')).result()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "once\n"), done.stderr
    assert (tmp_path / "x.png").exists()


def test_the_process_ends_where_nobody_reads_its_answers():
    (reader, writer), asked = os.pipe(), pickle.dumps((grid("x.png"), {}))
    code = "from heatproof.report.drawing import serve; serve(lambda *grid: None)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=writer) as process:
        os.close(writer)
        os.close(reader)
        assert process.stdin is not None
        process.stdin.write(asked)
        process.stdin.flush()
        # though more may be asked: standard input is open still
        assert process.wait(timeout=120) == 0
