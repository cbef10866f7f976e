"""The run folder: whole-or-nothing files, resuming, refusing."""
# ruff: noqa: PT012 the blocks under pytest.raises are the run that is cut off

import enum
import errno
import io
import json
import math
import os
import random
import signal
import subprocess
import sys
from importlib import metadata
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file

from heatproof.errors import RunError
from heatproof.processes import Processes
from heatproof.results import Run, lock, read_run, whole
from heatproof.results.run import _ordered, start_together
from heatproof.vision import torchvision

ASKED: dict[str, Any] = {"command": "explain", "settings": {"explainer": "GradCAM()", "images": ("a.png",)}, "seed": 3}


def record(folder):
    return json.loads((folder / "run.json").read_text())


def test_record_of_a_complete_run(tmp_path):
    with Run.start(tmp_path / "out", **ASKED, options={"device": "cpu"}) as run:
        assert record(run.folder)["status"] == "running"
        run.describe(model=[{"name": "demo", "sha256": "ab", "layer": "conv"}], data={"name": "d", "count": 1})
    told = record(run.folder)
    assert told["status"] == "complete"
    assert told["settings"] == {"explainer": "GradCAM()", "images": ["a.png"]}
    assert told["seed"] == 3
    # imported after what makes torchvision importable beside a torch without CUDA
    import timm

    # the package's metadata may leave out what was built for, as in 2.13.0+cpu
    modules = {"torch": torch, "torchvision": torchvision, "timm": timm}
    assert {name: told["versions"][name].split("+")[0] for name in modules} == {
        name: module.__version__.split("+")[0] for name, module in modules.items()
    }
    assert told["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert told["machine"]["cpus"] == os.cpu_count()
    assert told["model"][0]["sha256"] == "ab"
    assert told["start"] <= told["end"]
    assert sorted(path.name for path in run.folder.iterdir()) == ["run.json"]


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (KeyboardInterrupt(), "interrupted", None),
        (RunError("no room"), "failed", "no room"),
        (ValueError("odd"), "failed", "ValueError: odd"),
    ],
)
def test_status_of_a_run_that_did_not_end(tmp_path, error, status, text):
    # of a folder in which nothing was done nothing would be left
    with pytest.raises(type(error)), Run.start(tmp_path / "out", **ASKED) as run:
        run.append_rows(1, [{"image": "a"}])
        raise error
    assert record(tmp_path / "out")["status"] == status
    assert record(tmp_path / "out")["error"] == text


def test_a_folder_that_was_made_for_nothing_goes_away(tmp_path):
    # those above it that were made for it too, but nothing that was there
    (tmp_path / "runs").mkdir()
    with pytest.raises(RunError), Run.start(tmp_path / "runs" / "new" / "out", **ASKED):
        raise RunError("no such layer")
    assert list((tmp_path / "runs").iterdir()) == []
    (tmp_path / "runs" / "there").mkdir()
    with pytest.raises(RunError), Run.start(tmp_path / "runs" / "there", **ASKED):
        raise RunError("no such layer")
    assert record(tmp_path / "runs" / "there")["status"] == "failed"
    # what was interrupted goes on
    with pytest.raises(KeyboardInterrupt), Run.start(tmp_path / "runs" / "stopped", **ASKED):
        raise KeyboardInterrupt
    assert record(tmp_path / "runs" / "stopped")["status"] == "interrupted"


def test_resumes_what_was_begun_and_merges_in_one_order(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), Run.start(out, **ASKED) as run:
        run.append_rows(1, [{"image": "c", "nissim": None}], skipped=[{"image": "x", "reason": "truncated"}])
        raise KeyboardInterrupt
    with Run.start(out, **ASKED) as run:
        assert run.resumed
        assert not run.done
        assert run.has_part(1)
        assert not run.has_part(0)
        run.append_rows(0, [{"image": "b", "nissim": 0.5}, {"image": "a", "nissim": 0.25}])
        run.append_rows("empty", [])
        assert run.parts() == ["000000", "000001", "empty"]
        assert run.skipped() == [{"image": "x", "reason": "truncated"}]
        table = run.merge()
    assert table["image"].to_list() == ["a", "b", "c"]
    assert pl.read_parquet(out / "images.parquet").equals(table)
    assert not (out / "parts").exists()
    assert len(record(out)["resumed"]) == 1


def test_parts_that_nobody_merged_are_not_lost(tmp_path):
    with Run.start(tmp_path / "out", **ASKED) as run:
        run.append_rows(0, [{"image": "a"}])
    assert pl.read_parquet(tmp_path / "out" / "images.parquet")["image"].to_list() == ["a"]


def test_complete_run_is_done_and_left_alone(tmp_path):
    with Run.start(tmp_path / "out", **ASKED):
        pass
    before = (tmp_path / "out" / "run.json").read_bytes()
    with Run.start(tmp_path / "out", **ASKED, options={"device": "cuda"}) as run:
        assert run.done
    assert (tmp_path / "out" / "run.json").read_bytes() == before


def test_other_settings_are_refused_by_name(tmp_path):
    with Run.start(tmp_path / "out", **ASKED):
        pass
    with pytest.raises(RunError, match=r"epsilon was not given and is now 0\.1"):
        Run.start(tmp_path / "out", command="explain", settings={**ASKED["settings"], "epsilon": 0.1}, seed=3)
    with pytest.raises(RunError, match="seed was 3 and is now 4"):
        Run.start(tmp_path / "out", **{**ASKED, "seed": 4})


def test_overwrite_empties_a_run_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    with Run.start(out, **ASKED) as run:
        run.write_text("figures/old.txt", "old")
    with Run.start(out, **{**ASKED, "seed": 4}, overwrite=True) as run:
        assert not run.resumed
    assert sorted(path.name for path in out.iterdir()) == ["run.json"]

    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").write_bytes(b"dear")
    with pytest.raises(RunError, match=r"holds 1 other files \(a\.png\)"):
        Run.start(photos, **ASKED, overwrite=True)
    (photos / "run.json").write_text('{"another": "program"}')
    with pytest.raises(RunError, match="not written by heatproof"):
        Run.start(photos, **ASKED, overwrite=True)
    assert (photos / "a.png").read_bytes() == b"dear"


def test_other_weights_behind_the_same_name_are_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt), Run.start(tmp_path / "out", **ASKED) as run:
        run.describe(model=[{"name": "m", "sha256": "aa", "layer": "l"}])
        raise KeyboardInterrupt
    with pytest.raises(RunError, match="have changed"), Run.start(tmp_path / "out", **ASKED) as run:
        run.describe(model=[{"name": "m", "sha256": "bb", "layer": "l"}])


def test_output_that_is_a_file_or_under_one(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(RunError, match="is a file"):
        Run.start(file, **ASKED)
    with pytest.raises(RunError, match="cannot write"):
        Run.start(file / "out", **ASKED)


@pytest.mark.parametrize(("code", "text"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "not allowed")])
def test_full_or_forbidden_disk_says_so_and_leaves_the_old_file(tmp_path, monkeypatch, code, text):
    file = whole.write_json(tmp_path / "a.json", {"old": 1})

    def fail(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(whole.os, "fsync", fail)
    with pytest.raises(RunError, match=text):
        whole.write_json(file, {"new": 2})
    assert json.loads(file.read_text()) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_disk_that_fills_while_a_table_is_written_says_so(tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Run.start(tmp_path / "out", **ASKED) as run, monkeypatch.context() as planted:
        planted.setattr(whole, "open", Full, raising=False)
        with pytest.raises(RunError, match="disk is full"):
            run.write_parquet("images.parquet", [{"image": "a.png"}])
    assert [path.name for path in run.folder.iterdir()] == ["run.json"]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    script = """
import os, sys
from heatproof.results import Run, whole
run = Run.start(sys.argv[1], command="explain", settings={})
run.write_text("summary.json", "{}")
whole.os.replace = lambda *names: os._exit(9)
run.write_text("summary.json", "half")
"""
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")], check=False)
    assert killed.returncode == 9
    assert (tmp_path / "out" / "summary.json").read_text() == "{}"
    assert len(list((tmp_path / "out").glob(".*.aside"))) == 1
    with Run.start(tmp_path / "out", command="explain", settings={}) as run:
        assert run.resumed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run.json", "summary.json"]


def test_two_living_processes_do_not_share_a_folder(tmp_path):
    script = "import sys; from heatproof.results import Run\nRun.start(sys.argv[1], command='explain', settings={})"
    with Run.start(tmp_path / "out", command="explain", settings={}):
        other = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "out")], check=False, capture_output=True, text=True
        )
    assert "being written by another process" in other.stderr


def test_other_processes_write_parts_and_never_the_record(tmp_path):
    with pytest.raises(RunError, match="process 0"):
        Run.start(tmp_path / "out", **ASKED, process=1)
    with Run.start(tmp_path / "out", **ASKED) as first:
        with Run.start(tmp_path / "out", **ASKED, overwrite=True, process=1) as second:
            second.append_rows("b", [{"image": "b"}])
        assert record(first.folder)["status"] == "running"
        first.append_rows("a", [{"image": "a"}])
        assert first.merge()["image"].to_list() == ["a", "b"]


def test_tensors_of_either_library_and_tied_weights(tmp_path):
    tied = torch.arange(6.0).reshape(2, 3)
    frozen = np.ones((2, 2), dtype=np.float32)
    frozen.flags.writeable = False
    with Run.start(tmp_path / "out", **ASKED) as run:
        path = run.write_tensors("heatmaps/a.safetensors", {"a": tied, "b": tied.T, "c": frozen}, {"unit": "logit"})
    back = load_file(path)
    assert (back["b"] == back["a"].T).all()
    assert back["c"].sum() == 4


def test_strict_json_and_names_that_stay_inside(tmp_path):
    with Run.start(tmp_path / "out", **ASKED) as run:
        path = run.write_json("a.json", {"x": float("nan"), "y": np.float32(0.5), "z": torch.tensor([1, 2])})
        assert json.loads(path.read_text()) == {"x": None, "y": 0.5, "z": [1, 2]}
        run.write_json("b.json", {"name": "bad\udcff.png"})
        for name in ("../x", "/x", ""):
            with pytest.raises(RunError, match="inside the run folder"):
                run.write_text(name, "x")
        with pytest.raises(RunError, match="part's name"):
            run.append_rows("../x", [])


def test_reads_what_is_whole_and_lists_the_rest(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RunError, match="does not exist"):
        read_run(out)
    with pytest.raises(KeyboardInterrupt), Run.start(out, **ASKED) as run:
        run.append_rows(0, [{"image": "a"}])
        raise KeyboardInterrupt
    (out / "summary.json").write_text('{"rows": [')
    (out / "history.parquet").write_bytes(b"PAR1 and no more")
    (out / "parts" / "000001.parquet").write_bytes(b"cut")
    found = read_run(out)
    assert found.status == "interrupted"
    assert found.images is not None
    assert found.images.height == 1
    assert found.rows == []
    assert found.history is None
    told = "\n".join(found.problems)
    for part in ("interrupted", "summary.json is damaged", "history.parquet is damaged", "000001.parquet", "1 rows"):
        assert part in told

    (out / "run.json").write_text(json.dumps({**record(out), "format": 99, "status": "complete"}))
    assert "format 99" in "\n".join(read_run(out).problems)
    (tmp_path / "none").mkdir()
    with pytest.raises(RunError, match="given as --out"):
        read_run(tmp_path / "none")


def test_a_complete_run_has_no_problems(tmp_path):
    with Run.start(tmp_path / "out", **ASKED) as run:
        run.append_rows(0, [{"image": "a", "moved": True}])
        run.merge()
        run.write_json("summary.json", {"rows": [{"a": 1}], "answer": ["Yes."], "skipped": []})
    found = read_run(tmp_path / "out")
    assert found.problems == []
    assert (found.answer, found.rows, found.command) == (["Yes."], [{"a": 1}], "explain")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "running"}, "it is still going, or was killed; the same command resumes it"),
        ({"status": "failed", "error": "no room"}, "the run failed: no room"),
        ({"status": "odd"}, "has the status 'odd', which is unknown here"),
        ({"command": None}, "lacks the command, its settings or the status"),
    ],
)
def test_what_a_record_says_against_its_folder(tmp_path, change, said):
    told = {"format": 1, "command": "explain", "settings": {}, "status": "complete", **change}
    (tmp_path / "run.json").write_text(json.dumps({key: value for key, value in told.items() if value is not None}))
    assert any(said in problem for problem in read_run(tmp_path).problems)


def test_files_of_others_are_not_read_through_links(tmp_path):
    """A stranger's run folder must not show on a page what lies elsewhere on this machine."""
    elsewhere = whole.write_json(tmp_path / "private.json", {"rows": [{"secret": 1}]})
    with Run.start(tmp_path / "out", **ASKED):
        pass
    (tmp_path / "out" / "summary.json").symlink_to(elsewhere)
    found = read_run(tmp_path / "out")
    assert found.rows == []
    assert "summary.json leads out of the run folder and was left out" in found.problems


def test_a_folder_without_its_tables_says_so(tmp_path):
    with pytest.raises(KeyboardInterrupt), Run.start(tmp_path / "out", **ASKED) as run:
        run.append_rows(0, [])
        raise KeyboardInterrupt
    problems = read_run(tmp_path / "out").problems
    assert "images.parquet is missing or damaged: there is no table of images" in problems
    assert "summary.json is missing" in problems


def test_parts_that_somebody_changed_are_named(tmp_path):
    with pytest.raises(RunError, match=r"do not fit each other.*delete that file"), Run.start(tmp_path, **ASKED) as run:
        run.append_rows(0, [{"image": 1}])
        run.append_rows(1, [{"image": [1]}])
        run.merge()


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def none(handle, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "lockf", none)
    with Run.start(tmp_path / "nfs", **ASKED):
        pass
    monkeypatch.setattr(lock, "fcntl", None)  # as where there is no POSIX
    with Run.start(tmp_path / "windows", **ASKED):
        pass
    for name in ("nfs", "windows"):
        assert record(tmp_path / name)["status"] == "complete"
        assert not (tmp_path / name / lock.Lock.NAME).exists()


def test_a_lock_given_back_twice_is_not_the_next_ones(tmp_path):
    first = lock.Lock.take(tmp_path)
    first.free()
    second = lock.Lock.take(tmp_path)
    first.free()
    assert second.path.exists()
    second.free()
    assert not second.path.exists()


class Rank(enum.StrEnum):
    FIRST = "first"


def test_values_of_other_types_are_written_as_json_has_them(tmp_path):
    path = whole.write_json(tmp_path / "a.json", {"text": Rank.FIRST, "number": signal.SIGINT, "place": tmp_path})
    assert json.loads(path.read_text()) == {"text": "first", "number": 2, "place": str(tmp_path)}


def test_a_stop_while_writing_leaves_nothing_aside_and_no_other_error(tmp_path, monkeypatch):
    def stop(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(whole.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        whole.write_json(tmp_path / "a.json", {})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_does_not_tell_its_room(tmp_path, monkeypatch):
    def fail(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(whole.os, "fsync", fail)
    monkeypatch.setattr(whole.shutil, "disk_usage", fail)
    with pytest.raises(RunError, match="the disk is full; make room"):
        whole.write_json(tmp_path / "a.json", {})


def test_a_disk_that_fails_says_how(tmp_path, monkeypatch):
    def fail(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(whole.os, "fsync", fail)
    with pytest.raises(RunError, match=r"a\.json: Input/output error; choose another folder with --out"):
        whole.write_json(tmp_path / "a.json", {})


def test_skipped_images_of_a_part_that_was_cut_off_come_again(tmp_path):
    with pytest.raises(KeyboardInterrupt), Run.start(tmp_path / "out", **ASKED) as run:
        run.append_rows(0, [], skipped=[{"image": "x", "reason": "truncated"}])
        run.write_json("parts/000001.skipped.json", [{"image": "y", "reason": "truncated"}])
        assert [entry["image"] for entry in run.skipped()] == ["x"]
        raise KeyboardInterrupt


def test_the_other_processes_begin_where_the_first_could(tmp_path, monkeypatch):
    def first_says(value):
        monkeypatch.setattr("accelerate.utils.reduce", lambda tensor, how: torch.full_like(tensor, value))

    first_says(0.0)
    with (
        pytest.raises(RunError, match=r"process 0 could not begin in .*out; what it said tells why"),
        start_together(tmp_path / "out", Processes(1, 2), **ASKED),
    ):
        pass
    first_says(1.0)
    with (
        start_together(tmp_path / "out", Processes(0, 2), **ASKED) as first,
        start_together(tmp_path / "out", Processes(1, 2), **ASKED) as second,
    ):
        second.append_rows("b", [{"image": "b"}])
        assert (first.process, second.process) == (0, 1)
        assert first.parts() == ["b"]


def test_a_complete_run_is_not_described_anew(tmp_path):
    with Run.start(tmp_path, **ASKED) as run:
        run.describe(model=[{"name": "demo", "sha256": "0"}])
    before = (tmp_path / "run.json").read_bytes()
    with Run.start(tmp_path, **ASKED) as again:
        again.describe(model=[{"name": "demo", "sha256": "0"}], data={"name": "photos", "count": 3})
        with pytest.raises(RunError, match="have changed; choose another --out"):
            again.describe(model=[{"name": "demo", "sha256": "1"}])
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_package_that_is_not_there_is_recorded_as_none(tmp_path, monkeypatch):
    known = metadata.version

    def version(name):
        if name == "timm":
            raise metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(metadata, "version", version)
    with Run.start(tmp_path, **ASKED) as run:
        assert (run.record["versions"]["timm"], run.record["versions"]["torch"]) == (None, torch.__version__)


def test_rows_that_cannot_be_put_in_order_are_named(tmp_path, monkeypatch):
    def sort(self, *words, **named):
        raise pl.exceptions.InvalidOperationError("no order of lists")

    with Run.start(tmp_path, **ASKED) as run:
        run.append_rows(0, [{"image": "a.png"}])
        with monkeypatch.context() as planted:
            planted.setattr(pl.DataFrame, "sort", sort)
            with pytest.raises(RunError, match=r"parts hold no rows of a run \(no order of lists\); delete them"):
                run.merge()
        assert run.merge()["image"].to_list() == ["a.png"]


@pytest.mark.parametrize("keys", [["image", "epsilon"], ["epsilon", "target", "image"], ["flag", "none", "image"]])
def test_rows_are_ordered_as_polars_orders_them(keys: list[str]) -> None:
    """Gaps, NaN, negative zeros, equal rows: by ranks they come out as by the values."""
    rng = random.Random(0)
    kinds: dict[str, tuple[list[Any], Any]] = {
        "image": (["b", "a", "é", "", None], pl.String),
        "epsilon": ([0.0, -0.0, 1.5, math.nan, None, math.inf], pl.Float64),
        "target": ([2, 1, None], pl.Int64),
        "flag": ([True, False, None], pl.Boolean),
        "none": ([None], pl.Null),
    }
    for count in (0, 1, 40):
        columns = [pl.Series(name, rng.choices(values, k=count), dtype=kind) for name, (values, kind) in kinds.items()]
        table = pl.DataFrame([*columns, pl.Series("place", range(count), dtype=pl.Int64)])
        expected = table.sort(keys, maintain_order=True, nulls_last=True)
        assert _ordered(table.clone(), keys).equals(expected)
