"""Encoded photos inside a Parquet file, read by blocks of rows: memory does not grow with the file."""

import hashlib
import io
import json
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import polars as pl

from heatproof.data.addresses import POLARS, RemoteFile
from heatproof.data.listing import SAMPLE
from heatproof.errors import AddressError, InputError
from heatproof.paths import open_regular, read_file

Place = Path | RemoteFile
"""Where a table lies."""

WHOLE = 1 << 26  # bytes: a smaller file stays in memory once its photos are asked for, of a larger one blocks of rows
BLOCK, BLOCKS = 1 << 24, 4  # bytes of a block, and how many of them
WINDOWS = 256  # places of a Parquet file that its stamp covers, 4 KiB each
RETRIES = 3


def tried(place: Place, step: Callable[[], Any]) -> Any:
    """A step of reading a table, with what polars says in a sentence.

    Raises:
        InputError: the table is not there, or is none.
        AddressError: the store that it lies in does not answer.
    """
    try:
        return step()
    except (InputError, AddressError):
        raise
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        told = f"{place} cannot be read as a table: {reason}"
        if isinstance(place, RemoteFile) and isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise AddressError(f"{told[:400]}; the same command goes on once the store answers") from error
        raise InputError(told) from error


def scan_parquet(place: Place) -> tuple[pl.LazyFrame, dict[str, list[str]]]:
    """A Parquet file, of which only the footer is read, and the names of the classes in its columns of numbers.

    The names are those that HuggingFace ``datasets`` writes beside the schema (``ClassLabel``); most files have none.

    Raises:
        InputError, AddressError: as :func:`tried`.
    """
    named = place  # in messages, not the copy of it
    if isinstance(place, RemoteFile):
        place.check()
        place = place.by_stretches() if place.scheme in POLARS else place.copied()
    options: dict[str, Any] = {}
    source: Any
    if isinstance(place, RemoteFile):
        source, options["storage_options"] = place.address, {"max_retries": RETRIES}
    else:
        # polars would wait for a pipe for ever, where no signal reaches it
        tried(named, lambda: open_regular(place).close())
        # a name that is no text has to come as bytes
        name = os.path.abspath(place)
        source = name if os.fsencode(name).decode(errors="ignore") == name else io.BytesIO(read_file(place))
    # polars takes brackets, stars and a tilde in a path for patterns, and must not
    frame = tried(named, lambda: pl.scan_parquet(source, glob=False, **options))
    return frame, _class_names(tried(named, lambda: pl.read_parquet_metadata(source, **options)))


def _class_names(metadata: dict[str, str]) -> dict[str, list[str]]:
    try:
        features: dict[str, Any] = json.loads(metadata.get("huggingface", "{}"))["info"]["features"]
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    # whatever else stands there says nothing about classes
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def photos_of(place: Place, frame: pl.LazyFrame, column: str) -> pl.LazyFrame:
    """The bytes of the photos as a column ``image``; nothing is read.

    Raises:
        InputError: the column does not hold bytes.
    """
    kind = tried(place, frame.collect_schema)[column]
    inner = pl.col(column)
    if isinstance(kind, pl.Struct) and "bytes" in {entry.name for entry in kind.fields}:
        inner = inner.struct.field("bytes")
    elif kind != pl.Binary:
        raise InputError(f"the column {column} of {place.name} holds {kind}: expected encoded photos (bytes)")
    return frame.select(inner.alias("image"))


def block_reader(place: Place, images: pl.LazyFrame, count: int) -> Callable[[int], bytes]:
    """Read photos by row, keeping the blocks that were used last; safe in threads.

    A block has as many rows as make about :data:`BLOCK` bytes; what a file's own row groups take beyond that is read
    and forgotten.
    """
    size = place.size if isinstance(place, RemoteFile) else place.stat().st_size
    rows = count if size <= WHOLE else max(1, count * BLOCK // size)
    blocks: OrderedDict[int, pl.Series] = OrderedDict()
    lock = Lock()

    def fetch(row: int) -> bytes:
        number = row // rows
        with lock:
            if number not in blocks:
                blocks[number] = tried(place, images.slice(number * rows, rows).collect)["image"]
            blocks.move_to_end(number)
            while len(blocks) > BLOCKS:
                blocks.popitem(last=False)
            content = blocks[number][row % rows]
        if content is None:
            raise InputError("cannot be read: the table holds no bytes for it")
        return content

    return fetch


def table_stamp(place: Place) -> bytes:
    """A few bytes that change with a table's content: its size and :data:`WINDOWS` stretches of 4 KiB, spread evenly.

    Of a table at an address its size, its middle and what the store says of its content.
    """
    if isinstance(place, RemoteFile):
        return hashlib.sha256(place.stamp() + place.read(max(0, place.size - SAMPLE) // 2, SAMPLE)).digest()
    size = place.stat().st_size
    covered = hashlib.sha256(size.to_bytes(8, "big"))
    with place.open("rb") as file:
        for window in range(WINDOWS):
            file.seek(window * max(0, size - SAMPLE) // (WINDOWS - 1))
            covered.update(file.read(SAMPLE))
    return covered.digest()
