"""Which kind of data a name stands for, and the photos that it lists."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from heatproof.data import folders, manifests, shards
from heatproof.data.addresses import RemoteFile, at_address, is_address
from heatproof.data.chosen import Chosen, parted_name
from heatproof.data.classes import class_indices
from heatproof.data.encoded import Place
from heatproof.data.huggingface import PREFIX, from_dataset
from heatproof.data.listing import UNLABELLED, Listing, of_remote_files
from heatproof.errors import InputError
from heatproof.paths import literal

DEMO = "demo"
DEMO_COUNTS = {"test": 400, "train": 2000}
"""How many photos ``demo`` and ``demo/train`` hold."""


def listing_of(names: Sequence[str], classes: Sequence[str] | None, labels: bool) -> Listing:
    """The photos that the names stand for, whatever kind of data; see :func:`~heatproof.data.sources.open_data`.

    Raises:
        InputError: as there.
        AddressError: the store at an address does not answer.
    """
    if len(names) > 1:
        if any(is_address(name) for name in names):
            return _at_addresses(names, Chosen(), classes, labels)
        return _here(names, Chosen(), classes, labels)
    if names[0] in (DEMO, f"{DEMO}/train", f"{DEMO}/test"):
        return _demo(names[0].removeprefix(DEMO).strip("/") or "test", classes, labels)
    name, chosen = parted_name(names[0])
    if name.startswith(PREFIX) and not os.path.lexists(name):
        return from_dataset(name.removeprefix(PREFIX), chosen, classes, labels)
    if is_address(name):
        return _at_addresses([name], chosen, classes, labels)
    return _here([name], chosen, classes, labels)


def _here(names: Sequence[str], chosen: Chosen, classes: Sequence[str] | None, labels: bool) -> Listing:
    path = literal(names[0])
    is_shard = [_is_shard(part) for part in names]
    if all(is_shard):
        chosen.only(set(), names[0])
        return shards.from_shards([shard for part in names for shard in _expanded_here(part)], classes, labels)
    if all(map(_is_parquet, names)) and len(tables := [t for part in names for t in _expanded_here(part)]) > 1:
        return manifests.from_tables(tables, classes, labels, chosen)
    if len(names) == 1 and os.path.isdir(path):
        return _of_folder(path, sorted(path.glob("*.tar")), sorted(path.glob("*.parquet")), chosen, classes, labels)
    if len(names) == 1 and path.suffix.casefold() in manifests.SUFFIXES:
        return manifests.from_manifest(path, classes, labels, chosen)
    chosen.only(set(), names[0])
    odd = [part for part in names if Path(part).suffix.casefold() in manifests.SUFFIXES or part == DEMO]
    if odd or any(is_shard):
        raise InputError(f"several names must be photos or folders, or all be shards; got {odd[0] if odd else 'both'}")
    return folders.from_files([literal(part) for part in names])


def _expanded_here(name: str) -> list[Path]:
    return [literal(name)] if os.path.lexists(name) else [Path(text).expanduser() for text in shards.expand(name)]


def _at_addresses(names: Sequence[str], chosen: Chosen, classes: Sequence[str] | None, labels: bool) -> Listing:
    if here := [name for name in names if not is_address(name)]:
        raise InputError(f"several names must all be addresses, or none: {here[0]} is none")
    places = [at_address(text) for name in names for text in (shards.expand(name) if "{" in name else [name])]
    if all(_is_shard(place.name) for place in places):
        chosen.only(set(), names[0])
        return shards.from_shards([place.by_stretches() for place in places], classes, labels)
    tables = [place for place in places if place.suffix.casefold() in manifests.SUFFIXES]
    if len(tables) == len(places) == 1:
        return manifests.from_manifest(places[0], classes, labels, chosen)
    if len(tables) == len(places) and all(_is_parquet(place.name) for place in places):
        return manifests.from_tables(places, classes, labels, chosen)
    if tables:
        raise InputError(f"several names must be photos, or all be shards; got {tables[0]}")
    if len(places) == 1 and not folders.is_picture(places[0].name) and places[0].is_folder():
        below = sorted(places[0].below(), key=lambda entry: entry[0])
        direct = [file for within, file in below if len(within.parts) == 1]
        archives = [file for file in direct if _is_shard(file.name)]
        of_rows = [file for file in direct if _is_parquet(file.name)]
        return _of_folder(places[0], archives, of_rows, chosen, classes, labels, below)
    chosen.only(set(), names[0])
    for place in places if len(places) == 1 else ():
        place.check()
    return of_remote_files(places, [place.name for place in places], [UNLABELLED] * len(places))


def _of_folder(
    folder: Place,
    archives: Sequence[Place],
    tables: Sequence[Place],
    chosen: Chosen,
    classes: Sequence[str] | None,
    labels: bool,
    below: Sequence[tuple[PurePosixPath, RemoteFile]] = (),
) -> Listing:
    """Shards, or tables with photos where nothing is chosen of the photos in it; else the photos below it."""
    if archives:
        chosen.only(set(), str(folder))
        whole = [file.by_stretches() if isinstance(file, RemoteFile) else file for file in archives]
        return shards.from_shards(whole, classes, labels)
    photos = any(folders.is_picture(within.name) for within, _ in below)
    if isinstance(folder, Path):
        # tables may lie beside the photos
        photos = any(folders.is_picture(entry.name) or entry.is_dir() for entry in folder.iterdir())
    if tables and (chosen.said or not photos):
        return manifests.from_tables(tables, classes, labels, chosen)
    chosen.only(set(), str(folder))
    if isinstance(folder, RemoteFile):
        return folders.from_remote(folder, classes, labels, below)
    return folders.from_folder(folder, classes, labels)


def _is_shard(name: str) -> bool:
    return name.casefold().endswith((".tar", ".tar.gz", ".tgz"))


def _is_parquet(name: str) -> bool:
    return Path(name).suffix.casefold() in manifests.PARQUET


def _demo(split: str, classes: Sequence[str] | None, labels: bool) -> Listing:
    from heatproof.data import demo

    scenes = demo.photos(split=split, count=DEMO_COUNTS[split])
    texts = [str(label) for _, _, label in scenes]
    # by name only: class 3 of ImageNet is a shark, not the digit 3
    if labels and classes is not None and not set(texts) <= set(classes):
        raise InputError(f"the demo shows {', '.join(sorted(set(texts)))}, which are no classes of this model")
    found, names = class_indices(texts, classes)
    images = [image for _, image, _ in scenes]
    return Listing(
        [name for name, _, _ in scenes],
        [found[text] if labels else -1 for text in texts],
        fetch=images.__getitem__,
        stamp=lambda place: images[place].numpy().tobytes(),
        classes=names,
    )
