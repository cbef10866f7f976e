"""A command without --out finds a folder of its own, and the same command again the one that it left unfinished."""

from pathlib import Path

import pytest

from heatproof.results.folder import own_folder
from heatproof.results.run import Run
from heatproof.shard import Shard

SETTINGS = {"model": "weights/resnet50@mine.pth", "limit": 3}


def test_a_stopped_run_is_gone_on_with_and_a_complete_one_left_alone(tmp_path: Path) -> None:
    first = own_folder("audit", SETTINGS, 0, tmp_path)
    assert first == tmp_path / "audit-resnet50-mine.pth-1"
    with pytest.raises(KeyboardInterrupt), Run.start(first, command="audit", settings=SETTINGS):
        raise KeyboardInterrupt
    assert own_folder("audit", SETTINGS, 0, tmp_path) == first
    assert own_folder("audit", {**SETTINGS, "limit": 4}, 0, tmp_path).name == "audit-resnet50-mine.pth-2"
    assert own_folder("audit", SETTINGS, 1, tmp_path).name == "audit-resnet50-mine.pth-2"
    with Run.start(first, command="audit", settings=SETTINGS) as run:
        run.write_json("summary.json", {"rows": []})
    assert own_folder("audit", SETTINGS, 0, tmp_path).name == "audit-resnet50-mine.pth-2"


def test_strange_folders_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "shift-demo-1").mkdir()
    (tmp_path / "shift-demo-1" / "notes.txt").write_text("mine")
    (tmp_path / "shift-demo-2").write_text("a file")
    assert own_folder("shift", {"models": ["demo", "other"]}, 0, tmp_path).name == "shift-demo-3"


def test_a_shard_has_its_number_in_the_name(tmp_path: Path) -> None:
    found = own_folder("shift", {"models": ["demo"]}, 0, tmp_path, Shard(2, 8))
    assert found.name == "shift-demo-shard-2-of-8-1"
