"""Does a heatmap foretell what a black box does when parts of the image are covered? One value per image."""

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import InputError
from heatproof.heatmaps import pearson, resize
from heatproof.types import Heatmaps, PerImage


def patch_correlation(
    heatmaps: Heatmaps, drops: Float[Tensor, "batch patches"], covers: Float[Tensor, "patches height width"]
) -> PerImage:
    """Pearson's correlation, over the patches, of the map's mass under a patch with the fall of the score.

    r = corr_m( sum_p c_mp h_p , y(x) - y(x with the pixels c_m filled) ), the map brought to the covers' size. Patches
    of one size belong into one call: a larger patch holds more of any map, and takes more of any score.

    **Source** Bhatt et al. 2020, definition 3 (faithfulness correlation: random subsets of pixels there, square
    patches here). **Range** [-1, 1], 1: the fall is proportional to the mass; NaN where one of them is constant.

    Args:
        drops: how far the score fell under each patch.
        covers: 1 where a patch covers, 0 elsewhere.

    Raises:
        InputError: the numbers of images or patches differ.

    >>> heat = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    >>> covers = torch.eye(4).view(4, 2, 2)
    >>> patch_correlation(heat, torch.tensor([[0.1, 0.2, 0.3, 0.4]]), covers)
    tensor([1.])
    """
    if drops.shape != (len(heatmaps), len(covers)):
        raise InputError(
            f"one drop per image and patch: expected [{len(heatmaps)}, {len(covers)}], got {list(drops.shape)}"
        )
    size = (covers.shape[1], covers.shape[2])
    fine = heatmaps if heatmaps.shape[1:] == size else resize(heatmaps, size)
    mass = torch.einsum("nhw,mhw->nm", fine.double(), covers.to(fine.device).double())
    return pearson(mass, drops.double()).to(heatmaps.dtype)
