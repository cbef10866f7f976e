"""Every verb into real file systems that are too small for it; enlarged, the same command ends as on a large one."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fuzz.broken import CASES
from tests.fuzz.nursery import Nursery, nursery
from tests.fuzz.tally import tried
from tests.fuzz.test_stops import VERBS, ended, words_of

pytestmark = pytest.mark.fuzz

APART = ("unshare", "--user", "--map-root-user", "--mount")
"""In a world of its own mounts, which nobody else sees and which go with its last process."""
SHARES = (0.7, 0.3, 0.95, 0.02, 0.5, 0.85, 0.15, 0.99)
"""Of what a whole run takes."""
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@pytest.fixture(scope="module")
def apart() -> Iterator[Nursery]:
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        pytest.skip("a small file system takes Linux's unshare and mount, and there is none here")
    asked = subprocess.run(
        [*APART, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        pytest.skip(f"mounting a small file system is not allowed here: {asked.stderr.strip()[:200]}")
    with nursery(APART) as made:
        yield made


def taken(folder: Path) -> int:
    """Bytes that a folder takes in a file system that gives whole pages."""
    return sum(-(-path.stat().st_size // PAGE) * PAGE if path.is_file() else PAGE for path in folder.rglob("*"))


@pytest.mark.parametrize("verb", list(VERBS))
def test_a_full_disk_loses_nothing(verb: str, tmp_path: Path, apart: Nursery) -> None:
    words, log, small = words_of(verb, tmp_path), tmp_path / "log", tmp_path / "small"
    assert apart.end(apart.start([*words, "--out", str(tmp_path / "whole" / "out")], log)) == 0, log.read_text()
    expected, size, full = ended(tmp_path / "whole" / "out"), taken(tmp_path / "whole"), 0
    small.mkdir()
    command = [*words, "--out", str(small / "out")]
    for share in SHARES[: max(2, CASES // 50)]:
        room = max(1, round(share * size / PAGE)) * PAGE
        log.unlink()
        assert apart.call("mount", "-t", "tmpfs", "-o", f"size={room}", "none", str(small)) == 0
        status = apart.end(apart.start(command, log))
        told = " ".join(log.read_text().split())
        assert "Traceback" not in told, (share, told[-3000:])
        # a run that deletes its parts in the end may need less than the whole and its parts together
        if status:
            assert status == 1, (share, status, told[-3000:])
            assert "the disk is full" in told, (share, told[-3000:])
            full += 1
        assert apart.call("mount", "-o", "remount,size=256m", str(small)) == 0
        assert apart.end(apart.start(command, log)) == 0, (share, log.read_text()[-3000:])
        assert ended(apart.seen(small) / "out") == expected, share
        assert apart.call("umount", str(small)) == 0
        tried("file systems that were too small", verb, "gone on with once enlarged" if status else "large enough")
    assert full
