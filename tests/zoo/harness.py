"""What was found of each architecture, kept in a file as it is found, so that a run goes on where it stopped."""

import hashlib
import json
import time
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from pathlib import Path

import heatproof as hp
from zoo.columns import COLUMNS, MADE_BY, Cell

FOUND = Path(__file__).with_name("found.jsonl")
"""One line for each architecture and column of ``COLUMNS``."""
_LAYOUTS = ("models/axes.py", "models/axis_rules.py", "models/following.py", "models/layout.py", "models/choice.py")
_READ = {
    "cam": (*_LAYOUTS, "explainers/cam.py", "explainers/cam_family.py", "explainers/together.py"),
    "gradients": ("explainers/gradient.py", "explainers/guided.py", "explainers/together.py"),
    "lrp": ("explainers/lrp/*.py",),
    "occlusion": ("explainers/occlusion.py",),
}
"""The sources that a column depends on: what was found of other sources is found again."""


@cache
def digits(column: str) -> str:
    """Of the sources that a column depends on."""
    root = Path(hp.__file__).parent
    files = sorted(file for pattern in _READ[column] for file in root.glob(pattern))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def kept(file: Path = FOUND) -> dict[tuple[str, str], dict[str, object]]:
    """The lines of the file by architecture and column; of two lines the later."""
    lines = map(json.loads, file.read_text().splitlines()) if file.is_file() else ()
    return {(line["name"], line["column"]): line for line in lines}


def cells(line: dict[str, object]) -> dict[str, Cell]:
    """What a line says of each explainer."""
    found = line["cells"]
    assert isinstance(found, dict)
    return {key: Cell(**cell) for key, cell in found.items()}


def judged(name: str, column: str, file: Path = FOUND) -> dict[str, Cell]:
    """One architecture's cells in a column: from the file, or made and kept at once."""
    line = kept(file).get((name, column))
    if line is None or line["sources"] != digits(column):
        line = _made(name, column)
        with file.open("a") as lines:
            lines.write(json.dumps(line) + "\n")
    return cells(line)


def _made(name: str, column: str) -> dict[str, object]:
    began = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = COLUMNS[column](name)
    # what must not happen is a result of its own
    except Exception as error:
        found = {key: Cell("error", reason=f"{type(error).__name__}: {error}"[:300]) for key in MADE_BY[column]}
    seconds = round(time.process_time() - began, 1)
    texts = {key: asdict(cell) for key, cell in found.items()}
    return {"name": name, "column": column, "sources": digits(column), "seconds": seconds, "cells": texts}


def tidy(names: Iterable[str], file: Path = FOUND) -> None:
    """Leave the last line of each architecture and column, in their order."""
    found = kept(file)
    lines = [found[name, column] for name in names for column in COLUMNS if (name, column) in found]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
