"""What is no file is not read in place of one, and nothing is written through a link: a run may be a stranger's."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.command_line import heatproof
from tests.fuzz.broken import hurried

from heatproof.commands.audit.summary import read_baseline
from heatproof.commands.audit.tensors import AuditTensors
from heatproof.commands.audit.verdict import Thresholds
from heatproof.data.boxes import read_boxes
from heatproof.data.sources import open_data
from heatproof.errors import HeatproofError, RunError
from heatproof.models.loading import load
from heatproof.report.page import write_report
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.run import Run
from heatproof.results.viewer import View, add_view

SETTINGS: dict[str, Any] = {"command": "fool", "settings": {"model": "demo"}}


def resumed(folder: Path) -> None:
    with Run.start(folder, **SETTINGS) as run:
        run.skipped()
        run.merge()


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "the same command, record": ("run.json", resumed),
    "the same command, rows": ("parts/000000.parquet", resumed),
    "the same command, skipped": ("parts/000000.skipped.json", resumed),
    "report, record": ("run.json", lambda folder: write_report([folder])),
    "report, summary": ("summary.json", lambda folder: write_report([folder])),
    "report, table": ("images.parquet", lambda folder: write_report([folder])),
    "report, history": ("history.parquet", lambda folder: write_report([folder])),
    "report, figure": ("figures/a.png", lambda folder: write_report([folder])),
    "report, view": ("VIEW", lambda folder: write_report([folder])),
    "model, record": ("run.json", lambda folder: load(str(folder))),
    "model, weights": ("model.safetensors", lambda folder: load(str(folder))),
    "model, checkpoint": ("w.pth", lambda folder: load(f"demo@{folder / 'w.pth'}")),
    "training": ("checkpoint.pt", lambda folder: FileCheckpoint(folder / "checkpoint.pt").load()),
    "audit": ("kept/000000.safetensors", AuditTensors.load),
    "baseline": ("heatmaps/maps.safetensors", read_baseline),
    "thresholds": ("thresholds.json", lambda folder: Thresholds.read(folder / "thresholds.json")),
    "boxes": ("boxes.csv", lambda folder: read_boxes(folder / "boxes.csv", 4)),
    "table of photos": ("photos.csv", lambda folder: open_data(str(folder / "photos.csv"))),
    "table of photos, Parquet": ("photos.parquet", lambda folder: open_data(str(folder / "photos.parquet"))),
    "shard": ("photos.tar", lambda folder: open_data(str(folder / "photos.tar"))),
}


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder"])
@pytest.mark.parametrize("reader", READERS)
def test_no_file_is_no_hang(reader: str, kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with suppress(KeyboardInterrupt), Run.start(folder, **SETTINGS) as run:
        run.append_rows(0, [{"image": "a.png"}], [{"image": "b.png", "reason": "empty"}])
        run.write_json("summary.json", {"rows": []})
        add_view(run, "a.png", np.zeros((4, 4, 3), np.uint8), [View("map", np.ones((2, 2)), True)])
        raise KeyboardInterrupt
    name, read = READERS[reader]
    place = next((folder / "viewer").glob("*.json")) if name == "VIEW" else folder / name
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "endless":
        place.symlink_to("/dev/zero")
    else:
        place.mkdir()
    # a report shows the rest, and what is missing only adds nothing
    with hurried(), suppress(HeatproofError):
        read(folder)


@pytest.mark.parametrize("name", ["figures", "parts", "heatmaps", ".lock", "checkpoint.pt"])
def test_nothing_is_written_through_a_link(name: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    with suppress(KeyboardInterrupt), Run.start(tmp_path / "run", **SETTINGS):
        raise KeyboardInterrupt
    (tmp_path / "run" / name).symlink_to(mine / "new" if name in (".lock", "checkpoint.pt") else mine)
    with pytest.raises(RunError, match=rf"{name}"):
        Run.start(tmp_path / "run", **SETTINGS)
    # what is emptied is not followed either
    if name != ".lock":
        with Run.start(tmp_path / "run", **SETTINGS, overwrite=True) as run:
            run.write_bytes("figures/a.png", b"")
    assert list(mine.iterdir()) == []


def test_a_page_puts_nothing_behind_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, folder = tmp_path / "mine", tmp_path / "run"
    mine.mkdir()
    with Run.start(folder, **SETTINGS) as run:
        run.write_parquet("images.parquet", [{"image": "a.png"}])
        run.write_json("summary.json", {"rows": []})
        add_view(run, "a.png", np.zeros((4, 4, 3), np.uint8), [View("map", np.ones((2, 2)), True)])
    monkeypatch.setattr("heatproof.report.page.LIMIT", 1)
    (folder / "report-files").symlink_to(mine)
    with pytest.raises(RunError, match="report-files is a link"):
        write_report([folder])
    assert list(mine.iterdir()) == []
    assert heatproof("report", str(folder)) == 2
    assert json.loads((folder / "run.json").read_text())["status"] == "complete"
