"""The counts at the end, and a canary that must not sing."""

from collections import Counter
from typing import Any

import pytest
from tests.fuzz.tally import counts, lines

_of_workers: Counter[str] = Counter()


def pytest_sessionfinish(session: pytest.Session) -> None:
    # where pytest-xdist parts the tests among workers, each hands over its own counts
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["tried"] = dict(counts)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _of_workers.update(getattr(node, "workeroutput", {}).get("tried", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if found := counts + _of_workers:
        terminalreporter.section("tried")
        for line in lines(found):
            terminalreporter.write_line(line)


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """Programs that a decoder might start; the file that they would make must not be there in the end."""
    sign = tmp_path / "canary-ran"
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("gs", "convert", "inkscape", "ffmpeg", "sh"):
        (programs / name).write_text(f"#!/bin/bash\ntouch {sign}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    yield
    assert not sign.exists()
