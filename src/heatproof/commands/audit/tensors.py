"""What an audit needs of its photos besides the table: maps, the witness's, and what later sums are taken from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from safetensors.torch import load_file
from torch import Tensor

from heatproof.commands.audit.mosaic import Mosaics, spread
from heatproof.errors import RunError
from heatproof.results.run import Run

PARTS = "kept"
"""The folder of a run with a file for each part of the photos."""
MOSAICS = "mosaics.safetensors"
REQUIRED = ("maps", "witness", "targets", "by_class", "tiles")
"""Tensors that every part has; a part that was made with a reference also has ``likeness_to_reference``."""


@dataclass(frozen=True)
class AuditTensors:
    """Tensors of some photos, in the order of the table's ``place``.

    Attributes:
        maps: of the predicted class.
        witness: the black box's own map, at most 56 cells a side.
        targets: the classes that were explained, the predicted one first.
        by_class: agreement of the map of each of these with the witness; NaN where unknown.
        tiles: photos spread over the data at half their size, in grey levels of 0..255: what mosaics are made of.
        tiled: which photos these are; ``None``: the first ones.
        likeness_to_reference: Pearson's correlation of the maps of these classes (rows) with the reference's (columns).
        mosaics: what mosaics of the tiles show, once all photos are there.
    """

    maps: Float[Tensor, "photos rows cols"]
    witness: Float[Tensor, "photos high wide"]
    targets: Int[Tensor, "photos classes"]
    by_class: Float[Tensor, "photos classes"]
    tiles: UInt8[Tensor, "tiles channels height width"]
    likeness_to_reference: Float[Tensor, "photos classes classes"] | None = None
    mosaics: Mosaics | None = None
    tiled: Int[Tensor, "tiles"] | None = None

    def with_tiles(self, places: Sequence[int]) -> "AuditTensors":
        """The same with the tiles of these photos only."""
        chosen = torch.tensor(list(places), dtype=torch.long)
        return replace(self, tiles=self.tiles[chosen], tiled=chosen)

    def tile_targets(self) -> Int[Tensor, "tiles"]:
        """What the photos of the tiles are taken for."""
        predicted = self.targets[:, 0]
        return predicted[: len(self.tiles)] if self.tiled is None else predicted[self.tiled]

    def save(self, run: Run, part: int, seen: int, count: int) -> None:
        """Write one part of the photos into the run.

        Args:
            seen: photos in earlier parts.
            count: photos in all, over which the tiles are spread.
        """
        less = self.with_tiles([place - seen for place in spread(count) if 0 <= place - seen < len(self.maps)])
        tensors = {"tiles": less.tiles, **{name: getattr(less, name) for name in REQUIRED if name != "tiles"}}
        if less.tiled is not None and count > len(spread(count)):
            tensors["tiled"] = less.tiled + seen
        if less.likeness_to_reference is not None:
            tensors["likeness_to_reference"] = less.likeness_to_reference
        run.write_tensors(f"{PARTS}/{part:06d}.safetensors", tensors)

    @classmethod
    def load(cls, folder: Path) -> "AuditTensors":
        """All parts of a run in order, and the mosaics where there are some; tensors of other names are left alone.

        Raises:
            RunError: the folder has no parts, or one lacks a tensor.
        """
        files = sorted((folder / PARTS).glob("*.safetensors"))
        if not files:
            raise RunError(f"expected the run folder of an audit, and {folder} has no {PARTS}/*.safetensors")
        parts = [load_file(file) for file in files]
        for file, part in zip(files, parts, strict=True):
            if missing := [name for name in REQUIRED if name not in part]:
                raise RunError(f"{file} has no {', '.join(missing)}; it is no part of an audit, audit the model again")
        together = {name: torch.cat([part[name] for part in parts]) for name in REQUIRED}
        compared = all("likeness_to_reference" in part for part in parts)
        likeness = torch.cat([part["likeness_to_reference"] for part in parts]) if compared else None
        seen, tiled = 0, []
        for part in parts:
            first = torch.arange(seen, seen + len(part["tiles"]))
            tiled.append(part.get("tiled", first))
            seen += len(part["maps"])
        return cls(
            **together, likeness_to_reference=likeness, mosaics=_load_mosaics(folder / MOSAICS), tiled=torch.cat(tiled)
        )

    def save_mosaics(self, run: Run) -> None:
        """Write the mosaics into the run, where there are some."""
        if self.mosaics is not None:
            run.write_tensors(MOSAICS, {f"mosaic_{name}": found for name, found in self.mosaics._asdict().items()})


def _load_mosaics(file: Path) -> Mosaics | None:
    if not file.exists():
        return None
    found = load_file(file)
    return Mosaics(*(found[f"mosaic_{name}"] for name in Mosaics._fields))
