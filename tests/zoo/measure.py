"""Does a map follow a square that moves? The correlation of its shift with the square's, and what it is held against.

A map alone proves little: random weights may be blind to the square, or lose its place inside. So the network is asked
first, by means that know nothing of layouts: does covering the square move the scores, and do the numbers of the layer
hold the place along any of their dimensions, in whatever order they lie?
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.explainers.scores import Score
from heatproof.explainers.together import LayerExplainer
from heatproof.models.layout import Layout
from heatproof.types import Layered

Places = tuple[tuple[float, float], ...]
ENOUGH = 0.9
"""The least correlation of the square's place with the map's centre, of rows and of columns."""


@dataclass(frozen=True)
class Shift:
    """Correlations of the centre of what changed with the square's place."""

    rows: float
    cols: float

    @property
    def least(self) -> float:
        return min(self.rows, self.cols)

    @property
    def follows(self) -> bool:
        return self.least > ENOUGH


def changes(maps: Float[Tensor, "places many rows cols"], base: Tensor) -> Float[Tensor, "places rows cols"]:
    """What the square at each place changes, averaged over the classes or channels; each sums to 1, or is zero."""
    changed = (maps - base).abs().double().mean(1)
    return (changed / changed.sum((1, 2), keepdim=True)).nan_to_num(0)


def followed(changed: Float[Tensor, "places rows cols"], places: Places) -> Shift:
    """How the centre of what changed follows the square.

    Random weights mix much of the image into every cell: what all places share is taken off.
    """
    changed = (changed - changed.mean(0)).relu()
    found = []
    for axis in (1, 2):
        cells = torch.arange(changed.shape[axis], dtype=torch.float64)
        centres = (changed.sum(3 - axis) * cells).sum(1) / changed.sum((1, 2))
        wanted = torch.tensor([place[axis - 1] for place in places], dtype=torch.float64)
        found.append(float(torch.corrcoef(torch.stack([centres, wanted]))[0, 1]))
    return Shift(*(value if value == value else 0.0 for value in found))


def seen(logits: Float[Tensor, "images classes"]) -> bool:
    """Whether the scores see the square: covering it moves them more than covering as large a piece of noise does.

    Logits of the base, of the base with a square of other noise, and of the brighter square at each place.
    """
    moved = (logits[1:] - logits[:1]).double().norm(dim=1)
    rounding = 1e-6 * float(logits[0].double().norm())
    return bool(moved[1:].median() > moved[0]) and bool(moved[1:].min() > rounding)


def mover(logits: Float[Tensor, "images classes"]) -> int | None:
    """The first class whose score the square moves wherever it is; a class behind a ReLU may be dead."""
    moved = (logits[2:] - logits[:1]).double().abs().amin(0) > 1e-6 * float(logits[0].double().norm())
    return int(moved.long().argmax()) if bool(moved.any()) else None


def held(output: Tensor, places: Places) -> Shift:
    """How well the raw numbers of a layer follow the square, in that one of their readings that follows it best."""
    best = Shift(0.0, 0.0)
    for layout in readings(output.shape):
        maps = layout.maps(output)
        best = max(best, followed(changes(maps[2:], maps[:1]), places), key=lambda shift: shift.least)
    return best


def readings(shape: torch.Size) -> Iterator[Layout]:
    """Every way in which dimensions can be rows, columns and channels; the tokens of a square grid come last."""
    if len(shape) == 4:
        for letters in permutations("CHW"):
            dims = "N" + "".join(letters)
            yield Layout(dims, shape[dims.index("H")], shape[dims.index("W")])
        return
    for dims in ("NLC", "NCL"):
        tokens = shape[dims.index("L")]
        side = isqrt(tokens)
        if side > 1:
            yield Layout(dims, side, side, tokens - side * side)


Reading = Callable[[Tensor], Tensor]
"""Raw numbers of a layer to maps."""


def misreadings(right: Layout, shape: torch.Size) -> dict[str, Reading]:
    """Layouts with a fault in them: rows and columns exchanged; channels last read as first, or first as last."""
    swaps = {"NCHW": "NHWC", "NHWC": "NCHW", "NLC": "NCL", "NCL": "NLC"}
    other = swaps.get(right.dims, "NCHW")
    if "L" in other:
        cells = shape[other.index("L")]
        rows = next(rows for rows in range(isqrt(cells), 0, -1) if cells % rows == 0)
        exchanged = Layout(other, rows, cells // rows)
    else:
        exchanged = Layout(other, shape[other.index("H")], shape[other.index("W")])
    return {"rows for columns": lambda raw: right.maps(raw).mT, "channels exchanged": exchanged.maps}


@dataclass(frozen=True)
class Misread:
    """A layer's explainer that reads the layer in a layout that is not its own: the planted fault."""

    explainer: LayerExplainer
    right: Layout
    wrong: Reading
    shape: torch.Size
    """Of the layer's raw output."""

    @property
    def layer(self) -> Layered:
        return self.explainer.layer

    @property
    def score(self) -> Score:
        return self.explainer.score

    def read(self, activation: Tensor, gradient: Tensor) -> Tensor:
        return self.explainer.read(*(self._again(maps) for maps in (activation, gradient)))

    def _again(self, maps: Tensor) -> Tensor:
        return self.wrong(self.right.output(maps, maps.new_zeros(len(maps), *self.shape[1:])))
