"""The shift in processes of its own: killed without warning, and shared by two that a launcher starts."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from polars.testing import assert_frame_equal

pytestmark = pytest.mark.slow

JOB = """
import sys
from heatproof.commands.shift.run import Shift, run_shift
from heatproof.processes import Processes
from heatproof.results.run import start_together
from heatproof.data.sources import open_data
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load

if __name__ == "__main__":
    folder, out = sys.argv[1:]
    asked, processes = Shift(epsilons=(0.02, 0.1), part=2), Processes.here("cpu")
    with start_together(out, processes, command="shift", settings={"asked": asked}) as run:
        run_shift(
            asked,
            [load("demo")],
            lambda model: open_data(folder, classes=model.classes),
            run,
            hardware=Hardware("cpu"),
            processes=processes,
            draw=False,
            advance=lambda count: print(count, flush=True),
        )
"""


@pytest.fixture
def job(tmp_path) -> list[str]:
    draw = np.random.default_rng(0)
    for i in range(30):
        path = tmp_path / "photos" / str(i % 10) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    (tmp_path / "photos" / "3" / "broken.png").write_bytes(b"no photo")
    (tmp_path / "job.py").write_text(JOB)
    return [str(tmp_path / "job.py"), str(tmp_path / "photos")]


@pytest.fixture
def expected(job, tmp_path) -> pl.DataFrame:
    subprocess.run([sys.executable, *job, tmp_path / "alone"], check=True, capture_output=True)
    return pl.read_parquet(tmp_path / "alone" / "images.parquet")


def test_a_run_that_was_killed_is_finished_by_the_same_command(job, expected, tmp_path):
    out = tmp_path / "killed"
    with subprocess.Popen([sys.executable, *job, out], stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 300
        while len(list((out / "parts").glob("*.parquet"))) < 3 and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert 3 <= len(list((out / "parts").glob("*.parquet"))) < 16
    begun = sorted(path.stat().st_mtime_ns for path in (out / "parts").glob("*.parquet"))
    time.sleep(0.01)
    again = subprocess.run([sys.executable, *job, out], check=True, capture_output=True, text=True)
    # what was done is counted at once and not done again
    assert int(again.stdout.split()[0]) >= 2 * len(begun) - 1
    assert_frame_equal(pl.read_parquet(out / "images.parquet"), expected)


def test_two_processes_of_a_launcher_write_the_rows_of_one(job, expected, tmp_path):
    out = tmp_path / "shared"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([*launcher, *job, out], check=True, capture_output=True)
    assert_frame_equal(pl.read_parquet(out / "images.parquet"), expected)
    assert '"image": "3/broken.png"' in Path(out / "summary.json").read_text()
