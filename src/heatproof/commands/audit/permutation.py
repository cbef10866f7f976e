"""A number without a population: does a map agree better with its own photo's witness than with other photos'?

Other photos' witnesses are the control: what all maps share (a bright middle, a fixed lie) agrees with all of them
alike, and counts for nothing. No other network is needed to say what chance would do.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from heatproof.commands.audit.kept import Maps, Witnesses, in_parts
from heatproof.commands.audit.mosaic import spread

PHOTOS = 500
"""At most so many photos, spread over the data: each is compared with the witness of every other."""
TIE = 1e-9
"""Agreements that are so near count as equal."""
DRAWS = 9999
"""Permutations: the least p-value is 1 in 10,000."""


class Permuted(NamedTuple):
    """How often photos' witnesses, permuted, agree with the maps as the photos' own do.

    Attributes:
        better: the share of permutations under which the maps agree as well or better, one-sided (Monte Carlo, the
            given order counted as one); ``worse``: under which they agree as badly or worse.
    """

    better: float
    worse: float


def ranks(likeness: Float[Tensor, "photos photos"]) -> Float[Tensor, " photos"]:
    """Per photo, the share of the other photos' witnesses with which its map agrees less than with its own.

    Ties count half; the mean is the area under the ROC of own against other witnesses. **Range** [0, 1], 0.5: chance.

    >>> ranks(torch.tensor([[0.9, 0.1, 0.2], [0.5, 0.1, 0.3], [0.0, 0.5, 0.5]])).tolist()
    [1.0, 0.0, 0.75]
    """
    own = likeness.diagonal()[:, None]
    below = (likeness < own - TIE).sum(1) + 0.5 * ((likeness - own).abs() <= TIE).sum(1)
    # each map's own witness is no other's
    return (below - 0.5) / (len(likeness) - 1)


def permuted(likeness: Float[Tensor, "photos photos"], seed: int = 0) -> Permuted:
    """Permute which witness belongs to which photo; the statistic is the mean agreement over the photos.

    **Source** Good 2005, chapter 3 (permutation tests); what is permuted is [ours].

    >>> permuted(torch.eye(8)).better
    0.0001
    """
    count = len(likeness)
    draw = torch.Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(count, generator=draw) for _ in range(DRAWS)])
    means, own = likeness[torch.arange(count), orders].mean(1), likeness.diagonal().mean()
    hits = ((means >= own - TIE).sum(), (means <= own + TIE).sum())
    return Permuted(*((1 + int(count)) / (1 + DRAWS) for count in hits))


def agreements(maps: Maps, witness: Witnesses) -> Float[Tensor, "known known"]:
    """Pearson's correlation of each map (rows) with each photo's witness (columns), at the coarser of the two sizes.

    Photos whose map or witness is equal everywhere are left out; of many photos :data:`PHOTOS` are looked at.
    """
    shapes = [next(iter(in_parts(found))).shape[1:] for found in (maps, witness)]
    size = min(shapes[0][0], shapes[1][0]), min(shapes[0][1], shapes[1][1])
    own, theirs = (_units(found, size) for found in (maps, witness))
    known = (own.norm(dim=1) > 0) & (theirs.norm(dim=1) > 0)
    return own[known] @ theirs[known].T


def _units(maps: Maps, size: tuple[int, int]) -> Float[Tensor, "photos cells"]:
    """The maps of some photos at this size, around their means and of length 1; 0 where a map is equal everywhere."""
    chosen = set(spread(len(maps), PHOTOS))
    rows = []
    for place, own in enumerate(maps):
        if place in chosen:
            flat = F.adaptive_avg_pool2d(own[None, None].double(), size).flatten()
            flat = flat - flat.mean()
            rows.append(flat / flat.norm() if float(flat.norm()) > 1e-9 else torch.zeros_like(flat))
    return torch.stack(rows)
