"""Every verb, ended at random moments by SIGKILL, SIGINT and SIGTERM, alone and in two processes: nothing is lost.

The same command, given by one, two or three processes, ends with the table, summary, weights and page of a run that
nobody disturbed.
"""

import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.fuzz.broken import CASES
from tests.fuzz.nursery import Nursery, nursery
from tests.fuzz.tally import tried
from tests.fuzz.test_stops import VERBS, ended, words_of

pytestmark = pytest.mark.fuzz

SIGNALS = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
"""And the exit status that each must lead to, unless the run was done before."""
NUMBERS = {1: "one process", 2: "two processes", 3: "three processes"}
SHARED = ("shift", "compare", "evaluate", "explain", "audit")
"""Verbs of which a run is gone on with by any number of processes."""


@pytest.fixture(scope="module")
def started() -> Iterator[Nursery]:
    with nursery() as made:
        yield made


def together(started: Nursery, words: Sequence[str], count: int, log: Path) -> list[int]:
    """The process ids of one command given to ``count`` processes at once."""
    if count == 1:
        return [started.start(words, log)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    return [started.start(words, log, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(count)]


def killed(started: Nursery, pids: Sequence[int], after: float, by: signal.Signals) -> list[int]:
    """The exit statuses of processes that got a signal after so many seconds; those that hang on are killed."""
    time.sleep(after)
    for pid in pids:
        os.kill(pid, by)
    if len(pids) > 1 and by is not signal.SIGKILL:
        time.sleep(3)  # a process may wait for one that has gone
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    return [started.end(pid) for pid in pids]


@pytest.mark.parametrize("verb", list(VERBS))
def test_killed_at_any_moment(verb: str, tmp_path: Path, started: Nursery) -> None:
    words = words_of(verb, tmp_path)
    log, whole, out = tmp_path / "log", tmp_path / "whole" / "out", tmp_path / "out"
    begun = time.monotonic()
    assert [started.end(pid) for pid in together(started, [*words, "--out", str(whole)], 1, log)] == [0], (
        log.read_text()
    )
    lasts, expected = time.monotonic() - begun, ended(whole)
    draw, disturbed = random.Random(verb), 0
    wanted = max(2, CASES // 25)
    # a machine that has the files at hand may be through before each of few moments: then more are drawn
    for case in range(5 * wanted):
        if case >= wanted and disturbed:
            break
        by = draw.choice(list(SIGNALS))
        counts = [draw.choice([1, 1, 2]) if verb in SHARED else 1, draw.choice([1, 2, 3]) if verb in SHARED else 1]
        given = [*words, "--out", str(out)]
        statuses = killed(started, together(started, given, counts[0], log), draw.uniform(0, lasts), by)
        disturbed += any(statuses)
        tried("runs ended at a random moment", f"{verb}, {NUMBERS[counts[0]]}", by.name)
        tried("runs gone on with", f"{verb}, {NUMBERS[counts[1]]}", "after a signal")
        # before the verb has begun nobody listens to signals yet
        if counts[0] == 1 and (out / "run.json").exists():
            assert statuses[0] in (0, SIGNALS[by]), (by, statuses, log.read_text()[-3000:])
        again = [started.end(pid) for pid in together(started, given, counts[1], log)]
        assert set(again) == {0}, (by, counts, again, log.read_text()[-3000:])
        assert ended(out) == expected, (by, counts)
        shutil.rmtree(out)
    tried("runs that a signal found at work", verb, "ended by it", disturbed)
    assert disturbed
