"""``heatproof app``: an address, and sentences where it cannot be had."""

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.command_line import heatproof


@pytest.mark.slow
def test_the_page_is_served_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "heatproof",
        "app",
        "demo",
        "demo",
        "--beside",
        "demo",
        "--limit",
        "2",
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as running:
        assert running.stdout is not None
        address = running.stdout.readline().strip()
        with urllib.request.urlopen(address) as page:
            assert b"heatproof live" in page.read()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "2 photos, demo beside demo#2" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_served_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: str) -> str:
        assert heatproof("app", *words, "--port", "0") in (1, 2)
        text = capsys.readouterr().err
        assert "Traceback" not in text
        return " ".join(text.split())

    (tmp_path / "empty").mkdir()
    assert "empty" in told("demo", str(tmp_path / "empty"))
    assert "missing" in told("demo", str(tmp_path / "missing"))
    assert "resnet18" in told("resnet81", "demo")
    assert "did you mean gradcam" in told("demo", "demo", "--explainer", "gradcm")
    assert "No such option: --modle" in told("demo", "demo", "--modle", "demo")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert heatproof("app", "demo", "demo", "--limit", "1", "--port", port) == 1
    assert f"port {port} of this machine cannot be had" in " ".join(capsys.readouterr().err.split())
