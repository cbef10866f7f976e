"""Killed and started again, or shared by two processes: the numbers stay."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.training import shares

ROOT = Path(__file__).parents[2]


def started(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.shares", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_at_any_step_it_ends_with_the_same_bits(tmp_path):
    # once between two checkpoints, and once before the first
    for name, step in (("late", 15), ("early", 3)):
        killed = started("kill", tmp_path / name, step)
        killed.communicate(timeout=240)
        assert killed.returncode == -signal.SIGKILL
    straight, _ = shares.tuned(None)
    for name in ("late", "early"):
        assert not (tmp_path / name / "ended.pt").exists()
        resumed, _ = shares.tuned(tmp_path / name)
        for key, tensor in straight.state_dict().items():
            assert torch.equal(tensor, resumed.state_dict()[key]), key


@pytest.mark.slow
def test_killed_and_resumed_in_processes_of_their_own(tmp_path):
    for step in (4, 9, 17):
        killed = started("kill", tmp_path / "run", step)
        killed.communicate(timeout=240)
        assert killed.returncode == -signal.SIGKILL
    ended = started("kill", tmp_path / "run", -1)
    _, told = ended.communicate(timeout=240)
    assert ended.returncode == 0, told
    whole = started("kill", tmp_path / "whole", -1)
    whole.communicate(timeout=240)
    a, b = (torch.load(tmp_path / name / "ended.pt", weights_only=True) for name in ("run", "whole"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_two_processes_are_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        started(
            "share",
            tmp_path,
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE="2",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
            ACCELERATE_USE_CPU="true",
        )
        for rank in (0, 1)
    ]
    for process in processes:
        _, told = process.communicate(timeout=240)
        assert process.returncode == 0, told
    (losses, looks), (others, their_looks) = (
        json.loads((tmp_path / f"losses-{rank}.json").read_text()) for rank in (0, 1)
    )
    _, history = shares.tuned(None)
    alone = [row.get("loss") for row in history.rows]
    assert losses == others
    assert losses[0] is alone[0] is None
    assert max(abs(a - b) for a, b in zip(losses[1:], alone[1:], strict=True)) < 1e-5
    for one, two, three in zip(looks, their_looks, history.looks, strict=True):
        assert one["fsr"] == two["fsr"] == pytest.approx(three["fsr"])
        assert one["accuracy"] == pytest.approx(three["accuracy"])
