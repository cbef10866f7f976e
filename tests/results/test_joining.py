"""Shards joined without a network: the simulation of a whole job, and what is known of it in closed form."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

from heatproof.errors import RunError, SpecError
from heatproof.processes import Processes
from heatproof.results import joining
from heatproof.results.reading import read_run
from heatproof.results.run import Run
from heatproof.shard import Shard

SCRIPT = Path(__file__).parents[2] / "scripts" / "simulate_shards.py"


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("simulate_shards", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_a_small_job_with_failures_is_that_of_one_process(simulation: ModuleType, tmp_path: Path) -> None:
    job = simulation.Job(shards=8, parts=3, photos=2, killed=0.5, lost=2, never=1)
    found = simulation.simulate(job, tmp_path)
    assert found["rows"] == 8 * 3 * 2 * 4
    assert found["kills"] > 0


def test_the_reckoned_time_is_the_closed_form_where_nothing_dies(simulation: ModuleType) -> None:
    calm = simulation.Cluster(machines=7, shards=20, hours=2.0, between_deaths=math.inf, slow=0.0)
    assert simulation.makespan(calm, resumed=True) == (3 * 2.0, 0.0)


def test_what_goes_on_loses_half_a_part_a_death(simulation: ModuleType) -> None:
    # one machine, one long shard: a death loses what was done of a part, half of it on average
    cluster = simulation.Cluster(
        machines=1, shards=1, hours=4000.0, parts=4000, between_deaths=10.0, waiting=0.0, slow=0.0
    )
    hours, twice = simulation.makespan(cluster, resumed=True)
    assert hours == pytest.approx(4000 + twice)
    # about 400 deaths, each of which loses half an hour
    assert 120 < twice < 320


def test_every_part_is_of_one_shard_and_one_process() -> None:
    for shards, ranks, total in ((3, 2, 17), (5, 1, 3), (1, 4, 9), (7, 3, 100)):
        everyone = [Processes(rank, ranks, job=Shard(k, shards)) for k in range(1, shards + 1) for rank in range(ranks)]
        assert sorted(part for one in everyone for part in one.parts(total)) == list(range(total))
        # of ten photos a part, the last of one
        photos = total * 10 - 9
        assert sum(Processes(job=Shard(k, shards)).photos(photos, 10) for k in range(1, shards + 1)) == photos


def test_no_shard_at_all() -> None:
    with pytest.raises(SpecError, match="joins the run folders of shards: name them"):
        joining.read_shards([])


def test_files_are_copied_where_there_can_be_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in (1, 2):
        with Run.start(tmp_path / f"{k}", command="shift", settings={}, shard=Shard(k, 2)) as run:
            run.append_rows(k - 1, [{"image": f"{k}.png"}])

    def refused(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(joining.os, "link", refused)
    found = joining.read_shards([tmp_path / "1", tmp_path / "2"])
    for _ in range(2):
        run = joining.join(found, tmp_path / "all")
        parts = sorted((tmp_path / "all" / "parts").iterdir())
        assert [part.name for part in parts] == ["000000.parquet", "000001.parquet"]
        assert all(part.stat().st_nlink == 1 for part in parts)
    assert run.record["status"] == "joined"
    told = "the shards are joined, and the end of the run is to come; the same heatproof merge goes on"
    assert told in read_run(tmp_path / "all").problems
    with pytest.raises(RunError, match="shard was '1/2' and is now not given"):
        Run.start(tmp_path / "1", command="shift", settings={})


def test_a_disk_that_is_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Run.start(tmp_path / "1", command="shift", settings={}, shard=Shard(1, 2)) as run:
        run.append_rows(0, [{"image": "a.png"}])

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    found = joining.read_shards([tmp_path / "1"], partial=True)
    with monkeypatch.context() as patch:
        patch.setattr(joining.os, "link", full)
        with pytest.raises(RunError, match="the disk is full"):
            joining.join(found, tmp_path / "all")
    assert not (tmp_path / "all").exists()  # nothing was joined, so nothing is left
    assert joining.join(found, tmp_path / "all").record["shards"]["missing"] == [2]
