"""The run folder: what was asked, what came out, and enough to go on after a crash.

``run.json`` holds the command, all settings as specs, the seed, versions, machine, model and data with their hashes,
start, end and ``status``: running, complete, interrupted or failed, and of a job in shards ``shard``, ``joined`` or
``partial`` (:mod:`heatproof.results.shards`). While a run lasts, rows wait in
``parts/<part>.parquet`` (one file per batch, so a killed run loses one batch at most); at the end they become one
sorted ``images.parquet``. ``complete`` is said last, when the page is there, and only then is deleted what a resumed
run would go on from: a run that ends at any other moment is begun again where it was. Several processes may write parts
of different names; only process 0 writes ``run.json``.
"""

import contextlib
import io
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from heatproof.errors import HeatproofError, RunError
from heatproof.results.folder import (
    check_inputs,
    check_links,
    check_same,
    clear_working,
    empty_folder,
    missing,
    old_record,
    remove_unused,
    shorten,
    sweep,
)
from heatproof.results.lock import Lock
from heatproof.results.reading import gather_parts, missing_shards
from heatproof.results.record import new_record, now
from heatproof.results.shards import check_images, delete_damaged, is_whole, list_files, tell_missing
from heatproof.results.strict import read_skipped
from heatproof.results.whole import plain, refuse, write_json, write_whole
from heatproof.shard import WHOLE, Shard

if TYPE_CHECKING:  # torch loads slowly, and a report needs none
    from heatproof.processes import Processes

SORT = ("image", "model", "attack", "epsilon", "explainer", "layer", "condition", "target")
"""The columns that order ``images.parquet``, as far as it has them."""


@dataclass
class Run:
    """One command's folder, used as a context manager.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "run"
    >>> with Run.start(folder, command="explain", settings={"explainer": "GradCAM()"}) as run:
    ...     run.append_rows(0, [{"image": "a.png", "confidence": 0.9}])
    ...     _ = run.write_json("summary.json", {"rows": []})
    >>> Run.start(folder, command="explain", settings={"explainer": "GradCAM()"}).done
    True

    Attributes:
        folder: where everything goes.
        record: the content of ``run.json``.
        done: the same command is already complete here; nothing is to be done, and leaving changes nothing.
        resumed: the same command was begun here and did not end; its parts are kept.
        process: the rank among the processes of one run; only 0 writes ``run.json`` and merges.
        page: makes the page of the folder from its record, as the last thing before the run is complete.
        shard: the share of a job that this folder holds; the whole of it by default.
        ends_as: the status of the run when all that it has to do is done.
    """

    folder: Path
    record: dict[str, Any]
    done: bool = False
    resumed: bool = False
    process: int = 0
    page: Callable[[Path, dict[str, Any]], Any] | None = field(default=None, repr=False)
    shard: Shard = WHOLE
    ends_as: Literal["complete", "shard", "joined", "partial"] = "complete"
    _lock: Lock | None = field(default=None, repr=False)
    _made: tuple[Path, ...] = field(default=(), repr=False)

    @classmethod
    def start(
        cls,
        out: Path | str,
        *,
        command: str,
        settings: Mapping[str, Any],
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        process: int = 0,
        inputs: Iterable[Path | str] = (),
        page: Callable[[Path, dict[str, Any]], Any] | None = None,
        shard: Shard = WHOLE,
    ) -> "Run":
        """Make the folder, or find in it the same command done or begun.

        Args:
            out: the folder.
            command: the command's name.
            settings: all that the numbers depend on, as specs and plain values; a folder with others is refused.
            seed: of everything random; counts as a setting.
            options: what the numbers do not depend on (device, workers); recorded, never compared.
            overwrite: empty a folder first that holds a run; a folder that holds no run is never touched.
            process: the rank; with several processes process 0 must have started before the others do.
            inputs: what the run reads, as paths and names of models; a folder that holds one is never emptied.
            page: called with the folder and its record when all else is done.
            shard: the share of the job that is done here; counts as a setting.

        Raises:
            RunError: the folder holds other files, a run with other settings, a run that another process is writing
                now, or cannot be written; it would be emptied and is an input.
        """
        folder = Path(out)
        wanted = {"command": command, "settings": plain(settings), "seed": seed}
        if shard.is_share:
            wanted["shard"] = str(shard)
        try:
            old = old_record(folder)
            # the others find what process 0 has just begun, emptied or not
            empty = overwrite and process == 0 and old is not None
            if old is not None and not empty:
                check_same(folder, old, wanted)
                if old["status"] == "shard" and is_whole(folder):
                    return cls(folder, old, done=True, process=process, shard=shard)
                if old["status"] == "complete":
                    if process == 0:
                        # a process that was killed between the last word and the last broom
                        clear_working(folder)
                    return cls(folder, old, done=True, process=process)
            if process != 0:
                if old is None:
                    raise RunError(f"expected process 0 to have made {folder} before process {process} starts")
                return cls(folder, old, resumed=bool(old.get("resumed")), process=process, shard=shard)
            if empty:
                check_inputs(folder, inputs)
            made = missing(folder)
            folder.mkdir(parents=True, exist_ok=True)
            if not empty:
                check_links(folder)
            lock = Lock.take(folder)
            if empty:
                empty_folder(folder)
                old = None
            sweep(folder)
            if old is not None and old["status"] == "shard":
                delete_damaged(folder)
        except OSError as error:
            refuse(folder, error)
        record = new_record(wanted, options, old)
        run = cls(folder, record, resumed=old is not None, page=page, shard=shard, _lock=lock, _made=made)
        if shard.is_share:
            run.ends_as = "shard"
        elif shard.number == 0 and missing_shards(record):
            run.ends_as = "partial"
        elif missing_shards(record):
            # all parts are this run's now, those of the missing shards too
            record["shards"]["missing"] = []
        run._save()
        return run

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.done or self.process != 0:
            return
        try:
            if error is None:
                try:
                    self._complete()
                except BaseException as late:
                    self._stop(late)
                    raise
            else:
                self._stop(error)
        finally:
            assert self._lock is not None
            self._lock.free()
            if self.record["status"] == "failed":
                remove_unused(self._made)

    def describe(self, *, model: Iterable[Mapping[str, Any]] = (), data: Mapping[str, Any] | None = None) -> None:
        """Record what was read: models as ``{name, sha256, layer}``, data as ``{name, count, sha256}``.

        Raises:
            RunError: the folder was begun or made with a model or data whose hash or count was another.
        """
        described = {"model": plain(list(model)), "data": plain(data)}
        for key, new in described.items():
            old = self.record.get(key)
            if old and new and old != new:
                raise RunError(
                    f"{self.folder} was begun with {key} {shorten(old)} and now got {shorten(new)}: the files behind "
                    "the same names have changed; choose another --out, or --overwrite to begin anew"
                )
        if not self.done:
            self.record.update({key: new for key, new in described.items() if new})
            if self.process == 0:
                self._save()

    def path(self, name: str) -> Path:
        """The path of ``name`` inside the folder.

        Raises:
            RunError: the name would leave the folder.
        """
        parts = Path(name).parts
        if not parts or Path(name).is_absolute() or ".." in parts:
            raise RunError(f"expected the name of a file inside the run folder, got {name!r}")
        return self.folder.joinpath(*parts)

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Write a file whole or not at all."""
        return write_whole(self.path(name), content)

    def write_text(self, name: str, content: str) -> Path:
        """Write a text as UTF-8, whole or not at all."""
        return self.write_bytes(name, content.encode("utf-8", "backslashreplace"))

    def write_json(self, name: str, content: Any) -> Path:
        """Write strict JSON (NaN becomes null), whole or not at all."""
        return write_json(self.path(name), content)

    def write_parquet(self, name: str, rows: pl.DataFrame | Sequence[Mapping[str, Any]]) -> Path:
        """Write a table, whole or not at all."""
        if not isinstance(rows, pl.DataFrame):
            # a column may be null in the first rows, and a later one decides its type
            rows = pl.DataFrame([dict(row) for row in rows], infer_schema_length=None)
        file = io.BytesIO()
        rows.write_parquet(file)
        return write_whole(self.path(name), file.getbuffer())

    def write_tensors(self, name: str, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> Path:
        """Write torch tensors or NumPy arrays as safetensors, whole or not at all.

        Args:
            name: such as ``"heatmaps/gradcam.safetensors"``.
            tensors: by key; tensors that share memory (tied weights) are stored once each.
            metadata: texts for the file's header.
        """
        # torch loads slowly and most readers of this module never write a tensor
        import torch
        from safetensors.torch import save

        # copies, since safetensors takes neither shared memory nor torch read-only arrays
        given = {key: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) else v for key, v in tensors.items()}
        owned = {key: torch.as_tensor(value).detach().cpu().contiguous().clone() for key, value in given.items()}
        return self.write_bytes(name, save(owned, dict(metadata) if metadata else None))

    def write_maps(self, name: str, images: Sequence[str], maps: Iterable[Any]) -> Path:
        """Write maps of one shape by image as safetensors, whole or not at all, with one of them in memory at a time.

        Raises:
            RunError: it cannot be written.
        """
        from heatproof.tensor_files import safetensors_of

        return write_whole(self.path(name), safetensors_of(images, maps))

    def append_rows(
        self, part: int | str, rows: Sequence[Mapping[str, Any]], skipped: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Keep the rows of one part of the work, for instance one batch, so that a resumed run need not redo it.

        Args:
            part: its number or name, the same in every attempt and of one process only.
            rows: one per image and condition; may be empty.
            skipped: ``{"image", "reason"}`` of the images of this part that could not be used.
        """
        name = _part_name(part)
        if skipped:  # before the rows, since the rows' file says that the part is whole
            self.write_json(f"parts/{name}.skipped.json", list(skipped))
        self.write_parquet(f"parts/{name}.parquet", rows)

    def parts(self) -> list[str]:
        """The names of the parts that are whole, sorted; numbers have six digits or more."""
        return sorted(path.stem for path in (self.folder / "parts").glob("*.parquet"))

    def has_part(self, part: int | str) -> bool:
        """Whether this part was done, now or before the run was resumed."""
        return (self.folder / "parts" / f"{_part_name(part)}.parquet").exists()

    def skipped(self) -> list[dict[str, Any]]:
        """What :meth:`append_rows` was told of skipped images, over all parts; ask before the run is complete."""
        found: list[dict[str, Any]] = []
        for path in sorted((self.folder / "parts").glob("*.skipped.json")):
            # a part without its rows was cut off, and comes again
            if path.with_name(path.name.replace(".skipped.json", ".parquet")).exists():
                found += read_skipped(path)
        return found

    def merge(self, sort: Sequence[str] = SORT, *, known: Iterable[Sequence[str]] = ()) -> pl.DataFrame:
        """Make ``images.parquet`` of all parts, in an order that does not depend on who wrote what when.

        Args:
            sort: the columns to order by, as far as they exist; equal rows keep the order of the parts.
            known: lists of images, of which every row must be; none: any image will do.

        Returns:
            The table; empty when there are no parts.

        Raises:
            RunError: a part is damaged, or holds rows of another image.
        """
        table, problems = gather_parts(self.folder)
        if problems:
            raise RunError(f"{problems[0]}; delete that file and give the same command again")
        keys = [name for name in sort if name in table.columns]
        if keys:
            try:
                table = _ordered(table, keys)
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
                raise RunError(
                    f"the files in {self.folder / 'parts'} hold no rows of a run ({str(error).splitlines()[0][:200]}); "
                    "delete them and give the same command again"
                ) from error
        if known := list(known):
            check_images(self.folder, self.record, table, known)
        self.write_parquet("images.parquet", table)
        return table

    def _complete(self) -> None:
        if self.ends_as in ("shard", "joined"):
            if self.ends_as == "shard":
                list_files(self.folder)
            self.record.update(status=self.ends_as, end=now(), error=None)
            self._save()
            return
        if self.parts() and not (self.folder / "images.parquet").exists():
            self.merge()
        record = {**self.record, "status": self.ends_as, "end": now(), "error": None}
        if self.ends_as == "partial":
            tell_missing(self.folder, record)
        if self.page is not None:
            self.page(self.folder, record)
        self.record = record
        self._save()
        if self.ends_as == "complete":
            clear_working(self.folder)

    def _stop(self, error: BaseException) -> None:
        status, text = "failed", str(error) if isinstance(error, HeatproofError) else f"{type(error).__name__}: {error}"
        if isinstance(error, KeyboardInterrupt):
            status, text = "interrupted", None
        self.record.update(status=status, end=now(), error=text)
        # the first error is the one to tell: a full disk must not hide it
        with contextlib.suppress(RunError):
            self._save()

    def _save(self) -> None:
        write_json(self.folder / "run.json", self.record)


@contextmanager
def start_together(out: Path | str, processes: "Processes", **wanted: Any) -> Generator[Run]:
    """:meth:`Run.start` for every one of several processes: process 0 first, the others when the folder is there.

    Raises:
        RunError: as :meth:`Run.start`, and in the others where process 0 could not start.
    """
    first: Run | None = None
    try:
        if processes.index == 0:
            first = Run.start(out, **wanted)
    finally:
        started = _agree(processes, first is not None)
    if not started:
        raise RunError(f"process 0 could not begin in {out}; what it said tells why")
    with first or Run.start(out, process=processes.index, **wanted) as run:
        yield run


def _agree(processes: "Processes", yes: bool) -> bool:
    """What process 0 says, in every process, once it is there to say it."""
    if processes.count == 1:
        return yes
    import torch

    said = torch.tensor([float(yes and processes.index == 0)], device=processes.device)
    return bool(processes.sum(said).item())


def _part_name(part: int | str) -> str:
    name = f"{part:06d}" if isinstance(part, int) else part
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise RunError(f"expected a part's name of letters, digits, '.', '_' and '-', got {part!r}")
    return name


def _ordered(table: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """``table.sort(keys, maintain_order=True, nulls_last=True)`` with little beside the table in memory.

    Keys are sorted as their ranks, since texts are copied to be sorted, and one column is there twice at a time.
    """
    ranks = [table[key].rank("dense").alias(str(place)) for place, key in enumerate(keys)]
    places = pl.DataFrame(ranks).with_row_index("row")
    order = places.sort(places.columns[1:], maintain_order=True, nulls_last=True)["row"]
    return pl.DataFrame([table.drop_in_place(name).gather(order) for name in table.columns])
