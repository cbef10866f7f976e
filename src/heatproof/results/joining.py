"""The run folders of a job's shards, checked against each other and joined into one folder.

Only files are read and linked: nothing that a folder names is run. The joined folder then holds what one process would
have left there when it was stopped before the end, so that the verb goes on from it as from any stopped run.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from heatproof.errors import Remark, RunError, SpecError
from heatproof.results.folder import differences, own_folder, shorten
from heatproof.results.reading import numbers, read_table
from heatproof.results.record import versions
from heatproof.results.run import Run
from heatproof.results.shards import Listed, files_of, part_number, read_files
from heatproof.results.strict import read_record
from heatproof.results.whole import ASIDE, refuse
from heatproof.shard import Shard

PATIENCE = 120.0
"""Seconds by which clocks may differ before it is told."""
VERSIONS = ("heatproof", "torch", "torchvision", "timm")
"""What must be the same on all machines, since numbers depend on it."""
OF_PARTS = ("kept", "curves", "heatmaps")
"""Folders whose files end in the number of their part."""


@dataclass(frozen=True)
class ShardRun:
    """A shard's run folder as it was found.

    Attributes:
        folder: where.
        shard: which one.
        record: its ``run.json``.
        listed: the files of its parts; of a shard that is not done those of whole parts, without hashes.
    """

    folder: Path
    shard: Shard
    record: dict[str, Any]
    listed: Listed

    @property
    def files(self) -> dict[str, int]:
        """The files of its parts, with their sizes in bytes."""
        return self.listed.sizes

    @property
    def done(self) -> bool:
        """Whether it did all of its share."""
        return self.record["status"] == "shard"

    def __str__(self) -> str:
        return f"shard {self.shard} in {self.folder}"

    def plain(self) -> dict[str, Any]:
        """As the joined run remembers it."""
        told = {name: self.record.get(name) for name in ("status", "start", "end", "machine")}
        parts = sum(name.startswith("parts/") and name.endswith(".parquet") for name in self.files)
        return {"shard": str(self.shard), "folder": str(self.folder), **told, "parts": parts}


@dataclass(frozen=True)
class Shards:
    """The shards of one job, which fit each other.

    Attributes:
        found: in the order of their numbers.
        count: how many the job has.
    """

    found: tuple[ShardRun, ...]
    count: int

    @property
    def record(self) -> dict[str, Any]:
        """What all were asked."""
        return self.found[0].record

    @property
    def missing(self) -> list[int]:
        """The numbers of those that were not given, or are not done."""
        done = {run.shard.number for run in self.found if run.done}
        return [number for number in range(1, self.count + 1) if number not in done]


def read_shards(folders: Sequence[Path | str], *, partial: bool = False) -> Shards:
    """The shards in some folders, each checked and all held against each other.

    Args:
        folders: in any order.
        partial: go on without shards that are missing, and with what there is of those that are not done.

    Raises:
        SpecError: no folder was given.
        RunError: one is no shard, is damaged, of other settings, versions, models or data, not done or cut off; two are
            the same shard; one is missing. The sentence says which, and the way out.
    """
    if not folders:
        raise SpecError("heatproof merge joins the run folders of shards: name them, RUN...")
    found = sorted((_read(Path(folder), partial) for folder in folders), key=lambda run: run.shard.number)
    first = found[0]
    for before, run in pairwise(found):
        if before.shard.number == run.shard.number and before.shard.count == run.shard.count:
            raise RunError(f"shard {run.shard} is there twice, in {before.folder} and in {run.folder}: leave one out")
    for run in found[1:]:
        _check_alike(first, run)
    _check_versions(first.record, str(first), versions(), "heatproof here")
    for run in found:
        _look_at_the_clock(run)
    shards = Shards(tuple(found), first.shard.count)
    if shards.missing and not partial:
        lacking = f"{numbers(shards.missing)} of {shards.count}"
        raise RunError(
            f"shards are missing: {lacking}; name their folders too, give the command with --shard "
            f"{shards.missing[0]}/{shards.count}, or go on without them: --partial, which the page then says"
        )
    if not partial:
        _check_parts(shards)
    for run in found:
        _check_content(run)
    return shards


def join(
    shards: Shards, out: Path | str | None = None, *, overwrite: bool = False, inputs: Sequence[Path | str] = ()
) -> Run:
    """One run folder with the files of all shards; its status is then ``joined``, until the verb has made its end.

    Files are linked where the file system allows it, and copied elsewhere; :func:`read_shards` has seen that they are
    whole. A joining that was stopped goes on by the same call.

    Args:
        out: the folder; ``None``: one of its own.
        inputs: what must not be emptied by ``overwrite``, besides the shards.

    Returns:
        The run; ``done`` where the job is complete in that folder.

    Raises:
        RunError: the folder holds something else, or cannot be written.
    """
    record = shards.record
    asked: dict[str, Any] = {"command": record["command"], "settings": record["settings"], "seed": record["seed"]}
    folder = Path(out) if out is not None else own_folder(**asked)
    protected = [*inputs, *(run.folder for run in shards.found)]
    run = Run.start(
        folder,
        **asked,
        options=record.get("options"),
        overwrite=overwrite,
        shard=Shard(0, shards.count),
        inputs=protected,
    )
    if run.done:
        return run
    run.ends_as = "joined"
    run.record["shards"] = {
        "count": shards.count,
        "joined": [one.plain() for one in shards.found],
        "missing": shards.missing,
    }
    with run:
        run.describe(model=record.get("model") or [], data=record.get("data"))
        wanted = {name for one in shards.found for name in one.files}
        for name in files_of(run.folder).keys() - wanted:
            # of a joining of other shards
            (run.folder / name).unlink()
        for one in shards.found:
            for name in one.files:
                _bring(one.folder / name, run.path(name))
    return run


def _read(folder: Path, partial: bool) -> ShardRun:
    if not (folder / "run.json").is_file():
        there = "does not exist" if not folder.exists() else "has no run.json"
        raise RunError(f"expected the run folder of a shard, and {folder} {there}")
    record = read_record(folder / "run.json", "give the shard's command again, into another --out")
    if not record.get("shard"):
        raise RunError(
            f"{folder} holds a run of {shorten(record['command'])} that is no shard of a job; a shard is made with "
            "--shard k/n"
        )
    try:
        shard = Shard.read(record["shard"])
    except SpecError as error:
        raise RunError(f"{folder / 'run.json'} is damaged: {error}") from error
    if record["status"] == "shard":
        return ShardRun(folder, shard, record, _whole_files(folder, shard))
    if not partial:
        failed = f" ({record['error']})" if record.get("error") else ""
        raise RunError(
            f"shard {shard} in {folder} is not done, but {record['status']}{failed}: its command goes on where it "
            "stopped; or take what it has: --partial, which the page then says"
        )
    return ShardRun(folder, shard, record, Listed(_files_of_whole_parts(folder), {}))


def _whole_files(folder: Path, shard: Shard) -> Listed:
    """What the shard was done with, by the list; :func:`_check_content` reads the files."""
    listed, there = read_files(folder), files_of(folder)
    sizes = Listed(listed.sizes, {})
    for name in listed.sizes:
        if differs := sizes.difference(folder, name, there):
            raise _changed(f"shard {shard} in {folder}", differs)
        number = part_number(name)
        if name.split("/")[0] in ("parts", *OF_PARTS) and (number is None or number not in shard.parts(number + 1)):
            raise RunError(f"{folder / name} is no part of shard {shard}; {_ANEW}")
    return listed


_ANEW = "give the shard's command again with --overwrite"


def _changed(shard: str, differs: str) -> RunError:
    return RunError(
        f"{shard} is not as it was when it was done: {differs}; copy the folder again, or give the shard's command "
        "again, which makes it anew"
    )


def _files_of_whole_parts(folder: Path) -> dict[str, int]:
    """What a shard that was stopped has: a part is whole when its rows are there, which are written last."""
    files = files_of(folder)
    whole = {part_number(name) for name in files if name.startswith("parts/") and name.endswith(".parquet")}
    return {
        name: size
        for name, size in files.items()
        if part_number(name) in whole or name.split("/")[0] not in ("parts", *OF_PARTS)
    }


def _check_alike(first: ShardRun, run: ShardRun) -> None:
    if run.record["command"] != first.record["command"]:
        raise RunError(
            f"{first} is of {first.record['command']}, and {run} of {run.record['command']}: these are shards of two "
            "jobs; name the folders of one"
        )
    if run.shard.count != first.shard.count:
        raise RunError(
            f"{run.folder} holds one of {run.shard.count} shards and {first.folder} one of {first.shard.count}: "
            "these are shards of two jobs; name the folders of one"
        )
    asked = [{**record, "shard": None} for record in (first.record, run.record)]
    if changes := differences(*asked):
        raise RunError(
            f"{run} is of another job than {first}: {'; '.join(changes)}; leave it out, or give its command again "
            "with the same settings and --overwrite"
        )
    for what in ("model", "data"):
        here, there = run.record.get(what), first.record.get(what)
        # a shard that was stopped early has not said yet what it read
        if here != there and here and there:
            raise RunError(
                f"{run} was made with {what} {shorten(here)} and {first} with {shorten(there)}: the files behind the "
                f"same names differ; {_ANEW} where they are the right ones"
            )
    _check_versions(run.record, str(run), first.record.get("versions") or {}, str(first))


def _check_versions(record: dict[str, Any], name: str, others: dict[str, Any], other: str) -> None:
    made = record.get("versions") or {}
    for library in VERSIONS:
        if made.get(library) != others.get(library):
            raise RunError(
                f"{name} was made with {library} {made.get(library) or 'missing'} and {other} is of {library} "
                f"{others.get(library) or 'missing'}: numbers may differ between versions; install the same on every "
                f"machine, and {_ANEW}"
            )


def _look_at_the_clock(run: ShardRun) -> None:
    """Tell of a machine whose clock cannot be right; the numbers do not depend on it, the times in ``run.json`` do."""
    try:
        start, end = (_seconds(run.record.get(name)) for name in ("start", "end"))
        written = (run.folder / "run.json").stat().st_mtime
    except (TypeError, ValueError, OSError, OverflowError):
        warnings.warn(Remark(f"{run} says no time at which it was begun"), stacklevel=2)
        return
    now = datetime.now(UTC).timestamp()
    told = ""
    if start is not None and start > now + PATIENCE:
        told = f"it was begun at {run.record['start']}, which is still to come"
    elif start is not None and end is not None and end < start - PATIENCE:
        told = f"it ended at {run.record['end']}, before it was begun at {run.record['start']}"
    elif end is not None and end > written + PATIENCE:
        told = f"it ended at {run.record['end']}, and its run.json was written before that"
    if told:
        warnings.warn(
            Remark(f"the clock of the machine of {run} is wrong: {told}; times are not to be trusted, numbers are"),
            stacklevel=2,
        )


def _seconds(text: Any) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _check_parts(shards: Shards) -> None:
    """Stop where a part in the middle of the data is in no shard: then a folder is not what it says."""
    found: dict[str, set[int]] = {}
    for name in (name for run in shards.found for name in run.files if name.endswith(".parquet")):
        number = part_number(name)
        assert number is not None
        found.setdefault(name.removesuffix(".parquet").rstrip("0123456789"), set()).add(number)
    for there in found.values():
        holes = sorted(set(range(max(there) + 1)) - there)
        if holes:
            run = shards.found[holes[0] % shards.count]
            raise RunError(f"part {holes[0]} is in none of the folders, and should be in that of {run}; {_ANEW}")


def _check_content(run: ShardRun) -> None:
    """Read every file of a shard once, and hold it against what was written down when the shard was done.

    A shard that is not done has no list, nor hashes one that an earlier version made: of these the rows are read, and
    it is told.
    """
    if run.listed.hashes:
        for name in run.files:
            if differs := run.listed.difference(run.folder, name, run.files):
                raise _changed(str(run), differs)
        return
    if run.done and run.files:
        warnings.warn(
            Remark(
                f"{run} was made by an earlier version, which wrote down the sizes of its files and no hashes: only a "
                "file that is cut off or cannot be read would be noticed"
            ),
            stacklevel=2,
        )
    for name in (name for name in run.files if name.startswith("parts/") and name.endswith(".parquet")):
        problems: list[str] = []
        if read_table(run.folder / name, problems) is None:
            raise RunError(
                f"{run}: {problems[0]}; delete {run.folder / name}, and give the shard's command again, which makes "
                "this part anew"
            )


def _bring(source: Path, target: Path) -> None:
    """A link to a file, or a copy where there can be no link; whole, or not there."""
    aside = target.with_name(f".{target.name[:80]}.{os.getpid()}-{secrets.token_hex(4)}{ASIDE}")
    try:
        there = source.lstat()
        if not stat.S_ISREG(there.st_mode):
            raise RunError(f"{source} is a link, a folder or a device, and a shard writes files only; leave it out")
        if target.is_file() and _stamp(target.lstat()) == _stamp(there):
            return
        target.parent.mkdir(exist_ok=True)
        try:
            os.link(source, aside, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            shutil.copyfile(source, aside, follow_symlinks=False)
            os.utime(aside, ns=(there.st_atime_ns, there.st_mtime_ns))
        os.replace(aside, target)
    except OSError as error:
        refuse(target, error)
    finally:
        # of a copy that failed
        with contextlib.suppress(OSError):
            aside.unlink()


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
