"""The ball an attack may not leave: all images within ``epsilon`` of the clean one, and within [0, 1]."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import InputError
from heatproof.types import Images, PerImage

Norm = Literal["linf", "l2"]
"""``linf``: the largest change of any pixel. ``l2``: the Euclidean length of the change of the whole image."""

SLACK = 1e-5
"""What rounding may add to a distance, relative to the radius and at least in pixel units; a grey level is 0.004."""


def check_epsilon(epsilon: float, norm: Norm = "linf") -> None:
    """Stop a radius that is no radius in pixel units of [0, 1].

    Raises:
        InputError: it is negative, not a number, or larger than the whole range (``linf``).
    """
    if norm not in get_args(Norm):
        raise InputError(f"a ball is measured by one of {', '.join(get_args(Norm))}, got {norm!r}")
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 <= epsilon < float("inf"):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"epsilon must be a number from 0 to 1, in pixel units of [0, 1], got {epsilon!r}")
    if norm == "linf" and epsilon > 1:
        raise InputError(
            f"epsilon is in pixel units of [0, 1], got {epsilon:g}, which looks like grey levels of 0..255; "
            f"write {epsilon:g}/255"
        )


def distance(images: Images, clean: Images, norm: Norm = "linf") -> PerImage:
    """How far each image is from its clean one.

    **Range** [0, 1] for ``linf``, [0, sqrt(number of pixel values)] for ``l2``, in pixel units.

    >>> distance(torch.tensor([[[[0.3, 0.4]]]]), torch.zeros(1, 1, 1, 2), "l2")
    tensor([0.5000])
    """
    change = (images - clean).flatten(1)
    return change.abs().amax(1) if norm == "linf" else change.norm(dim=1)


def project(images: Images, clean: Images, epsilon: float, norm: Norm = "linf") -> Images:
    """The nearest images in the ball (``l2``: nearest before the pixels are clipped to [0, 1], which stays inside).

    **Source** Madry et al. 2018, section 2.1.

    >>> project(torch.tensor([[[[0.9, 0.2]]]]), torch.full((1, 1, 1, 2), 0.5), 0.25)
    tensor([[[[0.7500, 0.2500]]]])
    """
    change = images - clean
    if norm == "linf":
        change = change.clamp(-epsilon, epsilon)
    else:
        length = _length(change)
        # within the ball the factor is exactly 1, so that projecting twice is projecting once
        change = change * torch.where(length > epsilon, epsilon / length, torch.ones_like(length))
    return (clean + change).clamp(0, 1)


def steepest(gradient: Images, norm: Norm = "linf") -> Images:
    """The step of length 1 that raises a linear function most: the gradient's sign, or the gradient over its length.

    A gradient of zero gives no step.
    """
    if norm == "linf":
        return gradient.sign()
    length = _length(gradient)
    return gradient / torch.where(length > 0, length, torch.ones_like(length))


def random_start(clean: Images, epsilon: float, norm: Norm, seed: int) -> Images:
    """A point drawn uniformly from the ball, clipped to [0, 1]; the same displacement for every image.

    It is drawn on the CPU, one picture for the whole batch, so that it is equal on every device and an image's
    adversarial does not depend on its neighbours.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = clean.shape[1:]
    if norm == "linf":
        change = (2 * torch.rand(shape, generator=generator) - 1) * epsilon
    else:
        change = torch.randn(shape, generator=generator)
        radius = torch.rand((), generator=generator) ** (1 / change.numel())
        change = change / change.norm() * radius * epsilon
    return project(clean + change.to(clean), clean, epsilon, norm)


def check_inside(images: Images, clean: Images, epsilon: float, norm: Norm = "linf") -> None:
    """Stop an attack that left its ball, or the pixels' range.

    Raises:
        InputError: with the farthest image and its distance.
    """
    if images.shape != clean.shape:
        raise InputError(f"the attack returned images of shape {list(images.shape)}, expected {list(clean.shape)}")
    if not torch.isfinite(images).all():
        raise InputError("the attack returned images that are not finite (NaN or infinite pixels)")
    low, high = images.aminmax()
    if low < -SLACK or high > 1 + SLACK:
        raise InputError(f"the attack left the pixels' range [0, 1]: its images lie in [{low:.4g}, {high:.4g}]")
    far = distance(images, clean, norm)
    worst = int(far.argmax())
    if far[worst] > epsilon + SLACK * max(1.0, epsilon):
        raise InputError(
            f"the attack left its {norm} ball: image {worst} of the batch is {float(far[worst]):.4g} away from the "
            f"clean one, allowed are {epsilon:.4g}; is its epsilon in other units, or of another norm?"
        )


def _length(change: Images) -> Float[Tensor, "batch 1 1 1"]:
    return change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
