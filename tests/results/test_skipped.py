"""One list of what was left out: each thing once, in the data's order, the same after a kill."""
# ruff: noqa: PT012 the block under pytest.raises is the run that is cut off

from dataclasses import dataclass, field

import pytest

from heatproof.results import Run
from heatproof.results.skipped import all_skipped


@dataclass
class Data:
    ids: list[str]
    skipped: list[dict[str, str]] = field(default_factory=list)


def entry(image, reason="truncated"):
    return {"image": image, "reason": reason}


def start(out):
    return Run.start(out, command="shift", settings={})


def test_folders_first_then_photos_in_order_each_once(tmp_path):
    first = Data(["z.png", "a.png", "b.png"], [entry("dogs/", "no class"), entry("b.png")])
    second = Data(["b.png", "c.png"], [entry("dogs/", "no class"), entry("c.png")])
    with start(tmp_path / "out") as run:
        run.append_rows(1, [{"image": "a.png"}], [entry("b.png"), entry("z.png")])
        wanted = [entry("dogs/", "no class"), entry("z.png"), entry("b.png"), entry("c.png")]
        assert all_skipped(run, first, second) == wanted
        assert all_skipped(run, second) == [wanted[0], entry("z.png"), *wanted[2:]]


def test_the_same_after_a_kill_while_parts_are_deleted(tmp_path):
    data = Data(["a.png", "b.png"], [entry("dogs/", "no class")])
    told = None
    with pytest.raises(KeyboardInterrupt), start(tmp_path / "out") as run:
        run.append_rows(0, [{"image": "a.png"}], [entry("b.png")])
        told = all_skipped(run, data)
        (tmp_path / "out" / "parts" / "000000.skipped.json").unlink()
        raise KeyboardInterrupt
    with start(tmp_path / "out") as run:
        assert run.has_part(0)
        assert all_skipped(run, Data(data.ids, data.skipped)) == told == [entry("dogs/", "no class"), entry("b.png")]


@pytest.mark.parametrize("content", ["", "{", "3", '[3, {}, {"image": 1}]', "null"])
def test_a_damaged_list_is_made_anew(tmp_path, content):
    with start(tmp_path / "out") as run:
        run.write_text("skipped.json", content)
        assert all_skipped(run, Data(["a.png"], [entry("a.png")])) == [entry("a.png")]


def test_other_processes_and_runs_without_losses_write_nothing(tmp_path):
    with start(tmp_path / "out") as run:
        assert all_skipped(run, Data(["a.png"])) == []
        other = Run(run.folder, run.record, process=1)
        assert all_skipped(other, Data(["a.png"], [entry("a.png")])) == [entry("a.png")]
        assert not run.path("skipped.json").exists()
