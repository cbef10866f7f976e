"""What a shard's run folder holds for ``heatproof merge``: the files of its parts, listed with their sizes.

The list tells a folder that was copied whole from one that was cut off on its way.
"""

import re
from pathlib import Path
from typing import Any

from heatproof.errors import RunError
from heatproof.results.reading import missing_sentence, read_json
from heatproof.results.strict import is_number, read_object
from heatproof.results.whole import ASIDE, write_json

FILES = "shard.json"
GATHERED = ("parts", "kept", "curves", "heatmaps", "figures", "viewer")
"""The folders of what is written for each part."""
NAME = re.compile(rf"(?:{'|'.join(GATHERED)})/[^./\\\0][^/\\\0]*")
"""A file in one of them."""
REMEDY = "give the shard's command again, which lists its files anew"


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
    write_json(folder / FILES, {"files": files_of(folder)})


def read_files(folder: Path) -> dict[str, int]:
    """The files that a shard was done with, and their sizes.

    Raises:
        RunError: the list is missing or damaged, or names a file that lies elsewhere.
    """
    files = read_object(folder / FILES, REMEDY).get("files")
    if not isinstance(files, dict) or not all(
        NAME.fullmatch(name) and is_number(size) and size >= 0 for name, size in files.items()
    ):
        raise RunError(f"{folder / FILES} is damaged: it is no list of the files of a shard; {REMEDY}")
    return files


def is_whole(folder: Path) -> bool:
    """Whether a shard that is done still has all of its files."""
    try:
        there = files_of(folder)
        return all(there.get(name) == size for name, size in read_files(folder).items())
    except (RunError, OSError):
        return False


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
