"""The command line: ``heatproof VERB``. A user sees sentences, never a traceback.

The exit status is one of :data:`STATUS`. Whatever stops a run, the same command goes on from there.
"""

import contextlib
import shlex
import signal
import sys
import warnings
from collections.abc import Generator, Sequence
from typing import NoReturn

DONE, FAILED, WRONG_USAGE, GATE, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
STATUS = {
    DONE: "done",
    FAILED: "failed on the way, or an audit without a verdict: photos, an address or a disk that do not do; few photos",
    WRONG_USAGE: "cannot be begun as typed: a flag, setting, model, layer, class, file or folder that does not do",
    GATE: "the gate of `audit --fail-on` is shut, or `study board --add` refuses what was handed in",
    INTERRUPTED: "interrupted (SIGINT, Ctrl-C)",
    TERMINATED: "terminated (SIGTERM)",
}
"""What the exit status says."""

_typed: list[str] = []


def typed_command() -> str:
    """What was typed, so that it can be typed again; empty where the verbs were not called from the command line."""
    return command_line(_typed) if _typed else ""


def command_line(words: Sequence[str]) -> str:
    """These words after ``heatproof``, as a shell takes them.

    >>> print(command_line(["audit", "a b.pt", "--explainer", "lrp(layer='default')"]))
    heatproof audit 'a b.pt' --explainer "lrp(layer='default')"
    """
    return " ".join(["heatproof", *map(_quoted, words)])


def _quoted(word: str) -> str:
    # a spec holds single quotes, which shlex writes as five letters each
    plain = "'" in word and not any(letter in word for letter in '"$`\\!')
    return f'"{word}"' if plain else shlex.quote(word)


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


def _remark(message: Warning | str, kind: object, file: str, line: int, *_: object) -> None:
    from heatproof.cli.console import say, volume

    # where in the code they were made is of no use to most
    say(f"heatproof: {message}{f' ({file}:{line})' if volume.verbose else ''}", always=True)


def _run() -> None:
    # torch loads slowly, so nothing here and in the verbs imports it before there is something to do
    from heatproof.cli.console import fail, volume
    from heatproof.cli.verbs import app
    from heatproof.errors import HeatproofError

    # photos of odd sizes make the decoder warn on the screen; what matters of that is in the list of skipped images
    warnings.filterwarnings("ignore", module="PIL")
    # others are remarks for the user
    warnings.showwarning = _remark
    volume.quiet = volume.verbose = False
    try:
        app()
    except HeatproofError as error:
        fail(str(error), FAILED if error.usage is False or _is_mishap(error.__cause__) else WRONG_USAGE)
    except OSError as error:
        fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), FAILED)


def _is_mishap(cause: BaseException | None) -> bool:
    """Whether a disk or the system failed, rather than that what was named is not there or no file."""
    missing = FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError
    return isinstance(cause, OSError) and not isinstance(cause, missing)


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
