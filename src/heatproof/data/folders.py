"""Photos that lie in files: one, several, a folder of them, a folder of class folders."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from heatproof.data.classes import class_indices, unknown_class
from heatproof.data.listing import UNLABELLED, Listing, ids_below, of_files
from heatproof.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif"}
"""What counts as a photo in a folder; a file that is named by itself may end as it likes."""


def from_files(paths: Sequence[Path]) -> Listing:
    """List photos, and the photos in folders, in the order given, without labels and without repetitions.

    Ids are the paths below the folder that holds them all.

    Raises:
        InputError: None of them exists, or a folder holds no photo.
    """
    if not any(path.exists() for path in paths):
        raise InputError(f"there is no {' and no '.join(map(str, paths[:3]))}; expected photos, a folder or a manifest")
    files = list(dict.fromkeys(Path(os.path.abspath(file)) for path in paths for file in _photos_of(path)))
    return of_files(files, ids_below(files), [UNLABELLED] * len(files))


def from_folder(folder: Path, classes: Sequence[str] | None, labels: bool = True) -> Listing:
    """List a folder's photos, sorted by path.

    If photos lie in the folder itself, or ``labels`` is false, all photos below it are listed without labels.
    Otherwise each of its subfolders is a class, matched by :func:`~heatproof.data.classes.class_indices`; photos may
    lie at any depth below it, and a subfolder that is no class is left out and recorded.

    Raises:
        InputError: There is no photo, or no subfolder is one of the classes.
    """
    below = _photos_below(folder)
    if not below:
        raise InputError(f"no photo in {folder}: expected files that end in {', '.join(sorted(SUFFIXES))}")
    ids = [file.as_posix() for file in below]
    files = [folder / file for file in below]
    if not labels or any(len(file.parts) == 1 for file in below):
        return of_files(files, ids, [UNLABELLED] * len(ids))

    counts: dict[str, int] = {}
    for file in below:
        counts[file.parts[0]] = counts.get(file.parts[0], 0) + 1
    found, names = class_indices(counts, classes)
    if not found:
        raise InputError(_no_class(folder, list(counts), names or []))
    chosen = [place for place, file in enumerate(below) if file.parts[0] in found]
    return of_files(
        [files[place] for place in chosen],
        [ids[place] for place in chosen],
        [found[below[place].parts[0]] for place in chosen],
        classes=names,
        skipped=[
            {"image": f"{name}/", "reason": f"{unknown_class(name, names or [])} (photos left out: {count})"}
            for name, count in counts.items()
            if name not in found
        ],
    )


def _no_class(folder: Path, folders: list[str], classes: Sequence[str]) -> str:
    shown = unknown_class(folders[0], classes)
    inner = {name: [entry.name for entry in sorted((folder / name).iterdir()) if entry.is_dir()] for name in folders}
    deeper = next((name for name in folders if class_indices(inner[name], classes)[0]), None)
    if deeper is not None:
        return f"the class folders lie deeper: give {folder / deeper} instead of {folder}"
    return (
        f"none of the {len(folders)} folders in {folder} is a class of the model: {shown} Name them by class, WordNet "
        "id or number, or give the folder with the photos themselves to do without labels"
    )


def _photos_of(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    below = _photos_below(path)
    if not below:
        raise InputError(f"no photo in {path}: expected files that end in {', '.join(sorted(SUFFIXES))}")
    return [path / file for file in below]


def _photos_below(folder: Path) -> list[Path]:
    """Paths below ``folder``, sorted part by part; names that start with a dot are hidden, not photos."""
    found, entered = [], set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in entered:  # a link back up
            folders.clear()
            continue
        entered.add(real)
        folders[:] = [name for name in sorted(folders) if not name.startswith(".")]
        within = Path(here).relative_to(folder)
        found += [
            within / name for name in files if not name.startswith(".") and Path(name).suffix.casefold() in SUFFIXES
        ]
    return sorted(found)
