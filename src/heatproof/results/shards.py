"""What a shard's run folder holds for ``heatproof merge``: the files of its parts, with their sizes and hashes.

The list tells a folder that was copied whole from one that was cut off or changed on its way.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from heatproof.errors import RunError
from heatproof.results.folder import shorten
from heatproof.results.reading import missing_sentence, read_json, read_table
from heatproof.results.strict import is_number, read_object
from heatproof.results.whole import ASIDE, write_json

FILES = "shard.json"
GATHERED = ("parts", "kept", "curves", "heatmaps", "figures", "viewer")
"""The folders of what is written for each part."""
NAME = re.compile(rf"(?:{'|'.join(GATHERED)})/[^./\\\0][^/\\\0]*")
"""A file in one of them."""
SHA256 = re.compile(r"[0-9a-f]{64}")
REMEDY = "give the shard's command again, which lists its files anew"


@dataclass(frozen=True)
class Listed:
    """The files that a shard was done with.

    Attributes:
        sizes: in bytes, by name.
        hashes: SHA-256 of the content, by name; none of a shard that an earlier version made.
    """

    sizes: dict[str, int]
    hashes: dict[str, str]

    def difference(self, folder: Path, name: str, there: dict[str, int]) -> str:
        """In what a file is not as it was, in a clause; empty where it is.

        Args:
            there: the files of the folder, with their sizes.
        """
        size = self.sizes[name]
        if there.get(name) != size:
            came = f"{there[name]:,} bytes" if name in there else "none"
            return f"of {name} {size:,} bytes are expected and {came} there"
        # a link is told of by itself, and must not be followed
        if self.hashes and not (folder / name).is_symlink() and _sha256(folder / name) != self.hashes[name]:
            return f"the content of {name} is another (its SHA-256 is not the one that was written down)"
        return ""


def files_of(folder: Path) -> dict[str, int]:
    """The files of a run's parts, as they lie there, with their sizes in bytes."""
    found: dict[str, int] = {}
    for name in GATHERED:
        within = folder / name
        # a link would bring in files that are none of the run's
        for path in sorted(within.iterdir()) if within.is_dir() and not within.is_symlink() else ():
            if not path.name.endswith(ASIDE):
                found[f"{name}/{path.name}"] = path.lstat().st_size
    return found


def list_files(folder: Path) -> None:
    """Write down the files of a shard that is done."""
    sizes = files_of(folder)
    write_json(folder / FILES, {"files": sizes, "sha256": {name: _sha256(folder / name) for name in sizes}})


def read_files(folder: Path) -> Listed:
    """The files that a shard was done with.

    Raises:
        RunError: the list is missing or damaged, or names a file that lies elsewhere.
    """
    content = read_object(folder / FILES, REMEDY)
    files, hashes = content.get("files"), content.get("sha256", {})
    if isinstance(files, dict) and isinstance(hashes, dict):
        listed = all(NAME.fullmatch(name) and is_number(size) and size >= 0 for name, size in files.items())
        hashed = all(isinstance(found, str) and SHA256.fullmatch(found) for found in hashes.values())
        if listed and hashed and ("sha256" not in content or hashes.keys() == files.keys()):
            return Listed(files, hashes)
    raise RunError(f"{folder / FILES} is damaged: it is no list of the files of a shard; {REMEDY}")


def is_whole(folder: Path) -> bool:
    """Whether a shard that is done still has all of its files, as they were."""
    try:
        return not _damaged(folder)
    except (RunError, OSError):
        return False


def delete_damaged(folder: Path) -> None:
    """Delete what a shard that was done no longer has as it was, with the rows of these parts: they are made anew.

    Where a damaged file does not tell of which part it is, all parts are.
    """
    try:
        damaged = _damaged(folder)
    except RunError:  # without the list nothing is known
        return
    numbers = {part_number(name) for name in damaged}
    for name in files_of(folder):
        rows = name.startswith("parts/") and (None in numbers or part_number(name) in numbers)
        if rows or name in damaged:
            (folder / name).unlink()


def _damaged(folder: Path) -> list[str]:
    listed, there = read_files(folder), files_of(folder)
    return [name for name in listed.sizes if listed.difference(folder, name, there)]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def part_number(name: str) -> int | None:
    """The number of the part that a file is of.

    >>> part_number("parts/000-0000017.skipped.json"), part_number("kept/000003.safetensors")
    (17, 3)
    >>> part_number("viewer/5ab.json") is None
    True
    """
    digits = re.search(r"(?:^|[-/])(\d{6,12})\.(?:parquet|skipped\.json|safetensors)$", name)
    return int(digits[1]) if digits else None


def check_images(folder: Path, record: dict[str, Any], table: pl.DataFrame, known: Sequence[Sequence[str]]) -> None:
    """Stop rows of images that are not in the data: the part that they come from is damaged.

    Args:
        record: of the run, which tells whose part it is where shards were joined.
        known: lists of the images of the data.

    Raises:
        RunError: naming the part, its shard and an image.
    """
    if "image" not in table.columns or table.schema["image"] != pl.String:
        return
    strange = {*table["image"].unique()}.difference(*known)
    if not strange:
        return
    for path in sorted((folder / "parts").glob("*.parquet")):
        part = read_table(path, [])
        found = [] if part is None or "image" not in part.columns else [one for one in part["image"] if one in strange]
        if found:
            name = f"parts/{path.name}"
            raise RunError(
                f"{name} holds rows of {shorten(found[0])}, which is no photo of the data: it is damaged; "
                f"{_made_anew(folder, record, name)}"
            )


def _made_anew(folder: Path, record: dict[str, Any], name: str) -> str:
    shards, number = record.get("shards") or {}, part_number(name)
    if number is not None and shards.get("joined"):
        shard = f"{number % shards['count'] + 1}/{shards['count']}"
        place = next((Path(one["folder"]) for one in shards["joined"] if one["shard"] == shard), None)
        if place is not None:
            return (
                f"it is of shard {shard} in {place}: delete {place / name}, give that shard's command again, and merge "
                "again"
            )
    return f"delete {folder / name} and give the same command again"


def tell_missing(folder: Path, record: dict[str, Any]) -> None:
    """Say in a run's summary which shards it lacks: first in the answer, and as ``missing``."""
    summary = read_json(folder / "summary.json")
    if not isinstance(summary, dict):
        return
    sentence = missing_sentence(record)
    sentence = f"{sentence[0].upper()}{sentence[1:]}."
    answer = [line for line in summary.get("answer", []) if line != sentence]
    write_json(
        folder / "summary.json", {**summary, "answer": [sentence, *answer], "missing": record["shards"]["missing"]}
    )
