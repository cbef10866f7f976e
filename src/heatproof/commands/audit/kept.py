"""The tensors that an audit keeps of its photos, read back as they must be."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import RunError
from heatproof.results.strict import KEPT_ANEW, check_columns, read_tensors, tensors_of_parts
from heatproof.tensor_files import is_finite

TEXTS = ("image", "model", "explainer")
COLUMNS = {"image": pl.String, "place": pl.Int64, "empty": pl.Boolean, "target": pl.Int64}
"""Columns of the table without which there is no verdict."""
NUMERIC = ("trust", "correct", "agreement", "aopc", "aopc_random", "aopc_witness")
PARTS = "kept"
"""The folder of a run with a file for each part of the photos."""
MOSAICS = "mosaics.safetensors"
REQUIRED = {"maps": 3, "witness": 3, "targets": 2, "by_class": 2, "tiles": 4}
"""Tensors that every part has, and their dimensions; all but the tiles have a row per photo. A part that was made with
a reference also has ``likeness_to_reference``."""


TILED = "tiled_in_part"
"""Which photos of a part its tiles are, where not all photos have one."""


def check_table(path: Path, table: pl.DataFrame, remedy: str) -> None:
    """Stop a table that is none of an audit: all columns but the texts hold numbers.

    Raises:
        RunError: naming the column.
    """
    check_columns(path, table, COLUMNS, remedy)
    check_columns(path, table, dict.fromkeys(TEXTS, pl.String), remedy)
    numbers = [name for name in (*table.columns, *NUMERIC) if name not in TEXTS]
    check_columns(path, table, dict.fromkeys(numbers), remedy)
    unknown = sum(table.select(list(COLUMNS)).null_count().row(0))
    if unknown or table["place"].sort().to_list() != list(range(table.height)):
        raise RunError(f"{path} does not hold each photo of an audit once; {remedy}")


def placed(table: pl.DataFrame) -> pl.DataFrame:
    """A table of parts with its photos numbered from 0 on in their order, so that ``place`` is the row of the tensors.

    Where photos are numbered twice, or not at all, it stays as it is, and :func:`check_table` refuses it.
    """
    if table.schema.get("place") != pl.Int64 or table["place"].null_count() or not table["place"].is_unique().all():
        return table
    return table.with_columns(pl.col("place").rank("ordinal").cast(pl.Int64) - 1)


@dataclass(frozen=True)
class KeptMaps:
    """Maps of all photos of an audit, read from the parts of its run when they are asked for.

    Attributes:
        name: of the tensor in each part.
        paths: the parts, in the order of the photos.
        counts: the photos of each part.
        remedy: what to do where a part has been damaged since.
    """

    name: str
    paths: tuple[Path, ...]
    counts: tuple[int, ...]
    remedy: str = KEPT_ANEW

    def __len__(self) -> int:
        return sum(self.counts)

    def __getitem__(self, place: int) -> Float[Tensor, "rows cols"]:
        for part, count in enumerate(self.counts):
            if 0 <= place < count:
                return self._read(part)[place].clone()
            place -= count
        raise IndexError(f"{len(self)} maps are kept")

    def __iter__(self) -> Iterator[Float[Tensor, "rows cols"]]:
        for part in self.parts():
            yield from part

    def parts(self) -> Iterator[Float[Tensor, "photos rows cols"]]:
        """The maps of one part after the other."""
        return map(self._read, range(len(self.paths)))

    def _read(self, part: int) -> Tensor:
        path = self.paths[part]
        found = read_tensors(path, self.remedy).get(self.name)
        if found is None or found.ndim != REQUIRED[self.name] or len(found) != self.counts[part]:
            raise RunError(f"{path} was changed while it was read; {self.remedy}")
        return found


Maps = Float[Tensor, "photos rows cols"] | KeptMaps
"""Maps of some photos: at hand, or kept in files."""
Witnesses = Float[Tensor, "photos high wide"] | KeptMaps
"""The same of the witness, whose size is its own."""
IN_FILES = ("maps", "witness")
"""What takes so much memory that it stays in the parts."""


def in_parts(maps: Maps) -> Iterable[Float[Tensor, "photos rows cols"]]:
    """One part of the maps after the other; what is at hand is one part."""
    return maps.parts() if isinstance(maps, KeptMaps) else [maps]


def read_parts(
    folder: Path, photos: int | None = None, remedy: str = ""
) -> tuple[dict[str, Tensor], dict[str, KeptMaps]]:
    """What the parts of an audit kept, in the order of its photos: tensors, and the maps that stay in the files.

    Args:
        remedy: what to do where it is damaged; by default, to measure the photos again.

    Raises:
        RunError: a part is missing, damaged, or not of this table; the sentence names it where it can.
    """

    def refuse(what: str) -> NoReturn:
        raise RunError(f"{kept}: {what}; {remedy or f'delete it and {parts}, and give the same command again'}")

    kept, parts = folder / PARTS, folder / "parts"
    if not any(kept.glob("*.safetensors")):
        raise RunError(f"expected the run folder of an audit, and {folder} has no {PARTS}/*.safetensors")
    found: dict[str, list[Tensor]] = {}
    counts: dict[Path, int] = {}
    for path, part in tensors_of_parts(kept, remedy or KEPT_ANEW):
        _check_part(part, refuse)
        before, counts[path] = sum(counts.values()), len(part["maps"])
        for name, value in part.items():
            if name == TILED:
                found.setdefault("tiled", []).append(value + before)
            elif name not in IN_FILES:
                # what safetensors hands out is the whole file, mapped into memory
                found.setdefault(name, []).append(value.clone())
    together = {name: torch.cat(values) for name, values in found.items()}
    for name in REQUIRED:
        count = sum(counts.values()) if name in IN_FILES else len(together[name])
        if name != "tiles" and count != (photos := count if photos is None else photos):
            refuse(f"expected {name} of {photos} photos, got {count}")
    _check_together(together, sum(counts.values()), refuse)
    return together, {
        name: KeptMaps(name, tuple(counts), tuple(counts.values()), remedy or KEPT_ANEW) for name in IN_FILES
    }


def _check_part(part: Mapping[str, Tensor], refuse: Callable[[str], NoReturn]) -> None:
    if missing := [name for name in REQUIRED if name not in part]:
        refuse(f"it has no {', '.join(missing)}")
    for name, dimensions in REQUIRED.items():
        value = part[name]
        if value.ndim != dimensions:
            refuse(f"expected {name} of {dimensions} dimensions, got {list(value.shape)}")
        if value.is_floating_point() == (name in ("tiles", "targets")):
            refuse(f"{name} is of {value.dtype}")
    for name in IN_FILES:
        if len(part[name]) != len(part["maps"]):
            refuse(f"expected {name} of {len(part['maps'])} photos, got {len(part[name])}")
        if not is_finite(part[name]):
            refuse(f"{name} holds NaN or infinity")
    # NaN stands where a map is empty; infinity nowhere
    if any(bool(value.isinf().any()) for value in part.values()):
        refuse("a tensor holds infinity")


def _check_together(together: Mapping[str, Tensor], count: int, refuse: Callable[[str], NoReturn]) -> None:
    targets, likeness = together["targets"], together.get("likeness_to_reference")
    if together["by_class"].shape != targets.shape or not targets.numel() or int(targets.min()) < 0:
        refuse("by_class and targets are not of the same photos and classes")
    if likeness is not None and likeness.shape != (*targets.shape, targets.shape[1]):
        refuse("likeness_to_reference is not of the same photos and classes")
    tiled = together.get("tiled")
    if tiled is not None:
        numbers = tiled.ndim == 1 and not tiled.is_floating_point() and len(tiled) == len(together["tiles"])
        if not numbers or not bool(((tiled >= 0) & (tiled < count)).all()):
            refuse("tiled does not say which photos the tiles are")


def read_mosaics(path: Path, remedy: str) -> dict[str, Tensor]:
    """What the mosaics of an audit showed, in the order of its fields; nothing where none were made.

    Raises:
        RunError: the file is damaged, or its tensors are not of the same mosaics.
    """
    if not path.exists():
        return {}
    found = read_tensors(path, remedy)
    shares = found.get("mosaic_shares")
    if shares is not None and shares.ndim == 3:
        count, classes = shares.shape[:2]
        wanted = {"tiles": (count, 4), "classes": (count, classes), "shares": (count, classes, classes)}
        wanted |= {"quarters": (count,), "maps": (count, classes, *found.get("mosaic_maps", shares).shape[2:])}
        if {f"mosaic_{name}": torch.Size(shape) for name, shape in wanted.items()} == {
            name: value.shape for name, value in found.items()
        } and not any(bool(value.isinf().any()) for value in found.values()):
            numbers = [found[f"mosaic_{name}"].is_floating_point() for name in wanted]
            if numbers == [False, False, True, False, True]:
                return {name: found[f"mosaic_{name}"] for name in wanted}
    raise RunError(f"{path} holds no mosaics of an audit; {remedy}")
