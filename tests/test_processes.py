import json
import os
import subprocess
import sys

import pytest
import torch

from heatproof.errors import RunError
from heatproof.processes import BINDING, Processes, launched, pin


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, (0, 1)),
        ({"RANK": "3"}, (0, 1)),
        ({"WORLD_SIZE": "1", "RANK": "0"}, (0, 1)),
        ({"RANK": ""}, (0, 1)),
        ({"WORLD_SIZE": "4", "RANK": "3"}, (3, 4)),
    ],
)
def test_the_environment_says_who_is_there(environment, wanted, monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched() == wanted


def test_a_launcher_that_is_not_there(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    # accelerate keeps what an earlier test of this process found
    monkeypatch.setattr("accelerate.state.PartialState._shared_state", {})
    with pytest.raises(RunError, match="cannot find each other"):
        Processes.here("cpu")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "2"}, "so RANK must be from 0 to 1, but it is not set"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "so RANK must be from 0 to 1, but it is 2"),
        ({"WORLD_SIZE": "two", "RANK": "0"}, "a whole number in the environment variable WORLD_SIZE, got 'two'"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "a whole number in the environment variable RANK, got '-1'"),
        ({"WORLD_SIZE": "²", "RANK": "0"}, "a whole number in the environment variable WORLD_SIZE, got '²'"),
    ],
)
def test_an_environment_that_contradicts_itself(environment, said, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match=said):
        launched()


def test_processes_that_lose_each_other_say_so_in_a_sentence(monkeypatch):
    def gone(*given, **named):
        raise RuntimeError("[gloo] Connection closed by peer\nat line 600")

    monkeypatch.setattr("accelerate.utils.reduce", gone)
    monkeypatch.setattr("accelerate.PartialState.wait_for_everyone", gone)
    two = Processes(0, 2)
    for call in (lambda: two.sum(torch.ones(1)), two.wait):
        with pytest.raises(RunError, match=r"lost each other \(\[gloo\] Connection closed by peer\); what the first"):
            call()


def test_gradients_are_summed_with_what_goes_along_and_a_missing_one_is_zero(monkeypatch):
    """As if a second process had sent the same."""
    monkeypatch.setattr("accelerate.utils.reduce", lambda tensor, how: 2 * tensor)
    given, missing = torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(4))
    given.grad = torch.arange(6.0).view(2, 3)
    more = torch.tensor([3, 5])
    assert Processes(0, 2).sum_gradients([given, missing], more).tolist() == [6, 10]
    assert given.grad.tolist() == [[0, 2, 4], [6, 8, 10]]
    assert missing.grad is not None
    assert missing.grad.tolist() == [0, 0, 0, 0]
    assert Processes().sum_gradients([given], more) is more


LOCAL = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "3"}


@pytest.mark.parametrize(
    ("environment", "allowed", "cores"),
    [
        (LOCAL, range(8), {2, 3, 4}),
        ({**LOCAL, "LOCAL_RANK": "2"}, range(8), {5, 6, 7}),
        ({**LOCAL, "OMP_PROC_BIND": "false"}, range(8), None),
        ({**LOCAL, "KMP_AFFINITY": "compact"}, range(8), None),
        # taskset, SLURM or a container has narrowed it
        (LOCAL, range(4), None),
        ({**LOCAL, "LOCAL_WORLD_SIZE": "9"}, range(8), None),
        ({"LOCAL_RANK": "1"}, range(8), None),
        ({"LOCAL_WORLD_SIZE": "3"}, range(8), None),
        ({"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "3"}, range(8), None),
    ],
)
def test_each_process_has_cores_of_its_own_unless_the_user_chose(environment, allowed, cores, monkeypatch):
    pinned = []
    for name in (*BINDING, *LOCAL):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(allowed), raising=False)
    monkeypatch.setattr("os.sched_setaffinity", lambda _, own: pinned.append(own), raising=False)
    monkeypatch.setattr("os.path.isdir", lambda _: True)
    monkeypatch.setattr("os.listdir", lambda _: ["7", "9"])
    assert pin() == cores
    assert pinned == ([] if cores is None else [cores, cores])


def test_where_threads_cannot_be_listed_nothing_is_pinned(monkeypatch):
    for name in BINDING:
        monkeypatch.delenv(name, raising=False)
    for name, value in LOCAL.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: pytest.fail("pinned"), raising=False)
    monkeypatch.setattr("os.path.isdir", lambda path: path != "/proc/self/task")
    assert pin() is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cores are chosen on Linux alone")
@pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: [])(0)) < (os.cpu_count() or 1), reason="narrowed")
def test_all_threads_are_pinned_those_that_were_there_too():
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one core cannot be shared")
    code = (
        "import os, threading\n"
        "stop = threading.Event()\n"
        "threading.Thread(target=stop.wait).start()\n"
        "from heatproof.processes import pin\n"
        "own = pin()\n"
        "found = [os.sched_getaffinity(int(thread)) for thread in os.listdir('/proc/self/task')]\n"
        "assert len(found) > 1 and all(cores == own for cores in found), (own, found)\n"
        "print(sorted(own))\n"
        "stop.set()\n"
    )
    told = []
    for place in ("0", "1"):
        environment = {**os.environ, "LOCAL_RANK": place, "LOCAL_WORLD_SIZE": "2"}
        for name in BINDING:
            environment.pop(name, None)
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        told += json.loads(done.stdout)
    assert sorted(told) == sorted(os.sched_getaffinity(0))
