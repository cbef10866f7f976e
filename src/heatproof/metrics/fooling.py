"""How many heatmaps lie as wanted."""

from jaxtyping import Bool
from torch import Tensor

from heatproof.errors import InputError
from heatproof.types import PerImage


def is_fooled(test_losses: PerImage, interval: tuple[float, float], margin: float = 0.0) -> Bool[Tensor, "batch"]:
    """Whether each image's test loss lies in the closed interval of success; one that is NaN does not.

    Args:
        margin: how far inside, as a share of the interval's bound: of the lower one, or of the upper if that is 0.

    Raises:
        InputError: an interval that ends before it begins.

    >>> import torch
    >>> is_fooled(torch.tensor([0.14, 0.16, 0.21]), (0.0, 0.2))
    tensor([ True,  True, False])
    >>> is_fooled(torch.tensor([0.14, 0.16]), (0.0, 0.2), margin=0.25)
    tensor([ True, False])
    >>> is_fooled(torch.tensor([0.12, 0.2]), (0.1, 1.0), margin=0.25)
    tensor([False,  True])
    """
    low, high = interval
    if not low <= high:
        raise InputError(f"an interval of success is (low, high) with low <= high, got {interval}")
    inner = high if low > 0 else high * (1 - margin)
    return (test_losses >= low * (1 + margin)) & (test_losses <= inner)


def fooling_success_rate(test_losses: PerImage, interval: tuple[float, float]) -> float:
    """Fooling success rate: FSR = (1/n) sum_i 1[t_i in R], with the test losses t and the interval of success R.

    **Source** Heo et al. 2019, equation 6 (``penalty.test_loss`` and ``penalty.success`` hold t and R).
    **Range** [0, 1], up is more fooled.

    Raises:
        InputError: no image, or an interval that ends before it begins.

    >>> import torch
    >>> fooling_success_rate(torch.tensor([0.1, 0.2, 0.25, float("nan")]), (0.0, 0.2))
    0.5
    """
    if not len(test_losses):
        raise InputError("a fooling success rate needs at least one image, got none")
    return float(is_fooled(test_losses, interval).double().mean())
