"""``report.html``: one page that opens from an e-mail, made from the files of one or several runs.

Everything stands in the page as long as it stays under five megabytes: the tables, figures as WebP, the viewer's photos
and maps, worst images first. What does not fit lies beside it: figures as the PNGs they are, views in style sheets in
``report-files/``, which a page opened from a disk may read and which run nothing. A content security policy lets run
only the page's own script, by its hash, and load nothing from a network; texts from files are escaped everywhere.

``summary.json`` may tell the page: ``answer`` (sentences), ``folded`` (how many of its last ones are details),
``rows``, ``skipped``, ``moved_above`` (the NISSIM from which a map counts as moved) and ``worst`` (``{"column",
"descending"}``).
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import heatproof
from heatproof.errors import RunError
from heatproof.report.beside import figures_beside, joint_tables, rows_not_beside, side_by_side
from heatproof.report.checks import finding, groups
from heatproof.report.overlay import CEILING, FLOOR
from heatproof.report.payload import CHUNK, read_views, script_json, table_payload, views_style
from heatproof.report.pictures import embed_figure
from heatproof.report.style import DIVERGING, SEQUENTIAL, palette, with_minus
from heatproof.report.words import (
    asked,
    class_names,
    column_help,
    details,
    labels,
    lead,
    number_table,
    title,
    told_columns,
)
from heatproof.results import RunFiles, read_run, write_whole

LIMIT = 4_900_000
"""Bytes of the page: under five megabytes, so that a mail server takes it."""
FRAME = 100_000
"""Bytes of it for style, scripts and words."""
FIGURES = 0.3
"""The share of a run's bytes for figures."""
MISSES = 3
"""So many figures are tried that do not fit any more; the others are only linked."""
ADDRESS = 100
"""Bytes of the address of a thumbnail."""
SKIPPED = 500
"""The most skipped images that are listed."""
FILES = "report-files"
PAGE = "report.html"


def write_report(
    folders: Sequence[Path | str], out: Path | str | None = None, *, record: dict[str, Any] | None = None
) -> Path:
    """Make the page of one run, or of several side by side.

    Runs that are incomplete, damaged or of another version are shown as far as they are whole, and the page says what
    is missing.

    Args:
        folders: the run folders.
        record: of a run whose ``run.json`` is written only when its page is there; takes its place.
        out: the page, or the folder that ``report.html`` is to lie in; None for the run's folder, or the one that the
            first of several lies in.

    Returns:
        The page's path.

    Raises:
        RunError: no folder was named, one does not exist or holds no run, or the page cannot be written.
    """
    if not folders:
        raise RunError("expected at least one run folder, got none; name what was given as --out")
    runs = [read_run(folder, record) for folder in folders]
    if out is None:
        out = runs[0].folder / PAGE if len(runs) == 1 else runs[0].folder.resolve().parent / PAGE
    out = Path(out)
    # a folder, as of every other verb
    if out.is_dir() or out.suffix.lower() not in (".html", ".htm"):
        out = out / PAGE
    room = _Room(out)
    shown = []
    several = {run.command for run in runs if sum(other.command == run.command for other in runs) > 1}
    for n, (run, label) in enumerate(zip(runs, labels(runs), strict=True), 1):
        # what one run leaves the next ones share
        room.left = (LIMIT - FRAME - room.used) // (len(runs) - n + 1)
        shown.append(_shown(run, label, n, room) | {"apart": run.command not in several})
    css = _file("page.css")
    js = "(() => {\n'use strict';\n" + "".join(_file(name) for name in ("table.js", "viewer.js", "page.js")) + "})();\n"
    beside = " 'self' file:" if room.beside else ""
    policy = (
        f"default-src 'none'; script-src {_hash(js)}; style-src {_hash(css)}{beside}; "
        f"img-src data:{beside}; base-uri 'none'; form-action 'none'"
    )
    look = {"unsigned": palette(SEQUENTIAL), "signed": palette(DIVERGING), "floor": FLOOR, "ceiling": CEILING}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    joint = joint_tables(runs)
    page = environment.from_string(_file("page.html.jinja")).render(
        policy=Markup(policy),
        title=title(runs),
        lead=lead(runs),
        runs=shown,
        joint=joint,
        common=figures_beside(shown) if len(runs) > 1 else [],
        css=Markup(css),
        js=Markup(js),
        look=Markup(script_json(look)),
        version=heatproof.__version__,
    )
    return write_whole(out, page.encode("utf-8", "backslashreplace"))


@dataclass
class _Room:
    """How many bytes the page still has, and what had to be put beside it."""

    out: Path
    left: int = 0
    used: int = 0
    beside: bool = False

    def take(self, size: int) -> None:
        self.left -= size
        self.used += size

    def link(self, file: Path) -> str:
        """The address of a file, relative to the page."""
        return quote(os.fsencode(os.path.relpath(file.resolve(), self.out.resolve().parent).replace(os.sep, "/")))


def _shown(run: RunFiles, label: str, n: int, room: _Room) -> dict[str, Any]:
    """What the template shows of one run."""
    problems = list(run.problems)
    said, folded = [with_minus(line) for line in run.answer], run.summary.get("folded")
    folded = folded if type(folded) is int and 0 < folded < len(said) else 0
    images = run.images
    if images is None and run.views:
        images = pl.DataFrame({"image": [view["image"] for view in read_views(run, []) if view]})
    shown: dict[str, Any] = {
        "label": label,
        "status": run.status,
        "finding": finding(run.summary),
        "checks": groups(run.summary),
        "answer": said[: len(said) - folded],
        "folded": said[len(said) - folded :],
        "side_by_side": side_by_side(run),
        "columns": [],
        "table": number_table(rows_not_beside(run), verb=run.command, told=told_columns(run)),
        "asked": asked(run),
        "details": details(run),
        "skipped": [{"image": e.get("image", "?"), "reason": e.get("reason", "?")} for e in run.skipped[:SKIPPED]],
        "skipped_count": len(run.skipped),
        "images": images is not None and images.height > 0 and images.width > 0,
        "views": False,
        "same": [],
        "left_out": 0,
        "quiet": None,
        "data": "",
    }
    listed: list[str] = []
    _check_pictures(run, shown["checks"], room)
    if images is not None and shown["images"]:
        payload, shown["same"], shown["left_out"] = table_payload(
            images, run.summary, classes=class_names(run), verb=run.command
        )
        listed = [str(column["name"]) for column in payload["columns"]]
        shown["quiet"] = payload["quiet"]
        names = next((column for column in payload["columns"] if column["name"] == "image"), None)
        room.take(len(script_json(payload).encode()))
        shown |= _figures(run, room)
        placed = _placed(run, [] if names is None else _texts(names), n, room, problems)
        shown["views"] = bool(placed["views"])
        shown["data"] = Markup(script_json(payload | placed))
    else:
        shown |= _figures(run, room)
    shown["columns"] = column_help(run, [shown["table"], shown["side_by_side"]], listed)
    shown["problems"] = problems
    shown["contents"] = [(address, text) for address, text, there in _contents(shown) if there]
    return shown


def _contents(shown: dict[str, Any]) -> list[tuple[str, str, bool]]:
    return [
        ("checks", "Checks", bool(shown["checks"])),
        ("asked", "What was asked", True),
        ("beside", "Side by side", bool(shown["side_by_side"])),
        ("numbers", "Numbers", bool(shown["table"])),
        ("figures", "Figures", bool(shown["figures"] or shown["more_figures"])),
        ("images", "Images", shown["images"]),
        ("skipped", "Skipped images", bool(shown["skipped"])),
    ]


def _figures(run: RunFiles, room: _Room) -> dict[str, Any]:
    """The figures that fit into the page, and links to the others, which are not even read.

    The one that ``summary.json`` names as ``first_figure`` stands under the answer.
    """
    inside, more = [], []
    budget = FIGURES * room.left
    misses = 0
    for path in run.figures:
        figure = embed_figure(path) if budget > 0 and misses < MISSES else None
        if figure is not None and len(figure["source"]) <= budget:
            inside.append(figure)
            budget -= len(figure["source"])
            room.take(len(figure["source"]))
        else:
            misses += figure is not None
            more.append({"name": path.stem, "source": room.link(path)})
    first = next((figure for figure in inside if figure["name"] == run.summary.get("first_figure")), None)
    return {"first": first, "figures": [figure for figure in inside if figure is not first], "more_figures": more}


def _check_pictures(run: RunFiles, groups: Sequence[dict[str, Any]], room: _Room) -> None:
    """Each check's own picture in the place of its name, as far as they fit; from the run folder and nowhere else."""
    folder = run.folder.resolve()
    for check in (check for group in groups for check in group["checks"]):
        path = (folder / (check["picture"] or "")).resolve()
        known = check["picture"] is not None and path.is_relative_to(folder) and path.suffix == ".png"
        check["picture"] = embed_figure(path) if known else None
        if check["picture"] is not None:
            size = len(check["picture"]["source"])
            if size > FIGURES * room.left:
                check["picture"] = None
            else:
                room.take(size)


def _placed(run: RunFiles, order: Sequence[str], n: int, room: _Room, problems: list[str]) -> dict[str, Any]:
    """Views for the page's script: whole ones while there is room, then names whose rest lies in files beside."""
    listed: list[dict[str, Any]] = []
    chunk: list[dict[str, Any]] = []
    embedded = damaged = chunks = 0
    # a name and a thumbnail's address are needed for each in any case
    least = len(script_json(order[: len(run.views)]).encode()) // max(1, min(len(order), len(run.views))) + ADDRESS
    spare = room.left - least * len(run.views)

    def put_beside() -> None:
        name = f"{n}-{chunks}"
        content = views_style(name, [{k: v for k, v in view.items() if k != "file"} for view in chunk])
        if (room.out.parent / FILES).is_symlink():
            raise RunError(f"{room.out.parent / FILES} is a link; delete it, or give the page another --out")
        write_whole(room.out.parent / FILES / f"{room.out.stem}-{name}.css", content.encode())

    for view in read_views(run, order):
        if view is None:
            damaged += 1
            continue
        size = len(script_json(view).encode())
        if embedded == len(listed) and size - least <= spare:
            spare -= size - least
            listed.append({key: value for key, value in view.items() if key != "file"})
            embedded += 1
            continue
        listed.append({"image": view["image"], "thumb": room.link(run.folder / "viewer" / view["file"])})
        chunk.append(view)
        if len(chunk) == CHUNK:
            put_beside()
            chunk, chunks = [], chunks + 1
    if chunk:
        put_beside()
    room.take(room.left - spare)
    if damaged:
        problems.append(f"{damaged} of {len(run.views)} files of the viewer are damaged and were left out")
    beside = len(listed) > embedded
    room.beside |= beside
    where = {"size": CHUNK, "name": f"{FILES}/{quote(os.fsencode(room.out.stem))}-{n}-"} if beside else None
    return {"views": listed, "embedded": embedded, "chunk": where}


def _texts(column: dict[str, Any]) -> list[str]:
    values = column["values"]
    texts = [values[i] for i in column["index"]] if "index" in column else values
    return [str(text) for text in texts if text is not None]


def _file(name: str) -> str:
    return resources.files("heatproof.report").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
