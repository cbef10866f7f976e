"""One writer per run folder: a lock that the operating system takes back when its process dies, however it dies."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from heatproof.errors import RunError

try:
    import fcntl
except ImportError:  # pragma: no cover - no POSIX: two commands on one folder are then the user's care
    fcntl = None


@dataclass
class Lock:
    """An advisory lock on a folder.

    Record locks (``lockf``), because these are not inherited by forked workers that outlive a killed parent.
    """

    NAME: ClassVar[str] = ".lock"
    path: Path
    handle: int | None

    @classmethod
    def take(cls, folder: Path) -> "Lock":
        """Take the lock of ``folder``.

        Raises:
            RunError: another living process holds it.
            OSError: the folder cannot be written.
        """
        path = folder / cls.NAME
        # never through a link to somebody else's file
        how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(path, how, 0o644)
        if fcntl is None:
            return cls(path, handle)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            os.close(handle)
            raise RunError(
                f"{folder} is being written by another process; wait for it, end it, or choose another --out"
            ) from error
        except OSError:  # a file system without locks
            pass
        return cls(path, handle)

    def free(self) -> None:
        """Give the lock back; may be called twice."""
        if self.handle is None:
            return
        with contextlib.suppress(OSError):
            self.path.unlink()
        with contextlib.suppress(OSError):
            os.close(self.handle)
        self.handle = None
