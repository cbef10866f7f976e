"""What an audit needs of its photos besides the table: maps, the witness's, and what later sums are taken from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from heatproof.commands.audit.kept import MOSAICS, PARTS, REQUIRED, TILED, KeptMaps, read_mosaics, read_parts
from heatproof.commands.audit.mosaic import Mosaics, spread
from heatproof.results.run import Run


@dataclass(frozen=True)
class AuditTensors:
    """Tensors of some photos, in the order of the table's ``place``.

    Attributes:
        maps: of the predicted class; those of a whole run stay in its files.
        witness: the black box's own map, at most 56 cells a side; likewise.
        targets: the classes that were explained, the predicted one first.
        by_class: agreement of the map of each of these with the witness; NaN where unknown.
        tiles: photos spread over the data at half their size, in grey levels of 0..255: what mosaics are made of.
        tiled: which photos these are; ``None``: the first ones.
        likeness_to_reference: Pearson's correlation of the maps of these classes (rows) with the reference's (columns).
        mosaics: what mosaics of the tiles show, once all photos are there.
    """

    maps: Float[Tensor, "photos rows cols"] | KeptMaps
    witness: Float[Tensor, "photos high wide"] | KeptMaps
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
            tensors[TILED] = less.tiled
        if less.likeness_to_reference is not None:
            tensors["likeness_to_reference"] = less.likeness_to_reference
        run.write_tensors(f"{PARTS}/{part:06d}.safetensors", tensors)

    @classmethod
    def load(cls, folder: Path, photos: int | None = None, remedy: str = "") -> "AuditTensors":
        """All parts of a run in order, and the mosaics where there are some; tensors of other names are left alone.

        Args:
            photos: how many there must be, where that is known.
            remedy: what to do where a file is damaged; by default, to measure its photos again.

        Raises:
            RunError: the folder has no parts; one lacks a tensor, is damaged, or is not of the same photos.
        """
        together, in_files = read_parts(folder, photos, remedy)
        mosaics = read_mosaics(folder / MOSAICS, remedy or "delete it and give the same command again")
        return cls(
            **{name: together[name] for name in REQUIRED if name in together},
            maps=in_files["maps"],
            witness=in_files["witness"],
            likeness_to_reference=together.get("likeness_to_reference"),
            mosaics=Mosaics(*mosaics.values()) if mosaics else None,
            tiled=together.get("tiled"),
        )

    def save_mosaics(self, run: Run) -> None:
        """Write the mosaics into the run, where there are some."""
        if self.mosaics is not None:
            run.write_tensors(MOSAICS, {f"mosaic_{name}": found for name, found in self.mosaics._asdict().items()})
