"""Explanation grids drawn in processes of their own, while the network goes on.

Drawing holds Python's lock most of the time, so threads would only take turns. The processes run nothing of the program
that started them (a script without ``if __name__ == "__main__"`` would be run again): they are a fresh interpreter that
reads what to draw from a pipe, and end when the pipe does, however the program itself came to its end.
"""

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import heatproof
from heatproof.errors import HeatproofError, RunError
from heatproof.report.figures import explanation_grid

FEW = 8
"""So many figures are drawn at once, in this process: no other is up sooner."""
MOST = 8
"""Processes at most, as threads that read photos."""
SERVE = "from heatproof.report.drawing import serve; serve()"


class DrawnBeside:
    """``draw(...)`` takes what :func:`~heatproof.report.figures.explanation_grid` takes and does not wait for it.

    A context manager; leaving it ends the processes. Files are the same bytes, whoever draws them.

    Args:
        count: processes at most; ``None``: one for each processor, and at most :data:`MOST`.
        few: figures that this process draws itself before any other is started.
    """

    def __init__(self, count: int | None = None, few: int = FEW) -> None:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._count, self._few = count or min(MOST, processors), few
        self._pool: ThreadPoolExecutor | None = None
        self._own = threading.local()
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "DrawnBeside":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for process in self._started:
            # closes the pipes, at which it ends; one that is dead already has nothing left to be told
            with contextlib.suppress(OSError), process:
                pass

    def draw(self, *grid: Any, **named: Any) -> Future[None]:
        """Draw one figure.

        Returns:
            What waits for it: its ``result()`` raises what the drawing did (a full disk), or a RunError where the
            process that drew was killed.
        """
        if self._few > 0:
            self._few -= 1
            explanation_grid(*grid, **named)
            done: Future[None] = Future()
            done.set_result(None)
            return done
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="heatproof-figures")
        return self._pool.submit(self._ask, pickle.dumps((grid, named)))

    def _ask(self, task: bytes) -> None:
        """Hand a task to the process of this thread, which is started with its first one, and wait for the answer."""
        process: subprocess.Popen[bytes] | None = getattr(self._own, "process", None)
        if process is None:
            process = self._own.process = _start()
            self._started.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(task)
            process.stdin.flush()
            error: BaseException | None = pickle.load(process.stdout)
        except (OSError, EOFError) as gone:
            raise RunError(
                "a process that draws figures was stopped from outside, for want of memory perhaps; the same command "
                "goes on where it was"
            ) from gone
        if error is not None:
            raise error


def _start() -> "subprocess.Popen[bytes]":
    home = str(Path(heatproof.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))}
    # -P: nothing that lies in the current folder; a session of its own: Ctrl+C is for the one that started it
    command = [sys.executable, "-P", "-c", SERVE]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True)


def serve(draw: Callable[..., Any] = explanation_grid) -> None:
    """Draw what comes in on standard input, and answer None or the error, until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    # what a library prints must not stand among the answers
    os.dup2(2, 1)
    while True:
        try:
            grid, named = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        error: BaseException | None = None
        try:
            draw(*grid, **named)
        except HeatproofError as known:
            error = known
        except Exception as unknown:
            # of any kind, which need not be one that can be sent
            error = RunError(f"a figure could not be drawn ({type(unknown).__name__}: {unknown})")
        try:
            pickle.dump(error, answers)
            answers.flush()
        except BrokenPipeError:
            return
