"""Photos that a table lists: by path in CSV or Parquet, or with their bytes in Parquet."""

import hashlib
import io
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import polars as pl

from heatproof.data.classes import class_indices, unknown_class
from heatproof.data.listing import SAMPLE, UNLABELLED, Listing, ids_below, of_files, unique
from heatproof.errors import InputError
from heatproof.paths import open_regular, read_file

SUFFIXES = {".csv", ".tsv", ".parquet", ".pq"}

WHOLE = 1 << 30  # a Parquet file of up to 1 GiB is held in memory once its photos are asked for
ROWS, BLOCKS = 2048, 4  # of a larger one, blocks of so many rows, and so many blocks
WINDOWS = 256  # places of a Parquet file that its stamp covers, 4 KiB each


def from_manifest(path: Path, classes: Sequence[str] | None, labels: bool = True) -> Listing:
    """List the rows of a table, in its order.

    A row names a photo by its ``path`` (relative to the table's folder) or, in Parquet, holds the encoded photo in
    ``image`` (bytes, or a struct with ``bytes`` and ``path``) and, if it likes, its ``id``. ``label`` is a class's
    number, its name or a WordNet id; empty or -1 where it is not known. Text is matched by
    :func:`~heatproof.data.classes.class_indices` (so a class that is *named* ``7`` is found by ``7``), numbers of
    Parquet are numbers. Further columns are ignored.

    Raises:
        InputError: The table cannot be read, lacks a column, holds a label that is no class, or names only photos that
            are not there.
    """
    frame = _scan(path)
    columns = _read(path, frame.collect_schema).names()
    photos = "image" if "image" in columns else "path"
    wanted = [photos, "label"] if labels else [photos]
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise InputError(
            f"{path.name} lacks {' and '.join(missing)}: expected the columns path (or image, with bytes) and label "
            f"(empty where unknown), got {', '.join(columns) or 'none'}"
        )
    light = [name for name in ("id", "path", "label") if name in columns]
    table = _read(path, frame.select(light or pl.len()).collect)
    if not table.height:
        raise InputError(f"{path.name} has no rows: expected one per photo")
    texts: list[Any] = table["label"].to_list() if labels else [None] * table.height
    numbers, names = _labels(path, texts, classes)
    if photos == "image":
        return _with_bytes(path, frame, table, numbers, names)

    paths = _read(path, lambda: table["path"].cast(pl.String).to_list())
    for row, text in enumerate(paths, start=1):
        if not text:
            raise InputError(f"{path.name} has no path in row {row}")
    files = [Path(os.path.abspath(path.parent / text)) for text in paths]
    if not any(os.path.exists(file) for file in files):
        raise InputError(
            f"none of the {len(files)} photos of {path.name} is there, not even {files[0]}; paths are relative to "
            "the table's own folder"
        )
    within = not any(os.path.isabs(text) for text in paths)
    ids = [Path(text).as_posix() for text in paths] if within else ids_below(files)
    return of_files(files, ids, numbers, classes=names)


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Columns of a table as text, a gap as an empty one.

    Raises:
        InputError: the table cannot be read, lacks a column or has no rows.
    """
    frame = _scan(path)
    found = _read(path, frame.collect_schema).names()
    if missing := [name for name in names if name not in found]:
        raise InputError(
            f"{path.name} lacks {' and '.join(missing)}: expected the columns {', '.join(names)}, got "
            f"{', '.join(found) or 'none'}"
        )
    table = _read(path, frame.select(pl.col(names).cast(pl.String).fill_null("")).collect)
    if not table.height:
        raise InputError(f"{path.name} has no rows")
    return {name: table[name].to_list() for name in names}


def _scan(path: Path) -> pl.LazyFrame:
    # polars takes brackets, stars and a tilde in a path for patterns, and must not
    if path.suffix.casefold() in (".parquet", ".pq"):
        # polars would wait for a pipe for ever, where no signal reaches it
        _read(path, lambda: open_regular(path).close())
        return _read(path, lambda: pl.scan_parquet(_literal(path), glob=False))
    separator = "\t" if path.suffix.casefold() == ".tsv" else ","
    # text throughout: a class may be named 007
    table = _read(path, lambda: pl.read_csv(read_file(path), separator=separator, infer_schema=False))
    return _read(path, lambda: _without_blank_end(table.rename(str.strip))).lazy()


def _without_blank_end(table: pl.DataFrame) -> pl.DataFrame:
    """A text's last lines may be blank, or commas alone as spreadsheets leave them; these are no rows."""
    blank = pl.all_horizontal(pl.all().is_null() | (pl.all().str.strip_chars() == ""))
    filled = table.select(~blank).to_series() if table.width else pl.Series([], dtype=pl.Boolean)
    return table.head((filled.arg_true()[-1] + 1) if filled.any() else 0)


def _literal(path: Path) -> str | io.BytesIO:
    """What polars reads a file by: a name that is no text has to come as bytes."""
    name = os.path.abspath(path)
    return name if os.fsencode(name).decode(errors="ignore") == name else io.BytesIO(read_file(path))


def _read(path: Path, step: Callable[[], Any]) -> Any:
    try:
        return step()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path} cannot be read as a table: {reason}") from error


def _labels(path: Path, values: list[Any], classes: Sequence[str] | None) -> tuple[list[int], Sequence[str] | None]:
    texts = [value.strip() for value in values if isinstance(value, str)]
    found, names = class_indices((text for text in texts if text not in ("", "-1")), classes)
    if classes is None and not found:
        names = None
    numbers = []
    for row, value in enumerate(values, start=1):
        text = value.strip() if isinstance(value, str) else value
        if isinstance(text, float) and (text != text or text.is_integer()):  # what a gap makes of a column of numbers
            text = None if text != text else int(text)
        if text is None or text in ("", "-1", -1):
            numbers.append(UNLABELLED)
        elif isinstance(text, str) and text in found:
            numbers.append(found[text])
        elif isinstance(text, int) and 0 <= text < (len(names) if names else text + 1):
            numbers.append(int(text))
        elif isinstance(text, str) and names and not text.lstrip("-").isdecimal():
            raise InputError(f"row {row} of {path.name}: {unknown_class(text, names)}")
        else:
            expected = f"a number from 0 to {len(names) - 1}, a class name or a WordNet id" if names else "a number"
            raise InputError(f"row {row} of {path.name} has the label {text!r}: expected {expected}")
    return numbers, names


def _with_bytes(
    path: Path, frame: pl.LazyFrame, table: pl.DataFrame, numbers: list[int], names: Sequence[str] | None
) -> Listing:
    kind = frame.collect_schema()["image"]
    inner = pl.col("image")
    if isinstance(kind, pl.Struct) and "bytes" in {entry.name for entry in kind.fields}:
        inner = inner.struct.field("bytes")
    elif kind != pl.Binary:
        raise InputError(f"the column image of {path.name} holds {kind}: expected encoded photos (bytes)")
    if "id" in table.columns:
        ids = _read(path, lambda: table["id"].cast(pl.String).fill_null("").to_list())
    else:
        ids = [""] * len(numbers)
    digits = len(str(len(numbers)))
    ids = unique(text or f"row-{row:0{digits}}" for row, text in enumerate(ids, start=1))
    images = frame.select(inner.alias("image"))
    stamp = _stamp(path)
    return Listing(ids, numbers, _block_reader(path, images, len(numbers)), lambda _: stamp, names)


def _block_reader(path: Path, images: pl.LazyFrame, count: int) -> Callable[[int], bytes]:
    """Read photos by row, keeping the blocks that were used last; safe in threads."""
    rows = count if path.stat().st_size <= WHOLE else ROWS
    blocks: OrderedDict[int, pl.Series] = OrderedDict()
    lock = Lock()

    def fetch(row: int) -> bytes:
        number = row // rows
        with lock:
            if number not in blocks:
                blocks[number] = _read(path, images.slice(number * rows, rows).collect)["image"]
            blocks.move_to_end(number)
            while len(blocks) > BLOCKS:
                blocks.popitem(last=False)
            content = blocks[number][row % rows]
        if content is None:
            raise InputError("cannot be read: the table holds no bytes for it")
        return content

    return fetch


def _stamp(path: Path) -> bytes:
    size = path.stat().st_size
    covered = hashlib.sha256(size.to_bytes(8, "big"))
    with path.open("rb") as file:
        for window in range(WINDOWS):
            file.seek(window * max(0, size - SAMPLE) // (WINDOWS - 1))
            covered.update(file.read(SAMPLE))
    return covered.digest()
