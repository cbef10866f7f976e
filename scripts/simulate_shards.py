"""A job of a thousand shards with failures, stragglers and restarts, joined by the code that ``heatproof merge`` runs.

    python scripts/simulate_shards.py --shards 1000 --parts 8 --photos 16

The rows are made up, everything else is real: run folders, parts, records that a killed process leaves behind, what is
gone on with, the checks and the joining. In the end the table must be that of one process, byte for byte. The second
part reckons how long a job takes on machines that die, and needs no folder.
"""

import argparse
import heapq
import json
import math
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heatproof.errors import RunError
from heatproof.results import joining
from heatproof.results.run import Run
from heatproof.results.table import summarise
from heatproof.shard import WHOLE, Shard

EPSILONS = (0.01, 0.05, 0.075, 0.1)
SEEDS = 20
"""Of which the reckoned times are means."""


@dataclass(frozen=True)
class Job:
    """What is simulated.

    Attributes:
        shards: of the job.
        parts: of each shard.
        photos: in a part.
        killed: the share of shards that are killed once or more, and started again.
        lost: shards whose machine dies for good, in the middle of their work.
        never: shards that are not started at first.
    """

    shards: int = 1000
    parts: int = 8
    photos: int = 16
    killed: float = 0.2
    lost: int = 5
    never: int = 3
    seed: int = 0

    def start(self, out: Path, shard: Shard = WHOLE) -> Run:
        return Run.start(out, command="shift", settings={"job": asdict(self)}, shard=shard)


def rows_of(part: int, photos: int) -> list[dict[str, Any]]:
    """Rows as those of ``heatproof shift``, of numbers that depend on the photo alone."""
    rows = []
    for place in range(part * photos, (part + 1) * photos):
        draw = random.Random(place)
        for epsilon in EPSILONS:
            row = {"image": f"{place:09d}.jpg", "model": "net", "attack": "FGSM()", "epsilon": epsilon}
            row |= {"explainer": "GradCAM()", "label": place % 1000, "correct": draw.random() < 0.7}
            rows.append(row | {name: draw.random() for name in ("nissim", "spearman", "psnr", "mass_clean", "mass")})
    return rows


def work(job: Job, out: Path, shard: Shard, stop_after: int | None = None) -> bool:
    """A process that does its share, or is killed after so many parts of it; whether it came to its end."""
    run = job.start(out, shard)
    run.describe(model=[{"name": "net", "sha256": "0"}], data={"name": "made up", "count": 1, "sha256": "0"})
    for done, part in enumerate(p for p in shard.parts(job.shards * job.parts) if not run.has_part(p)):
        if done == stop_after:
            # what the operating system does when a process is killed, and no more
            assert run._lock is not None  # pyright: ignore[reportPrivateUsage]
            run._lock.free()  # pyright: ignore[reportPrivateUsage]
            return False
        run.append_rows(part, rows_of(part, job.photos))
    with run:
        pass
    return True


def refused(folders: Sequence[Path]) -> str:
    """What the merge says to folders that it must not take."""
    try:
        joining.read_shards(folders)
    except RunError as error:
        return str(error)
    raise AssertionError("the merge took shards that are not whole")


def end(job: Job, out: Path) -> None:
    """The end of the verb on a joined folder: table and summary."""
    with job.start(out, Shard(0, job.shards)) as run:
        table = run.merge()
        means = summarise(table, ["model", "attack", "epsilon", "explainer"], ["nissim", "spearman", "correct"])
        run.write_json("summary.json", {"rows": [row.plain() for row in means]})


def simulate(job: Job, folder: Path) -> dict[str, Any]:
    """The whole life of a job in shards; the seconds that its steps took.

    Raises:
        AssertionError: something was not as one process would have made it.
    """
    draw, took, begun = random.Random(job.seed), {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal begun
        took[name], begun = time.perf_counter() - begun, time.perf_counter()

    shards = [Shard(number, job.shards) for number in range(1, job.shards + 1)]
    folders = {shard: folder / f"shard-{shard.number:04d}" for shard in shards}
    unlucky = draw.sample(shards, job.lost + job.never)
    lost, never = set(unlucky[: job.lost]), set(unlucky[job.lost :])
    kills = 0
    for shard in draw.sample(shards, job.shards):
        if shard in never:
            continue
        if shard in lost:
            work(job, folders[shard], shard, stop_after=job.parts // 2)
            continue
        while draw.random() < job.killed:
            kills += not work(job, folders[shard], shard, stop_after=draw.randrange(job.parts))
        assert work(job, folders[shard], shard)
    lap("shards")
    there = [folders[shard] for shard in shards if shard not in never]
    assert f"shard {min(lost, key=lambda s: s.number)} in" in refused(there)
    sound = [folders[shard] for shard in shards if shard not in never | lost]
    assert "shards are missing" in refused(sound)
    assert "is there twice" in refused([*sound, sound[0]])
    lap("refused three times")
    whole = folder / "whole"
    run = joining.join(joining.read_shards(there, partial=True), whole)
    assert run.record["shards"]["missing"] == sorted(shard.number for shard in lost | never)
    end(job, whole)
    lap("joined in part")
    expected = job.shards * job.parts - job.never * job.parts - job.lost * (job.parts - job.parts // 2)
    record = json.loads((whole / "run.json").read_text())
    assert record["status"] == "partial"
    assert sum(one["parts"] for one in record["shards"]["joined"]) == expected
    for shard in lost | never:
        assert work(job, folders[shard], shard)
    lap("lost shards made anew")
    found = joining.read_shards(list(folders.values()))
    lap("checked")
    joining.join(found, whole)
    lap("joined")
    end(job, whole)
    lap("table and summary")
    with job.start(folder / "one") as one:
        for part in range(job.shards * job.parts):
            one.append_rows(part, rows_of(part, job.photos))
    lap("one process")
    assert (whole / "images.parquet").read_bytes() == (folder / "one" / "images.parquet").read_bytes()
    assert json.loads((whole / "run.json").read_text())["status"] == "complete"
    size = (whole / "images.parquet").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "kills": kills,
        "rows": job.shards * job.parts * job.photos * len(EPSILONS),
        "bytes": size,
        "MiB": peak,
    } | took


@dataclass(frozen=True)
class Cluster:
    """Machines that die, for :func:`makespan`.

    Attributes:
        machines: at work at once.
        hours: that a shard takes on a usual machine.
        parts: of a shard.
        between_deaths: hours from one death of a machine to its next, on average.
        waiting: hours until a shard that was stopped is at work again, in the queue and until the model is loaded.
        slow, slowness: the share of shards that run on a slow machine, and how many times longer they take.
    """

    machines: int = 64
    shards: int = 1000
    hours: float = 1.0
    parts: int = 80
    between_deaths: float = 100.0
    waiting: float = 0.1
    slow: float = 0.02
    slowness: float = 3.0


def makespan(cluster: Cluster, resumed: bool, seed: int = 0) -> tuple[float, float]:
    """Hours until the last shard is done, and machine hours of work that was done twice.

    Args:
        resumed: whether a shard goes on after its last whole part, or is begun again.
    """
    draw = random.Random(seed)
    wholes = [cluster.hours * (cluster.slowness if draw.random() < cluster.slow else 1) for _ in range(cluster.shards)]
    free = [0.0] * cluster.machines
    # when it may start, which, and the hours left of it; a heap, as the machines that are free
    waiting = [(0.0, place, hours) for place, hours in enumerate(wholes)]
    last = twice = 0.0
    while waiting:
        ready, place, left = heapq.heappop(waiting)
        start = max(ready, heapq.heappop(free))
        life = draw.expovariate(1.0) * cluster.between_deaths
        ends = start + min(left, life)
        if life >= left:
            last = max(last, ends)
        else:
            part = wholes[place] / cluster.parts
            kept = life // part * part if resumed else 0.0
            twice += life - kept
            ends += cluster.waiting
            heapq.heappush(waiting, (ends, place, left - kept))
        heapq.heappush(free, ends)
    return last, twice


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shards", type=int, default=Job.shards)
    parser.add_argument("--parts", type=int, default=Job.parts)
    parser.add_argument("--photos", type=int, default=Job.photos)
    parser.add_argument("--folder", type=Path, help="for the run folders; a temporary one by default")
    given = parser.parse_args()
    job = Job(given.shards, given.parts, given.photos)
    folder = Path(tempfile.mkdtemp(prefix="shards-", dir=given.folder))
    try:
        for name, value in simulate(job, folder).items():
            sys.stdout.write(f"{name:24} {value:,.2f}\n")
    finally:
        shutil.rmtree(folder)
    for death in (1000.0, 100.0, 10.0):
        for resumed in (True, False):
            found = [makespan(Cluster(between_deaths=death), resumed, seed) for seed in range(SEEDS)]
            calm = [makespan(Cluster(between_deaths=math.inf), resumed, seed) for seed in range(SEEDS)]
            longer = sum(hours for hours, _ in found) / sum(hours for hours, _ in calm)
            twice = sum(hours for _, hours in found) / SEEDS / Cluster.shards
            how = "goes on" if resumed else "begins again"
            sys.stdout.write(
                f"a machine dies every {death:,.0f} h, its shard {how}: {longer:.3f} of the time without deaths, "
                f"{twice:.4f} h of work twice a shard\n"
            )


if __name__ == "__main__":
    main()
