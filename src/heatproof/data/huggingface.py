"""Data sets of HuggingFace by name, ``hf:cifar10#split=test``: from the hub, its cache, or a folder.

They are read by the package ``datasets`` (from version 4 on, which runs no code that lies in a data set) as a table in
files, of which the labels alone come into memory.
"""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from heatproof.data.chosen import Chosen
from heatproof.data.labels import LabelColumn, class_numbers
from heatproof.data.listing import SAMPLE, Listing, unique
from heatproof.errors import InputError, did_you_mean
from heatproof.paths import as_text, read_file

T = TypeVar("T")

PREFIX = "hf:"
CHOICES = {"image", "label", "id", "split", "config"}
"""What may be chosen with ``#``."""
OLDEST = 4
"""The first version of ``datasets`` that runs no code of a data set."""
WINDOWS = 64  # photos that the stamp of a data set covers


class _Opened(NamedTuple):
    """A split as ``datasets`` hands it out, and the names of its columns that are wanted."""

    table: Any
    image: str
    label: str | None
    id: str | None


def from_dataset(name: str, chosen: Chosen, classes: Sequence[str] | None, labels: bool = True) -> Listing:
    """List the photos of a split of a data set, in its order; ids are ``row-00001`` and so on, or a column.

    The column of photos is the only one of the kind ``Image``, or the one that is chosen; that of labels is ``label``,
    the only one of the kind ``ClassLabel``, or the one that is chosen. Names of classes are matched to the model's as
    those of a table are.

    Args:
        name: on the hub, or a folder: a repository of the hub, what ``save_to_disk`` wrote, or class folders.

    Raises:
        InputError: the package is not there or too old, the data set is not, several splits or columns are to choose
            from and none was chosen, a column is not there or of the wrong kind, or a label is no class.
    """
    chosen.only(CHOICES, f"{PREFIX}{name}")
    data = _split(name, chosen)
    found = _columns(name, data, chosen, labels)
    images = data.select_columns([found.image])
    if type(data.features[found.image]).__name__ == "Image":
        images = images.cast_column(found.image, _module().Image(decode=False))
    own = getattr(data.features[found.label], "names", None) if found.label else None
    values = data[found.label][:] if found.label else [None] * len(data)
    numbers, names = class_numbers([LabelColumn(f"{PREFIX}{name}", values, own)], classes)
    digits = len(str(len(data)))
    texts = ["" if text is None else str(text) for text in data[found.id][:]] if found.id else [""] * len(data)
    ids = unique(as_text(text or f"row-{row:0{digits}}") for row, text in enumerate(texts, start=1))
    stamp = _stamp(images, found.image)
    return Listing(ids, numbers, lambda row: _bytes(images[row][found.image]), lambda _: stamp, names)


def _module() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise InputError("data sets of HuggingFace are read by a package: pip install heatproof[hf]") from error
    if int(datasets.__version__.split(".")[0]) < OLDEST:
        raise InputError(
            f"datasets {datasets.__version__} may run code that lies in a data set: expected version {OLDEST} or "
            "newer, pip install --upgrade datasets"
        )
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    return datasets


def _split(name: str, chosen: Chosen) -> Any:
    """One split of the data set, as a table in files."""
    datasets, folder = _module(), Path(name).expanduser()
    if not name or (not folder.is_dir() and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)):
        raise InputError(f"there is no data set {name!r}: expected its name on the hub, OWNER/NAME, or a folder")
    if folder.is_dir():
        name = str(folder.absolute())
    if any((folder / file).is_file() for file in ("dataset_dict.json", "dataset_info.json")):
        if chosen.config is not None:
            raise InputError(f"{name} was saved by itself and has no configurations to choose from")
        saved = _asked(name, lambda: datasets.load_from_disk(name))
        if not isinstance(saved, Mapping):
            if chosen.split is not None:
                raise InputError(f"{name} was saved as a single split, and {chosen.split!r} cannot be chosen")
            return saved
        return saved[_one_split(name, list(saved), chosen.split)]
    configs = _asked(name, lambda: datasets.get_dataset_config_names(name))
    if chosen.config is None and len(configs) > 1 and "default" not in configs:
        raise InputError(f"{PREFIX}{name} has several configurations, choose one with #config=...: {_few(configs)}")
    if chosen.config is not None and chosen.config not in configs:
        raise InputError(
            f"{PREFIX}{name} has no configuration {chosen.config!r}: {did_you_mean(chosen.config, configs)}"
        )
    splits = _asked(name, lambda: datasets.get_dataset_split_names(name, chosen.config))
    # a part of a split is written split[:100], several split+split
    asked = (
        chosen.split if chosen.split and re.search(r"[\[+]", chosen.split) else _one_split(name, splits, chosen.split)
    )
    return _asked(name, lambda: datasets.load_dataset(name, chosen.config, split=asked))


def _one_split(name: str, splits: Sequence[str], asked: str | None) -> str:
    if asked is None and len(splits) == 1:
        return splits[0]
    if asked is None:
        raise InputError(f"{PREFIX}{name} has several splits, choose one with #split=...: {_few(splits)}")
    if asked not in splits:
        raise InputError(f"{PREFIX}{name} has no split {asked!r}: {did_you_mean(asked, splits)}")
    return asked


def _columns(name: str, data: Any, chosen: Chosen, labels: bool) -> _Opened:
    features: Mapping[str, Any] = data.features
    kinds = {column: type(feature).__name__ for column, feature in features.items()}
    for column in (chosen.image, chosen.label if labels else None, chosen.id):
        if column is not None and column not in features:
            raise InputError(f"{PREFIX}{name} has no column {column!r}: {did_you_mean(column, features)}")
    image = chosen.image or _only(name, "image", "Image", kinds)
    if image is None:
        raise InputError(f"{PREFIX}{name} has no column of photos; {_few(features)} are its columns")
    if kinds[image] != "Image" and getattr(features[image], "dtype", "") not in ("binary", "large_binary"):
        raise InputError(f"the column {image} of {PREFIX}{name} holds {features[image]}: expected encoded photos")
    label = (chosen.label or _only(name, "label", "ClassLabel", kinds)) if labels else None
    if labels and label is None:
        raise InputError(
            f"{PREFIX}{name} has no column of labels; choose one of {_few(features)} with #label=..., or explain "
            "photos, which needs none"
        )
    if not len(data):
        raise InputError(f"{PREFIX}{name} has no rows: expected one per photo")
    return _Opened(data, image, label, chosen.id)


def _only(name: str, column: str, kind: str, kinds: Mapping[str, str]) -> str | None:
    """The column of that name or, if there is none, the only one of the kind."""
    found = [own for own, known in kinds.items() if known == kind]
    if column in kinds or not found:
        return column if column in kinds else None
    if len(found) > 1:
        raise InputError(
            f"{PREFIX}{name} has several columns for {column}, choose one with #{column}=...: {_few(found)}"
        )
    return found[0]


def _bytes(found: Any) -> bytes:
    """The file's bytes from what ``Image(decode=False)`` hands out: bytes, or the path of a file."""
    if isinstance(found, bytes):
        return found
    if isinstance(found, Mapping):
        if found.get("bytes"):
            return found["bytes"]
        if found.get("path"):
            try:
                return read_file(Path(found["path"]))
            except (OSError, ValueError) as error:
                raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    raise InputError("cannot be read: the data set holds no bytes for it")


def _stamp(images: Any, column: str) -> bytes:
    """A few bytes that change with the photos: how many there are, and the middle of some, spread evenly."""
    count = len(images)
    covered = hashlib.sha256(str(count).encode())
    for window in range(min(WINDOWS, count)):
        try:
            content = _bytes(images[window * count // min(WINDOWS, count)][column])
        except InputError as error:
            content = str(error).encode()
        middle = max(0, len(content) - SAMPLE) // 2
        covered.update(len(content).to_bytes(8, "big") + content[middle : middle + SAMPLE])
    return covered.digest()


def _asked(name: str, step: Callable[[], T]) -> T:
    """What ``datasets`` says of a data set, or why not, in a sentence."""
    try:
        return step()
    # it raises kinds of many libraries
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")[:300] or type(error).__name__
        where = "" if os.path.isdir(name) else f"; there is no folder {name}, and the hub was asked"
        raise InputError(f"{PREFIX}{name} cannot be opened: {reason}{where}") from error


def _few(names: Any) -> str:
    shown = list(map(str, names))
    return ", ".join(shown[:8]) + (f", ... ({len(shown)} in all)" if len(shown) > 8 else "")
