"""Complete means that the page is there: a run that ends at any moment before is gone on with, and loses nothing."""

import errno
import json
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from tests.command_line import heatproof

from heatproof.errors import RunError
from heatproof.results import Run, read_run, whole
from heatproof.results.folder import WORKING

ASKED = {"command": "explain", "settings": {"explainer": "GradCAM()"}, "seed": 0}
SKIPPED = [{"image": "x", "reason": "truncated"}]


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def work(out: Path, page) -> Run:
    """A run of one part, with its summary and its page."""
    with Run.start(out, **ASKED, page=page) as run:
        if not run.done and not run.has_part(0):
            run.append_rows(0, [{"image": "a"}], SKIPPED)
        if not run.done:
            run.write_bytes("checkpoint.pt", b"weights")
            run.write_json("summary.json", {"rows": [], "skipped": run.skipped()})
    return run


def make_page(folder: Path, told: dict) -> None:
    assert told["status"] == "complete"
    assert record(folder)["status"] == "running"
    assert (folder / "parts" / "000000.skipped.json").exists()
    whole.write_whole(folder / "report.html", b"page")


def test_the_page_comes_first_and_the_parts_go_last(tmp_path: Path) -> None:
    out = tmp_path / "out"
    work(out, make_page)
    assert record(out)["status"] == "complete"
    assert sorted(path.name for path in out.iterdir()) == ["images.parquet", "report.html", "run.json", "summary.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RunError("the disk is full"), ValueError("odd")])
def test_a_run_that_ends_while_its_page_is_made_goes_on(tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "out"

    def fail(folder: Path, told: dict) -> None:
        raise error

    with pytest.raises(type(error)):
        work(out, fail)
    assert record(out)["status"] == ("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
    assert all((out / name).exists() for name in ("parts", "checkpoint.pt"))
    run = work(out, make_page)
    assert run.resumed
    assert record(out)["status"] == "complete"
    assert json.loads((out / "summary.json").read_text())["skipped"] == SKIPPED


def test_a_disk_that_is_full_at_any_write_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, left = os.replace, [0]

    def replace(*names: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(*names)  # type: ignore[arg-type]

    monkeypatch.setattr(whole.os, "replace", replace)
    left[0] = 0
    work(tmp_path / "whole", make_page)
    writes = -left[0]
    assert writes >= 7
    for fails in range(1, writes + 1):
        out = tmp_path / str(fails)
        left[0] = fails
        with pytest.raises(RunError, match="disk is full"):
            work(out, make_page)
        left[0] = 0
        work(out, make_page)
        assert record(out)["status"] == "complete"
        assert (out / "report.html").exists()
        assert json.loads((out / "summary.json").read_text())["skipped"] == SKIPPED
        assert pl.read_parquet(out / "images.parquet").height == 1


def test_what_was_left_by_a_kill_after_the_last_word_is_swept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    work(out, make_page)
    (out / "parts").mkdir()
    (out / "parts" / "000000.parquet").write_bytes(b"old")
    (out / "checkpoint.pt").write_bytes(b"old")
    assert work(out, make_page).done
    assert not any((out / name).exists() for name in WORKING)


def test_a_page_that_is_missing_is_made_by_the_same_command(tmp_path: Path) -> None:
    words = ["explain", "demo", "--model", "demo", "--limit", "2", "--out", str(tmp_path / "out")]
    assert heatproof(*words) == 0
    page = (tmp_path / "out" / "report.html").read_bytes()
    assert read_run(tmp_path / "out").problems == []
    (tmp_path / "out" / "report.html").unlink()
    assert heatproof(*words) == 0
    assert (tmp_path / "out" / "report.html").read_bytes() == page


def test_the_page_does_not_say_that_the_run_is_going_on(tmp_path: Path) -> None:
    assert heatproof("explain", "demo", "--model", "demo", "--limit", "2", "--out", str(tmp_path / "out")) == 0
    assert "has not ended" not in (tmp_path / "out" / "report.html").read_text()


def test_an_input_is_never_emptied(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    lie = tmp_path / "lie"
    words = ["fool", "demo", "--model", "demo", "--edit", "weight_edit(target='corner')", "--limit", "4"]
    assert heatproof(*words, "--out", str(lie)) == 0
    held = (lie / "model.safetensors").read_bytes()
    shutil.copytree(lie, tmp_path / "runs" / "upon")
    told = record(lie)
    told["model"][0] = {"name": str(lie)}
    (tmp_path / "runs" / "upon" / "run.json").write_text(json.dumps(told))
    (tmp_path / "link").symlink_to(lie)
    few = ["--limit", "4", "--overwrite"]
    for command in (
        ["compare", "demo", str(lie), "demo", *few, "--out", str(lie)],
        ["compare", "demo", str(lie), "demo", *few, "--out", str(tmp_path / "link")],
        ["audit", "demo", "demo", *few, "--reference", str(lie), "--out", f"{tmp_path}/runs/../lie"],
        ["audit", "demo", "demo", *few, "--thresholds", f"{lie}/summary.json", "--out", str(lie)],
        ["explain", f"{lie}/figures", "--model", "demo", *few, "--out", str(lie)],
        ["explain", str(tmp_path), "--model", "demo", *few, "--out", str(lie)],
        ["fool", "demo", "--model", f"demo@{lie}/model.safetensors", "--penalty", "location()", "--out", str(lie)],
        # the model that another was made from
        ["shift", "demo", "--model", str(tmp_path / "runs" / "upon"), *few, "--out", str(lie)],
    ):
        assert heatproof(*command, *([] if "--overwrite" in command else ["--overwrite"])) in (1, 2), command
        assert (lie / "model.safetensors").read_bytes() == held
    assert "--overwrite would empty" in capsys.readouterr().err


def test_file_names_that_are_no_text_can_be_gone_on_with(tmp_path: Path) -> None:
    asked = {"command": "explain", "settings": {"images": ("bad\udcff.png", Path("a[1]*\n~"))}, "seed": 0}
    with pytest.raises(KeyboardInterrupt), Run.start(tmp_path / "out", **asked):
        raise KeyboardInterrupt
    with Run.start(tmp_path / "out", **asked) as run:
        assert run.resumed


def test_a_folder_of_brackets_is_no_pattern(tmp_path: Path) -> None:
    for name, image in (("a1", "other"), ("a[1]", "own"), ("*", "star"), ("new\nline", "line")):
        with Run.start(tmp_path / name, **ASKED) as run:
            run.append_rows(0, [{"image": image}])
            assert run.merge()["image"].to_list() == [image]
        images = read_run(tmp_path / name).images
        assert images is not None
        assert images["image"].to_list() == [image]
