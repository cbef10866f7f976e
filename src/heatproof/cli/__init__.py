"""The command line: ``heatproof VERB``. A user sees sentences, never a traceback.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 an audit's gate is shut, 130 interrupted from the keyboard (SIGINT),
143 told to stop (SIGTERM). Whatever stops a run, the same command goes on from there.
"""

import contextlib
import shlex
import signal
import sys
import warnings
from collections.abc import Generator, Sequence
from typing import NoReturn

INTERRUPTED, TERMINATED = 130, 143


_typed: list[str] = []


def typed_command() -> str:
    """What was typed, so that it can be typed again; empty where the verbs were not called from the command line."""
    return shlex.join(["heatproof", *_typed]) if _typed else ""


@contextlib.contextmanager
def typing(words: Sequence[str]) -> Generator[None]:
    """While this lasts, other words count as typed: those of a command that is given for the user."""
    before = list(_typed)
    _typed[:] = words
    try:
        yield
    finally:
        _typed[:] = before


class Terminated(KeyboardInterrupt):
    """SIGTERM came: everything ends as after an interrupt from the keyboard."""


def main() -> None:
    """The entry point: runs a command and turns what went wrong into one sentence and an exit status."""
    _typed[:] = sys.argv[1:]
    with _terminable() as terminated:
        try:
            _run()
        except KeyboardInterrupt:
            sys.exit(TERMINATED if terminated else INTERRUPTED)
        except SystemExit as stop:
            # typer makes this of any interrupt
            sys.exit(TERMINATED if terminated and stop.code == INTERRUPTED else stop.code)


def _remark(message: Warning | str, *_: object) -> None:
    from heatproof.cli.console import say

    say(f"heatproof: {message}")


def _run() -> None:
    # torch loads slowly, so nothing here and in the verbs imports it before there is something to do
    from heatproof.cli.console import fail
    from heatproof.cli.verbs import app
    from heatproof.errors import HeatproofError, LayerError, SpecError

    # photos of odd sizes make the decoder warn on the screen; what matters of that is in the list of skipped images
    warnings.filterwarnings("ignore", module="PIL")
    # others are remarks for the user: where in the code they were made is of no use to him
    warnings.showwarning = _remark
    try:
        app()
    except HeatproofError as error:
        fail(str(error), 2 if isinstance(error, SpecError | LayerError) else 1)
    except OSError as error:
        fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 1)


@contextlib.contextmanager
def _terminable() -> Generator[list[int]]:
    """While this lasts, SIGTERM raises :class:`Terminated`; the list then holds the signal."""
    came: list[int] = []

    def stop(number: int, frame: object) -> NoReturn:
        came.append(number)
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: signals go elsewhere
        yield came
        return
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
