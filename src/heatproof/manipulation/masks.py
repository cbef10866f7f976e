"""Where a lying heatmap is to lie: masks by name, at the size of the map."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import InputError, did_you_mean

Cells = Sequence[Sequence[float]] | Tensor
"""A map written out as rows of numbers; a spec holds it as nested tuples."""


def frame(rows: int, cols: int) -> Tensor:
    """Ones on a border of floor(rows / 7) and floor(cols / 7) cells [code], at least one cell wide [ours]."""
    _check_size("frame", rows, cols, 3)
    mask = torch.ones(rows, cols)
    down, across = max(1, rows // 7), max(1, cols // 7)
    mask[down:-down, across:-across] = 0
    return mask


def corner(rows: int, cols: int) -> Tensor:
    """Ones on the upper left 3/7 of rows and columns, at least one cell [ours]."""
    _check_size("corner", rows, cols, 2)
    mask = torch.zeros(rows, cols)
    mask[: max(1, rows * 3 // 7), : max(1, cols * 3 // 7)] = 1
    return mask


def center(rows: int, cols: int) -> Tensor:
    """Ones on the middle third of rows and columns [ours]."""
    _check_size("center", rows, cols, 3)
    mask = torch.zeros(rows, cols)
    mask[rows // 3 : rows - rows // 3, cols // 3 : cols - cols // 3] = 1
    return mask


def left(rows: int, cols: int) -> Tensor:
    """Ones on the left half, without the middle column of an odd number [ours]."""
    _check_size("left", rows, cols, 2)
    return (torch.arange(cols) < cols // 2).float().expand(rows, cols).clone()


def top(rows: int, cols: int) -> Tensor:
    """Ones on the upper half, without the middle row of an odd number [ours]."""
    _check_size("top", rows, cols, 2)
    return (torch.arange(rows) < rows // 2).float()[:, None].expand(rows, cols).clone()


def rim(rows: int, cols: int, share: float = 4 / 7) -> Tensor:
    """Ones on the share of the cells that lie farthest from the centre: a lie as spread as an honest map.

    The mask of SHAM (2025) has the entropy of normal maps, 28 border cells of 49, known here from a summary: which 28
    is [ours]. A cell's distance is Euclidean, of rows and columns as shares of the map, and cells of one distance stay
    together: of the sets that this allows the one that comes nearest to the share, never all cells.

    Args:
        share: of the cells; :func:`entropy_share` finds it of maps.

    >>> rim(7, 7).int().sum().item(), rim(7, 7).int()[1].tolist()
    (28, [1, 1, 0, 0, 0, 1, 1])
    """
    _check_size("rim", rows, cols, 3)
    down, across = ((torch.arange(side) - (side - 1) / 2) / side for side in (rows, cols))
    # rounded: equal distances are not equal in every digit
    far = (down[:, None].square() + across.square()).mul(1e6).round()
    sets = [(far >= least).float() for least in far.unique()[1:]]
    return min(sets, key=lambda mask: abs(float(mask.mean()) - share))


def entropy_share(heatmaps: Float[Tensor, "batch rows cols"]) -> float:
    """The share of the cells that an even mask must cover to be as spread as these maps are on average.

    exp(mean H) / cells with H = -sum_j p_j ln p_j and p = h^+ / sum h^+; empty maps are left out. **Range** (0, 1].

    Raises:
        InputError: nothing is positive in any map.

    >>> entropy_share(torch.tensor([[[1.0, 1.0], [0.0, -1.0]]]))
    0.5
    """
    mass = heatmaps.detach().double().relu().flatten(1)
    mass = mass[mass.sum(1) > 0]
    if not len(mass):
        raise InputError("maps in which something is positive were expected: of empty ones nothing is spread")
    entropy = torch.special.entr(mass / mass.sum(1, keepdim=True)).sum(1).mean()
    return round(float(entropy.exp()) / mass.shape[1], 12)


MASKS: dict[str, Callable[[int, int], Tensor]] = {
    "frame": frame,
    "rim": rim,
    "corner": corner,
    "center": center,
    "left": left,
    "right": lambda rows, cols: left(rows, cols).flip(1),
    "top": top,
    "bottom": lambda rows, cols: top(rows, cols).flip(0),
}
"""Names that a penalty's ``mask`` or ``target`` may take."""


def check_mask(mask: str | Cells) -> None:
    """Stop a name that is no mask.

    Raises:
        InputError: naming the nearest.
    """
    if isinstance(mask, str) and mask not in MASKS:
        raise InputError(f"there is no mask {mask!r}; {did_you_mean(mask, MASKS)}")


def written_out(mask: str | Cells | Tensor) -> str | Cells:
    """A mask as a spec holds it: its name, or its cells as nested tuples.

    Raises:
        InputError: for an unknown name, or numbers that are no rectangle.
    """
    if isinstance(mask, str):
        check_mask(mask)
        return mask
    try:
        cells = torch.as_tensor(mask, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"a map is given by name or as rows of numbers of equal length, got {mask!r}") from error
    if cells.ndim != 2 or not cells.numel() or not bool(cells.isfinite().all()):
        raise InputError(f"a map is [rows, cols] of finite numbers, got {list(cells.shape)}")
    return tuple(tuple(row) for row in cells.tolist())


def drawn(mask: str | Cells, rows: int, cols: int) -> Float[Tensor, "rows cols"]:
    """The mask at the size of the map.

    Raises:
        InputError: a map written out has another size, or the named mask does not fit so few cells.

    >>> drawn("frame", 3, 3)
    tensor([[1., 1., 1.],
            [1., 0., 1.],
            [1., 1., 1.]])
    """
    if isinstance(mask, str):
        return MASKS[mask](rows, cols)
    cells = torch.as_tensor(mask)
    if tuple(cells.shape) != (rows, cols):
        raise InputError(
            f"the map given has {cells.shape[0]}x{cells.shape[1]} cells and the heatmaps have {rows}x{cols}; "
            f"give it at {rows}x{cols}, or name one of {', '.join(MASKS)}, which fit any size"
        )
    return cells


def _check_size(name: str, rows: int, cols: int, least: int) -> None:
    if min(rows, cols) < least:
        raise InputError(
            f"the mask {name!r} needs heatmaps of at least {least}x{least} cells, got {rows}x{cols}; "
            "explain an earlier layer, whose map is larger, or give larger images"
        )
