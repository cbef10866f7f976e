"""How far a model's heatmaps shift over a whole data set: MOD per epsilon, VID over the epsilons."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import InputError
from heatproof.types import PerImage


def mod(nissim: PerImage) -> Float[Tensor, ""]:
    """Mean observed dissimilarity: the mean of NISSIM over the images, at one epsilon.

    **Source** Chakraborty et al. 2022. **Range** [0, 1], 0: no heatmap moved.

    Raises:
        InputError: there is no image.

    >>> mod(torch.tensor([0.1, 0.3]))
    tensor(0.2000)
    """
    nissim = torch.as_tensor(nissim)
    if nissim.numel() == 0:
        raise InputError("MOD is a mean over images, and there is none")
    return nissim.mean()


def vid(mod_per_epsilon: Float[Tensor, "levels"] | Sequence[float]) -> Float[Tensor, ""]:
    """Variation in dissimilarity: the population standard deviation (ddof 0) of MOD over the epsilons.

    The levels are the epsilons of the attack; the clean images, whose MOD is 0, are none of them.

    **Source** Chakraborty et al. 2022. **Range** [0, 0.5], 0: the shift does not depend on epsilon.

    Raises:
        InputError: there is no level.

    >>> vid([0.1, 0.3])
    tensor(0.1000)
    """
    levels = torch.as_tensor(mod_per_epsilon)
    if levels.numel() == 0:
        raise InputError("VID is a deviation over epsilons, and there is none")
    return levels.std(correction=0)


def vid_per_image(nissim: Float[Tensor, "levels batch"]) -> PerImage:
    """VID's version for single images: the deviation (ddof 0) of each image's NISSIM over the epsilons.

    Its mean is at least VID: images that move at different epsilons cancel in MOD, and not here.

    **Source** ours, after Chakraborty et al. 2022. **Range** [0, 0.5].

    >>> vid_per_image(torch.tensor([[0.0, 0.2], [0.2, 0.0]])), vid(torch.tensor([0.1, 0.1]))
    (tensor([0.1000, 0.1000]), tensor(0.))
    """
    return nissim.std(0, correction=0)
