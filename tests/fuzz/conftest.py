"""The counts at the end, and a canary that must not sing."""

import pytest
from tests.fuzz.hostile import counts


@pytest.fixture(scope="session", autouse=True)
def told():
    yield
    print("\nfuzzed:", *(f"{kind} {count:,}" for kind, count in sorted(counts.items())), sep="\n  ")


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
