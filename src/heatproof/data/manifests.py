"""Photos that a table lists: by path in CSV or Parquet, or with their bytes in Parquet."""

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from heatproof.data.addresses import RemoteFile
from heatproof.data.chosen import Chosen
from heatproof.data.encoded import Place, block_reader, photos_of, scan_parquet, table_stamp, tried
from heatproof.data.labels import LabelColumn, class_numbers
from heatproof.data.listing import Listing, ids_below, of_files, of_remote_files, unique
from heatproof.errors import InputError, did_you_mean
from heatproof.paths import read_file

PARQUET = {".parquet", ".pq"}
SUFFIXES = {".csv", ".tsv", *PARQUET}
CHOICES = {"image", "path", "label", "id"}
"""What may be chosen with ``#``: the names of these columns."""


@dataclass(frozen=True)
class _Table:
    """A table of photos, of which the photos are not read yet.

    Attributes:
        place: where it lies.
        frame: all of its columns.
        image: its column of encoded photos; ``None`` where it names files.
        rows: how many.
        ids: as they stand, a gap empty.
        paths: as they stand, a gap empty.
        labels: as they stand.
    """

    place: Place
    frame: pl.LazyFrame
    image: str | None
    rows: int
    ids: list[str]
    paths: list[str]
    labels: LabelColumn


def from_manifest(
    path: Place, classes: Sequence[str] | None, labels: bool = True, chosen: Chosen = Chosen()
) -> Listing:
    """List the rows of a table, in its order.

    A row names a photo by its ``path`` (relative to the table's folder) or, in Parquet, holds the encoded photo in
    ``image`` (bytes, or a struct with ``bytes`` and ``path``) and, if it likes, its ``id``. ``label`` is a class's
    number, its name or a WordNet id; empty or -1 where it is not known. Text is matched by
    :func:`~heatproof.data.classes.class_indices` (so a class that is *named* ``7`` is found by ``7``), numbers of
    Parquet are numbers, unless the file says which names they stand for, as those of HuggingFace do. Further columns
    are ignored.

    Args:
        path: where the table lies; photos of a table at an address lie there too.
        classes: the model's class names.
        labels: whether they are wanted.
        chosen: columns of other names.

    Raises:
        InputError: The table cannot be read, lacks a column, holds a label that is no class, or names only photos that
            are not there.
        AddressError: the store does not answer.
    """
    table = _opened(path, chosen, labels)
    if table.image is not None:
        return _with_bytes([table], classes)
    numbers, names = class_numbers([table.labels], classes)
    for row, text in enumerate(table.paths, start=1):
        if not text:
            raise InputError(f"{path.name} has no path in row {row}")
    if isinstance(path, RemoteFile):
        files = [path.sibling(text) for text in table.paths]
        return of_remote_files(files, [Path(text).as_posix() for text in table.paths], numbers, classes=names)
    found = [Path(os.path.abspath(path.parent / text)) for text in table.paths]
    if not any(os.path.exists(file) for file in found):
        raise InputError(
            f"none of the {len(found)} photos of {path.name} is there, not even {found[0]}; paths are relative to "
            "the table's own folder"
        )
    within = not any(os.path.isabs(text) for text in table.paths)
    ids = [Path(text).as_posix() for text in table.paths] if within else ids_below(found)
    return of_files(found, ids, numbers, classes=names)


def from_tables(
    places: Sequence[Place], classes: Sequence[str] | None, labels: bool = True, chosen: Chosen = Chosen()
) -> Listing:
    """List the encoded photos of several Parquet files, one file after the other; ids begin with the file's name.

    Raises:
        InputError: as :func:`from_manifest`; or a file that names photos instead of holding them.
    """
    tables = [_opened(place, chosen, labels) for place in places]
    if odd := next((table for table in tables if table.image is None), None):
        raise InputError(f"{odd.place} holds no photos but names files: give it by itself")
    return _with_bytes(tables, classes)


def _opened(place: Place, chosen: Chosen, labels: bool) -> _Table:
    chosen.only(CHOICES, place.name)
    frame, named = _scan(place)
    columns: list[str] = tried(place, frame.collect_schema).names()
    image, path = chosen.image or "image", chosen.path or "path"
    photos = path if chosen.path or (image not in columns and not chosen.image) else image
    label, name = chosen.label or "label", chosen.id or "id"
    wanted = [photos, *([label] if labels else []), *([name] if chosen.id else [])]
    if missing := [column for column in wanted if column not in columns]:
        raise InputError(_lacking(place, missing, columns, chosen))
    light = [column for column in (name, label, *([path] if photos == path else [])) if column in columns]
    table: pl.DataFrame = tried(place, frame.select(light or pl.len()).collect)
    rows = table.height if light else int(table.item())
    if not rows:
        raise InputError(f"{place.name} has no rows: expected one per photo")

    def texts(column: str) -> list[str]:
        return tried(place, lambda: table[column].cast(pl.String).fill_null("").to_list())

    return _Table(
        place,
        frame,
        image if photos == image else None,
        rows,
        texts(name) if name in columns else [""] * rows,
        texts(path) if photos == path else [],
        LabelColumn(place.name, table[label].to_list(), named.get(label))
        if labels
        else LabelColumn(place.name, [None] * rows),
    )


def _lacking(place: Place, missing: Sequence[str], columns: Sequence[str], chosen: Chosen) -> str:
    told = f"{place.name} lacks {' and '.join(missing)}: "
    if chosen.said:
        near, own = did_you_mean(missing[0], columns), f"columns are {', '.join(columns) or 'none'}"
        return f"{told}{near} Its {own}" if near.endswith("?") else f"{told}its {own}"
    if "path" in missing and place.suffix.casefold() == ".parquet":
        rest = "".join(f" and {name}" for name in missing if name != "path")
        told = f"{place.name} lacks an image column{rest}: "
        return (
            f"{told}expected the columns image (bytes; or path, of files beside it) and label (empty where unknown), "
            f"got {', '.join(columns) or 'none'}; columns of other names are chosen with "
            f"{place.name}#image=img,label=class"
        )
    return (
        f"{told}expected the columns path (or image, with bytes) and label (empty where unknown), got "
        f"{', '.join(columns) or 'none'}; columns of other names are chosen with {place.name}#image=img,label=class"
    )


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Columns of a table as text, a gap as an empty one.

    Raises:
        InputError: the table cannot be read, lacks a column or has no rows.
    """
    frame, _ = _scan(path)
    found = tried(path, frame.collect_schema).names()
    if missing := [name for name in names if name not in found]:
        raise InputError(
            f"{path.name} lacks {' and '.join(missing)}: expected the columns {', '.join(names)}, got "
            f"{', '.join(found) or 'none'}"
        )
    table = tried(path, frame.select(pl.col(names).cast(pl.String).fill_null("")).collect)
    if not table.height:
        raise InputError(f"{path.name} has no rows")
    return {name: table[name].to_list() for name in names}


def _scan(place: Place) -> tuple[pl.LazyFrame, dict[str, list[str]]]:
    if place.suffix.casefold() in PARQUET:
        return scan_parquet(place)
    separator = "\t" if place.suffix.casefold() == ".tsv" else ","
    content = tried(place, lambda: place.read() if isinstance(place, RemoteFile) else read_file(place))
    # text throughout: a class may be named 007
    table = tried(place, lambda: pl.read_csv(content, separator=separator, infer_schema=False))
    return tried(place, lambda: _without_blank_end(table.rename(str.strip))).lazy(), {}


def _without_blank_end(table: pl.DataFrame) -> pl.DataFrame:
    """A text's last lines may be blank, or commas alone as spreadsheets leave them; these are no rows."""
    blank = pl.all_horizontal(pl.all().is_null() | (pl.all().str.strip_chars() == ""))
    filled = table.select(~blank).to_series() if table.width else pl.Series([], dtype=pl.Boolean)
    return table.head((filled.arg_true()[-1] + 1) if filled.any() else 0)


def _with_bytes(tables: Sequence[_Table], classes: Sequence[str] | None) -> Listing:
    numbers, names = class_numbers([table.labels for table in tables], classes)
    ids: list[str] = []
    readers, stamps, starts = [], [], []
    for table in tables:
        digits = len(str(table.rows))
        before = f"{table.place.stem}/" if len(tables) > 1 else ""
        starts.append(len(ids))
        ids += [f"{before}{text or f'row-{row:0{digits}}'}" for row, text in enumerate(table.ids, start=1)]
        assert table.image is not None
        readers.append(block_reader(table.place, photos_of(table.place, table.frame, table.image), table.rows))
        stamps.append(table_stamp(table.place))

    def of_row(row: int) -> int:
        return bisect_right(starts, row) - 1

    def fetch(row: int) -> bytes:
        number = of_row(row)
        return readers[number](row - starts[number])

    return Listing(unique(ids), numbers, fetch, lambda row: stamps[of_row(row)], names)
