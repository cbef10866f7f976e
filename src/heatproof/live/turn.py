"""Whose turn it is: one question at a time, and one that nobody waits for any more ends early.

A page that asks something newer, or is closed, hangs up. That is looked for before each function of torch's, so that a
map of a thousand passes ends within one of them, as Ctrl-C would end it.
"""

import select
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from torch.overrides import TorchFunctionMode

BETWEEN = 0.05
"""Seconds between two looks at a connection."""


class Abandoned(BaseException):
    """Nobody waits for the answer any more; no ``except Exception`` on the way takes it for a fault of its own."""


class _Interruptible(TorchFunctionMode):
    """``check`` is called before each function of torch's, in this thread."""

    def __init__(self, check: Callable[[], None]):
        super().__init__()
        self.check = check

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.check()
        return func(*args, **(kwargs or {}))


@contextmanager
def turn(lock: Lock, connection: socket.socket) -> Generator[None]:
    """Wait for the turn, and work until the other side hangs up.

    Raises:
        Abandoned: it did, while waiting or between two operations of torch's.
    """
    while not lock.acquire(timeout=BETWEEN):
        if hung_up(connection):
            raise Abandoned
    try:
        with _Interruptible(_checking(connection)):
            yield
    finally:
        lock.release()


def hung_up(connection: socket.socket) -> bool:
    """Whether the other side has closed the connection; what it has sent is left to be read.

    >>> here, there = socket.socketpair()
    >>> before = hung_up(here)
    >>> there.close()
    >>> before, hung_up(here)
    (False, True)
    >>> here.close()
    """
    try:
        ready, _, _ = select.select([connection], [], [], 0)
        return bool(ready) and not connection.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):  # reset, or closed on this side
        return True


def _checking(connection: socket.socket) -> Callable[[], None]:
    last = time.monotonic()

    def check() -> None:
        nonlocal last
        if time.monotonic() - last < BETWEEN:
            return
        if hung_up(connection):
            raise Abandoned
        last = time.monotonic()

    return check
