"""What the figures of some photos show, kept in the run folder until it is known which of them are drawn.

While photos go by, each of the first ones is among the most interesting so far, and most are outdone later: of 10,000
photos some 140 for 20 figures. To draw them all takes longer than to explain them.
"""

import shutil
from collections.abc import Collection

from torch import Tensor

from heatproof.data.batches import Batch
from heatproof.errors import RunError
from heatproof.explainers.together import Grid
from heatproof.results.run import Run
from heatproof.results.viewer import view_key
from heatproof.tensor_files import DamagedFile, StoredTensors

FOLDER = "scratch/undrawn"
"""A file for each part that has any."""
MOST = 200
"""So many figures wait for the end at most; more would take much room, and each is drawn when it comes."""


def keep(run: Run, number: int, batch: Batch, grid: Grid, images: Collection[str]) -> None:
    """Keep what the figures of these photos of a part show: pixels, logits, classes and maps."""
    tensors: dict[str, Tensor] = {}
    for place, image in enumerate(batch.ids):
        if image in images:
            own = {"photo": (batch.images[place] * 255).round().byte(), "targets": grid.targets[place]}
            own["logits"] = grid.logits[place].float()
            own |= {f"maps-{column}": maps[place].float() for column, maps in enumerate(grid.heatmaps)}
            tensors |= {f"{view_key(image)}/{name}": value for name, value in own.items()}
    if tensors:
        run.write_tensors(f"{FOLDER}/{number:06d}.safetensors", tensors)


class Undrawn:
    """The photos of a run that wait for their figures.

    Raises:
        RunError: a file is damaged.
    """

    def __init__(self, run: Run) -> None:
        self._folder = run.path(FOLDER)
        self._files: dict[str, StoredTensors] = {}
        for path in sorted(self._folder.glob("*.safetensors")):
            try:
                stored = StoredTensors(path)
            except DamagedFile as error:
                raise RunError(f"{path} {error}; {self._remedy}") from error
            self._files |= dict.fromkeys((name.partition("/")[0] for name in stored), stored)

    def __bool__(self) -> bool:
        return bool(self._files)

    @property
    def _remedy(self) -> str:
        return f"delete the folder {self._folder.parents[1]} and give the same command again"

    def of(self, image: str) -> tuple[Tensor, Grid] | None:
        """The photo ``[channels, rows, cols]`` and a grid of it alone; ``None`` where it does not wait.

        Raises:
            RunError: its file is damaged.
        """
        key = view_key(image)
        if key not in self._files:
            return None
        stored = self._files[key]
        own = [name for name in stored if name.startswith(f"{key}/maps-")]
        try:
            maps = [stored[f"{key}/maps-{column}"][None] for column in range(len(own))]
            photo, logits, targets = (stored[f"{key}/{name}"] for name in ("photo", "logits", "targets"))
        except (DamagedFile, KeyError) as error:
            raise RunError(f"{stored.path} is damaged ({error}); {self._remedy}") from error
        return photo.float() / 255, Grid(maps, logits[None], targets[None])

    def delete(self) -> None:
        """Nothing waits any more."""
        shutil.rmtree(self._folder, ignore_errors=True)
