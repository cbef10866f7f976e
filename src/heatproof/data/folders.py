"""Photos that lie in files: one, several, a folder of them, a folder of class folders."""

import os
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from heatproof.data.addresses import RemoteFile
from heatproof.data.classes import class_indices, unknown_class
from heatproof.data.listing import UNLABELLED, Listing, ids_below, of_files, of_remote_files
from heatproof.errors import InputError, Remark
from heatproof.paths import as_text

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif", ".npy"}
"""What counts as a photo in a folder; a file that is named by itself may end as it likes."""

UNREAD = {".heic": "HEIC", ".heif": "HEIF", ".jp2": "JPEG 2000", ".j2k": "JPEG 2000", ".jxl": "JPEG XL"}
"""Photos in formats that are not read: they are left out and named."""


def is_picture(name: str) -> bool:
    """Whether a file is called as photos are, read or not; names that start with a dot are hidden, not photos."""
    return not name.startswith(".") and Path(name).suffix.casefold() in SUFFIXES | UNREAD.keys()


def why_unread(name: str) -> str:
    """Why a photo of this name is not read; empty where it is."""
    kind = UNREAD.get(Path(name).suffix.casefold())
    return f"{kind} is not read; save it as JPEG or PNG" if kind else ""


def from_files(paths: Sequence[Path]) -> Listing:
    """List photos, and the photos in folders, in the order given, without labels and without repetitions.

    Ids are the paths below the folder that holds them all.

    Raises:
        InputError: None of them exists, or a folder holds no photo.
    """
    if not any(os.path.exists(path) for path in paths):
        raise InputError(f"there is no {' and no '.join(map(str, paths[:3]))}; expected photos, a folder or a manifest")
    skipped: list[dict[str, str]] = []
    given = [Path(os.path.abspath(file)) for path in paths for file in _photos_of(path, skipped)]
    files = list(dict.fromkeys(given))
    if len(files) < len(given):
        warnings.warn(
            Remark(
                f"of the {len(given)} photos given, {len(given) - len(files)} are files that were given before; each "
                f"counts once, which leaves {len(files)}"
            ),
            stacklevel=3,
        )
    return of_files(files, ids_below(files), [UNLABELLED] * len(files), skipped=skipped)


def from_folder(folder: Path, classes: Sequence[str] | None, labels: bool = True) -> Listing:
    """List a folder's photos, sorted by path.

    If photos lie in the folder itself, or ``labels`` is false, all photos below it are listed without labels.
    Otherwise each of its subfolders is a class, matched by :func:`~heatproof.data.classes.class_indices`; photos may
    lie at any depth below it, and a subfolder that is no class is left out and recorded.

    Raises:
        InputError: There is no photo, or no subfolder is one of the classes.
    """
    below, skipped = _photos_below(folder)
    return _of_folder(folder, below, [folder / file for file in below], of_files, classes, labels, skipped)


def from_remote(
    folder: RemoteFile,
    classes: Sequence[str] | None,
    labels: bool = True,
    files: Iterable[tuple[PurePosixPath, RemoteFile]] | None = None,
) -> Listing:
    """:func:`from_folder` for a folder at an address.

    Args:
        files: what lies below it, where it was listed already.

    Raises:
        InputError: as :func:`from_folder`.
        AddressError: the store does not answer.
    """
    found: dict[PurePosixPath, RemoteFile] = {}
    skipped: list[dict[str, str]] = []
    for within, file in folder.below() if files is None else files:
        if any(part.startswith(".") for part in within.parts) or not is_picture(within.name):
            continue
        if reason := why_unread(within.name):
            skipped.append({"image": as_text(within.as_posix()), "reason": reason})
        else:
            found[within] = file
    below = sorted(found)
    return _of_folder(folder, below, [found[file] for file in below], of_remote_files, classes, labels, skipped)


def _of_folder(
    folder: Path | RemoteFile,
    below: Sequence[PurePath],
    files: Sequence[Any],
    listed: Callable[..., Listing],
    classes: Sequence[str] | None,
    labels: bool,
    skipped: list[dict[str, str]],
) -> Listing:
    if not below:
        raise InputError(_no_photo(folder, skipped))
    ids = [file.as_posix() for file in below]
    if not labels or any(len(file.parts) == 1 for file in below):
        return listed(files, ids, [UNLABELLED] * len(ids), skipped=skipped)

    counts = Counter(file.parts[0] for file in below)
    found, names = class_indices(counts, classes)
    if not found:
        raise InputError(_no_class(folder, below, classes, names or []))
    chosen = [place for place, file in enumerate(below) if file.parts[0] in found]
    return listed(
        [files[place] for place in chosen],
        [ids[place] for place in chosen],
        [found[below[place].parts[0]] for place in chosen],
        classes=names,
        skipped=[
            *skipped,
            *(
                {
                    "image": f"{as_text(name)}/",
                    "reason": f"{unknown_class(name, names or [])} (photos left out: {count})",
                }
                for name, count in counts.items()
                if name not in found
            ),
        ],
    )


def _no_class(
    folder: Path | RemoteFile, below: Sequence[PurePath], classes: Sequence[str] | None, names: Sequence[str]
) -> str:
    inner: dict[str, set[str]] = {}
    for file in below:
        inner.setdefault(file.parts[0], set()).update(file.parts[1:-1][:1])
    deeper = next((name for name in inner if class_indices(sorted(inner[name]), classes)[0]), None)
    if deeper is not None:
        return f"the class folders lie deeper: give {str(folder).rstrip('/')}/{deeper} instead of {folder}"
    shown = unknown_class(next(iter(inner)), names)
    return (
        f"none of the {len(inner)} folders in {folder} is a class of the model: {shown} "
        "Name them by class, WordNet id or number, or give the folder with the photos themselves to do without labels"
    )


def _no_photo(folder: Path | RemoteFile, skipped: Sequence[dict[str, str]]) -> str:
    if skipped:
        reasons = "; ".join(f"{entry['image']}: {entry['reason']}" for entry in skipped[:3])
        return f"no photo in {folder} can be read ({len(skipped)} left out): {reasons}"
    return f"no photo in {folder}: expected files that end in {', '.join(sorted(SUFFIXES))}"


def _photos_of(path: Path, skipped: list[dict[str, str]]) -> Iterable[Path]:
    if not os.path.isdir(path):
        return [path]
    below, left_out = _photos_below(path)
    if not below:
        raise InputError(_no_photo(path, left_out))
    skipped += left_out
    return [path / file for file in below]


def _photos_below(folder: Path) -> tuple[list[Path], list[dict[str, str]]]:
    """Paths below ``folder``, sorted part by part, and what is called a photo and is none that can be read.

    Names that start with a dot are hidden, not photos. A folder is entered once, whatever links lead to it.
    """
    found: list[Path] = []
    skipped: list[tuple[Path, str]] = []
    entered: dict[str, Path] = {}

    def closed(error: OSError) -> None:
        within = Path(os.path.relpath(error.filename or folder, folder))
        skipped.append((within, f"the folder cannot be read: {error.strerror or error} (its photos are left out)"))

    for here, inner, files in os.walk(folder, followlinks=True, onerror=closed):
        inner[:] = [name for name in sorted(inner) if not name.startswith(".")]
        within = Path(here).relative_to(folder)
        real = os.path.realpath(here)
        if real in entered:
            inner.clear()
            # a link back up shows nothing new; one to elsewhere may have been meant as a class of its own
            if not within.is_relative_to(entered[real]):
                reason = f"it is the same folder as {entered[real].as_posix()}, whose photos are counted there"
                skipped.append((within, reason))
            continue
        entered[real] = within
        for name in filter(is_picture, files):
            reason = why_unread(name) or _why_no_file(Path(here) / name)
            if reason:
                skipped.append((within / name, reason))
            else:
                found.append(within / name)
    return sorted(found), [{"image": as_text(path.as_posix()), "reason": why} for path, why in sorted(skipped)]


def _why_no_file(path: Path) -> str:
    """Why this is not even a file; what is not there is told when its turn comes to be read."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "it is a device or a pipe, not a file"
