"""What may happen to an output folder that is already there: go on, begin anew, or leave it alone."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from heatproof.errors import RunError
from heatproof.paths import literal
from heatproof.results.lock import Lock
from heatproof.results.strict import read_record
from heatproof.results.whole import ASIDE, as_written, plain
from heatproof.shard import WHOLE, Shard

WORKING = ("parts", "scratch", "checkpoint.pt")
"""What a run needs until it is complete, to be gone on with."""


def old_record(folder: Path) -> dict[str, Any] | None:
    """The record of the run in ``folder``; None where the folder is missing or empty.

    Raises:
        RunError: it is a file, holds other files and no run, or its ``run.json`` is damaged or another program's.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"the output must be a folder, and {folder} is a file; choose another --out")
    file = folder / "run.json"
    if file.exists():
        return read_record(file, "choose another --out, or delete that folder yourself")
    strange = [path.name for path in folder.iterdir() if path.name != Lock.NAME] if folder.exists() else []
    strange = sorted(name for name in strange if not name.endswith(ASIDE))
    if strange:
        raise RunError(
            f"expected a new or empty folder, or a run, and {folder} holds {len(strange)} other files "
            f"({', '.join(strange[:3])}{', ...' if len(strange) > 3 else ''}); choose another --out"
        )
    return None


def check_links(folder: Path) -> None:
    """Stop a run folder of which a part lies elsewhere: what is written there would change files of somebody else.

    Raises:
        RunError: naming the link.
    """
    root = os.path.realpath(folder)
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and os.path.commonpath([root, os.path.realpath(path)]) != root:
            raise RunError(f"{path} is a link that leads out of the run folder; delete it, or choose another --out")


def check_same(folder: Path, old: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Compare the command, the seed and the settings of a run with what is asked now.

    Raises:
        RunError: they differ; the sentence says in what.
    """
    # texts as JSON gives them back: a file name may hold bytes that are no text
    changes = differences(old, as_written(wanted))
    if changes:
        raise RunError(
            f"{folder} holds a run with other settings: {'; '.join(changes)}; choose another --out, "
            "or --overwrite to delete that run"
        )


def differences(old: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """In what two records of what was asked differ, a clause for each thing."""
    changes = [
        f"{key} was {shorten(old.get(key))} and is now {shorten(wanted.get(key))}"
        for key in ("command", "seed", "shard")
        if old.get(key) != wanted.get(key)
    ]
    before, now = old.get("settings") or {}, wanted["settings"]
    return changes + [
        f"{key} was {shorten(before.get(key))} and is now {shorten(now.get(key))}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def shorten(value: Any) -> str:
    """A setting's value as an error message shows it."""
    text = "not given" if value is None else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def check_inputs(folder: Path, inputs: Iterable[Path | str]) -> None:
    """Stop a folder from being emptied that is, holds or lies in something that the run reads.

    Args:
        inputs: paths, and names of models (``resnet50@FILE``, ``FILE.py:FACTORY``), whose files count.

    Raises:
        RunError: naming the input.
    """
    place = folder.resolve()
    for given in inputs:
        for path in _paths(str(given)):
            if path.exists() and (path == place or place in path.parents or path in place.parents):
                raise RunError(
                    f"--overwrite would empty {folder}, and {given} is read from there; choose another --out"
                )


def _paths(name: str) -> list[Path]:
    """The files and folders that an input may mean; ``demo`` means none, whatever is called so."""
    if name == "demo":
        return []
    # a folder's name may hold an @ as well, and a file of weights the name of what is chosen in it
    texts = {name} | {part for at, sign in enumerate(name) if sign == "@" for part in (name[:at], name[at + 1 :])}
    texts |= {text.removeprefix("hf:") for text in texts}
    texts |= {text.rpartition("#")[0] for text in texts}
    # of a name with braces, the folder of what it stands for
    texts |= {os.path.dirname(text.partition("{")[0]) for text in texts if "{" in text}
    texts |= {f"{text.rpartition('.py:')[0]}.py" for text in texts}
    return [literal(text).resolve() for text in sorted(texts) if text and "\0" not in text]


def clear_working(folder: Path) -> None:
    """Delete what only a run that is not complete needs."""
    for name in WORKING:
        path = folder / name
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_symlink() or path.is_file():
                path.unlink()


def empty_folder(folder: Path) -> None:
    """Delete what the run folder holds; ``run.json`` last, so that a half-emptied folder still is a run."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "run.json"):
        if path.name == Lock.NAME:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def missing(folder: Path) -> tuple[Path, ...]:
    """The folders that must be made for this one, itself first."""
    return tuple(place for place in (folder, *folder.parents) if not place.exists())


def remove_unused(made: Sequence[Path]) -> None:
    """Take away folders that a run made and used for nothing: what failed before anything was written leaves nothing.

    Args:
        made: the run's folder, and those above it that were made for it.
    """
    if not made or any(path.name != "run.json" and not path.is_dir() for path in made[0].rglob("*")):
        return
    with contextlib.suppress(OSError):
        shutil.rmtree(made[0])
        for folder in made[1:]:
            folder.rmdir()


def sweep(folder: Path) -> None:
    """Delete what a killed process left aside."""
    for path in folder.rglob(f".*{ASIDE}"):
        with contextlib.suppress(OSError):
            path.unlink()


def own_folder(
    command: str, settings: Mapping[str, Any], seed: int, within: Path = Path("runs"), shard: Shard = WHOLE
) -> Path:
    """``runs/VERB-MODEL-N``: where the same command was stopped, or else the first that is not there.

    That of a shard is called ``runs/VERB-MODEL-shard-2-of-8-N``.

    So the same command goes on from what it left, and begins anew when it was complete.
    """
    models = next((settings[key] for key in ("model", "models", "fooled", "name") if settings.get(key)), "run")
    model = str(models if isinstance(models, str) else models[0])
    stem = f"{command}-{re.sub(r'[^A-Za-z0-9.]+', '-', Path(model).name).strip('-.') or 'model'}"
    wanted = {"command": command, "settings": plain(settings), "seed": seed}
    if shard.is_share:
        stem += f"-shard-{shard.number}-of-{shard.count}"
        wanted["shard"] = str(shard)
    number = 1
    while (folder := within / f"{stem}-{number}").exists():
        with contextlib.suppress(RunError):
            old = old_record(folder)
            if old is not None and old["status"] != "complete":
                check_same(folder, old, wanted)
                return folder
        number += 1
    return folder
