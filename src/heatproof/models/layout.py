"""The layout of what a layer puts out: where its rows, columns and channels are, so that it can be read as maps.

Channels first (``NCHW``), channels last (``NHWC``), or a sequence of tokens (``NLC``, ``NCL``) that holds a grid after
its class and register tokens. It is followed from the image through the operators (:mod:`heatproof.models.following`),
and never guessed from sizes.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.models.axes import COLS, ROWS, Axes, Dim, is_other, length, whole

Maps = Float[Tensor, "batch channels rows cols"]


@dataclass(frozen=True)
class Layout:
    """How to read a layer's output as maps.

    Attributes:
        dims: a letter for each dimension: batch N, channels C, rows H, columns W, tokens L (row after row).
        rows, cols: of the maps.
        prefix: tokens before the grid.
    """

    dims: str
    rows: int
    cols: int
    prefix: int = 0

    def maps(self, output: Tensor) -> Maps:
        """A view of the output.

        >>> Layout("NLC", 2, 3, prefix=1).maps(torch.zeros(4, 7, 16)).shape
        torch.Size([4, 16, 2, 3])
        """
        if "L" not in self.dims:
            return output.permute([self.dims.index(letter) for letter in "NCHW"])
        tokens = output.permute([self.dims.index(letter) for letter in "NCL"])
        grid = tokens[:, :, self.prefix : self.prefix + self.rows * self.cols]
        return grid.unflatten(2, (self.rows, self.cols))

    def output(self, maps: Maps, like: Tensor) -> Tensor:
        """What the layer would have put out with these maps: the inverse of :meth:`maps`.

        Other tokens are those of ``like``.
        """
        if "L" not in self.dims:
            return maps.permute(["NCHW".index(letter) for letter in self.dims])
        tokens = like.permute([self.dims.index(letter) for letter in "NCL"])
        after = self.prefix + self.rows * self.cols
        whole = torch.cat([tokens[:, :, : self.prefix], maps.flatten(2), tokens[:, :, after:]], 2)
        return whole.permute(["NCL".index(letter) for letter in self.dims])

    def __str__(self) -> str:
        if "L" not in self.dims:
            return self.dims
        before = f"{self.prefix} + " if self.prefix else ""
        return f"{self.dims}, {before}{self.rows}x{self.cols} tokens"


def layout_of(axes: Axes | None) -> Layout | None:
    """The layout that the axes say, ``None`` where they say none."""
    if axes is None or not axes or not is_other(axes[0]):
        return None
    sizes = [sum(map(length, dim)) for dim in axes]
    if len(axes) == 4:
        for dims in ("NCHW", "NHWC", "NCWH", "NWHC"):
            at = {letter: place for place, letter in enumerate(dims)}
            rows, cols = sizes[at["H"]], sizes[at["W"]]
            if (
                is_other(axes[at["C"]])
                and (rows == 1 or _is(axes[at["H"]], ROWS))
                and (cols == 1 or _is(axes[at["W"]], COLS))
            ):
                return Layout(dims, rows, cols)
    if len(axes) == 3:
        for dims in ("NLC", "NCL"):
            tokens = axes[dims.index("L")]
            grids = [segment for segment in tokens if not is_other((segment,))]
            if len(grids) == 1 and is_other(axes[dims.index("C")]) and len(grids[0]) == 2:
                rows, cols = grids[0]
                if _is(((rows,),), ROWS) and _is(((cols,),), COLS):
                    before = tokens[: tokens.index(grids[0])]
                    return Layout(dims, rows.size, cols.size, sum(map(length, before)))
    return None


def _is(dim: Dim, axis: str) -> bool:
    """Whether the dimension is the whole of that axis."""
    atom = whole(dim[0][0]) if len(dim) == 1 and len(dim[0]) == 1 else None
    return atom is not None and atom.axis == axis
