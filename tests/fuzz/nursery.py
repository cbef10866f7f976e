"""Starts ``heatproof VERB`` in processes of their own without importing torch each time: a parent that forks.

``python -m tests.fuzz.nursery`` reads a command per line from standard input and answers in a line.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Nursery:
    """The forking parent, seen from the tests."""

    process: subprocess.Popen[str]

    def start(self, words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> int:
        """The process id of ``heatproof WORDS``, whose output goes to ``log``."""
        return self._ask({"start": list(words), "log": str(log), "environment": dict(environment or {})})

    def end(self, pid: int) -> int:
        """The exit status of a process, once it has ended; minus the signal that ended it."""
        return self._ask({"end": pid})

    def call(self, *words: str) -> int:
        """The exit status of another program, called in the parent's own world (its mounts, for instance)."""
        return self._ask({"call": list(words)})

    def seen(self, path: Path) -> Path:
        """Where we see what the parent and its children see at a path."""
        return Path(f"/proc/{self.process.pid}/root{path}")

    def _ask(self, command: Mapping[str, object]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextlib.contextmanager
def nursery(within: Sequence[str] = ()) -> Generator[Nursery]:
    """A nursery that goes when the tests are done.

    Args:
        within: a command that becomes the nursery, such as ``unshare``.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*within, sys.executable, "-m", "tests.fuzz.nursery"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    try:
        yield Nursery(process)
    finally:
        process.kill()
        process.communicate()


def _born(command: Mapping[str, object]) -> None:
    """What a child does, to its end."""
    status = 1
    try:
        from heatproof import cli

        log = os.open(str(command["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(command["environment"])  # type: ignore[call-overload]
        sys.argv = ["heatproof", *command["start"]]  # type: ignore[misc]
        cli.main()
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    import accelerate  # noqa: F401  (what children would import each by themselves)
    import torch

    from heatproof.cli import verbs  # noqa: F401
    from heatproof.commands import demo  # noqa: F401
    from heatproof.commands.audit import run as audit  # noqa: F401
    from heatproof.commands.compare import run as compare  # noqa: F401
    from heatproof.commands.evaluate import run as evaluate  # noqa: F401
    from heatproof.commands.fool import edit, run  # noqa: F401
    from heatproof.commands.shift import run as shift  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        command = json.loads(line)
        if "start" in command:
            answer = os.fork()
            if not answer:
                _born(command)
        elif "call" in command:
            answer = subprocess.run(
                command["call"], check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr
            ).returncode
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(command["end"], 0)[1])
        print(answer, flush=True)


if __name__ == "__main__":
    main()
