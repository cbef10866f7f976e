"""FGSM and PGD: follow the gradient of an objective over the pixels, inside a ball.

Both know only an objective and the ball. What is random is drawn once and is the same for every image of every batch,
so an image's adversarial does not depend on its neighbours.
"""

import warnings
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from heatproof.attacks.balls import Norm, check_epsilon, distance, project, random_start, steepest
from heatproof.attacks.objectives import Goal, Look, begin
from heatproof.errors import InputError, ModelError
from heatproof.models.finite import check_finite
from heatproof.types import Images, Objective, PerImage, settings


@settings
class FGSM:
    """Fast gradient sign method: adversarial = clip(x + epsilon * sign(d objective / dx), 0, 1).

    The sign map does not depend on epsilon: :meth:`direction` computes it once, :meth:`along` goes along it.

    **Source** Goodfellow et al. 2015, section 4; Chakraborty et al. 2022 (one sign map, four epsilons).
    **Range** images in [0, 1], at most ``epsilon`` from the clean ones in every pixel.

    Args:
        epsilon: in pixel units of [0, 1].

    Raises:
        InputError: an epsilon that is negative, or above 1 (grey levels of 0..255).

    >>> brighter = FGSM(epsilon=0.25)(lambda images: images.flatten(1).sum(1), torch.tensor([[[[0.5, 0.9]]]]))
    >>> brighter
    tensor([[[[0.7500, 1.0000]]]])
    """

    epsilon: float = 0.01

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)

    def __call__(self, objective: Objective, images: Images) -> Images:
        return self.along(images, self.direction(objective, images))

    def direction(self, objective: Objective, images: Images) -> Images:
        """The sign of the objective's gradient, in {-1, 0, 1}."""
        goal = begin(objective, images)
        return steepest(gradient(goal, images, 0.0)[0])

    def along(self, images: Images, direction: Images) -> Images:
        """The images moved by epsilon along a stored direction; epsilon 0 gives the images themselves."""
        return (images + self.epsilon * direction).clamp(0, 1)


@settings
class PGD:
    """Projected gradient descent, here ascent: x <- project(x + step_size * steepest(d objective / dx)).

    ``linf``: steepest is the gradient's sign; ``l2``: the gradient over its length. Of all images met on the way, and
    the start, the best is kept for each image: allowed before not allowed, reached before not reached, then the
    highest value.

    **Source** Madry et al. 2018, section 2.1. **Differs** Madry hands out the last image (``keep="last"``, one forward
    pass less).
    **Range** images in [0, 1] within the ball.

    Args:
        epsilon: the ball's radius in pixel units of [0, 1]; for ``l2`` the length over all pixel values.
        steps: gradient steps.
        norm: of the ball.
        step_size: ``None``: 2.5 * epsilon / steps, as Madry et al. do.
        random_start: begin at a random point of the ball, the same displacement for every image.
        keep: the best image or the last.
        seed: of the random start.

    Raises:
        InputError: settings that make no sense, for instance an epsilon above 1 for ``linf``.
    """

    epsilon: float = 8 / 255
    steps: int = 10
    norm: Norm = "linf"
    step_size: float | None = None
    random_start: bool = True
    keep: Literal["best", "last"] = "best"
    seed: int = 0

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon, self.norm)
        if self.steps < 1:
            raise InputError(f"pgd needs at least 1 step, got {self.steps}")
        if self.step_size is not None and not self.step_size > 0:
            raise InputError(f"step_size must be positive, or None for 2.5 * epsilon / steps; got {self.step_size}")
        if self.keep not in get_args(Literal["best", "last"]):
            raise InputError(f"keep is 'best' or 'last', got {self.keep!r}")

    def __call__(self, objective: Objective, images: Images) -> Images:
        clean = images.detach()
        if self.norm == "l2" and self.epsilon > clean[0].numel() ** 0.5:
            raise InputError(
                f"an l2 epsilon of {self.epsilon:g} is longer than any change of pixels in [0, 1] can be "
                f"({clean[0].numel() ** 0.5:.4g}); is it in grey levels of 0..255?"
            )
        if self.epsilon == 0:
            return clean.clone()
        goal = begin(objective, clean)
        step_size = 2.5 * self.epsilon / self.steps if self.step_size is None else self.step_size
        point = random_start(clean, self.epsilon, self.norm, self.seed) if self.random_start else clean
        best = Best.none(clean)
        for step in range(self.steps):
            slope, look = gradient(goal, point, step / self.steps, judge=self.keep == "best")
            if look is not None:
                best = best.or_better(point, look)
            point = project(point + step_size * steepest(slope, self.norm), clean, self.epsilon, self.norm)
        if self.keep == "last":
            return point
        with torch.no_grad():
            return best.or_better(point, goal.look(point)).images


class Attacked(NamedTuple):
    """What came of an attack, per image; :func:`examine` makes it."""

    images: Images
    value: PerImage
    success: Bool[Tensor, "batch"]
    linf: PerImage
    l2: PerImage


class Best(NamedTuple):
    """The best images met so far."""

    images: Images
    look: Look

    @classmethod
    def none(cls, clean: Images) -> "Best":
        """The clean images, which any allowed image beats."""
        no = torch.zeros(len(clean), dtype=torch.bool, device=clean.device)
        return cls(clean, Look(torch.full((len(clean),), -torch.inf, device=clean.device), no, no))

    def or_better(self, images: Images, look: Look) -> "Best":
        value = look.value.detach().to(self.look.value.dtype)
        further = look.reached & ~self.look.reached
        higher = (look.reached == self.look.reached) & (value > self.look.value)
        take = look.allowed & (~self.look.allowed | further | higher)
        pairs = ((value, self.look.value), (look.reached, self.look.reached), (look.allowed, self.look.allowed))
        return Best(
            torch.where(take.view(-1, 1, 1, 1), images, self.images),
            Look(*(torch.where(take, new, old) for new, old in pairs)),
        )


def gradient(goal: Goal, images: Images, done: float, *, judge: bool = False) -> tuple[Images, Look | None]:
    """d goal / d pixels, and on request the goal there, from the same forward pass where the goal allows it.

    Only the pixels' gradient is computed: no ``.grad`` of the model is touched.

    Raises:
        ModelError: there is no gradient, or it is NaN.

    Warns:
        UserWarning: it is zero in every image at the start, and the goal knows why. An image whose map is empty has no
            gradient either and stays as it is, so this is no error.
    """
    look = None
    # inference mode and no_grad of the caller would forbid the graph
    with torch.inference_mode(False), torch.enable_grad():
        point = (images.clone() if images.is_inference() else images.detach()).requires_grad_()
        if goal.climb is not None:
            value = goal.climb(point, done)
        else:
            look = goal.look(point)
            value = look.value
        if value.shape != images.shape[:1]:
            raise InputError(f"an objective gives one value per image, [{len(images)}]; got {list(value.shape)}")
        (slope,) = torch.autograd.grad(value.sum(), point, allow_unused=True) if value.requires_grad else (None,)
    if slope is None:
        raise ModelError(
            "the objective has no gradient with respect to the pixels: the model detaches its input, runs under "
            "no_grad, is quantised, or leaves torch; gradient attacks need a differentiable model"
        )
    check_finite(slope)
    if goal.hint and done == 0 and not slope.any():
        warnings.warn(f"the objective's gradient is zero at every pixel of every image; {goal.hint}", stacklevel=3)
    if judge and look is None:
        with torch.no_grad():
            look = goal.look(images)
    return slope, look if judge else None


def examine(objective: Objective, images: Images, clean: Images) -> Attacked:
    """Success and final norms of an attack: what the objective says of its images, and how far they went.

    **Range** ``success`` true or false; ``linf`` and ``l2`` in pixel units of [0, 1].
    """
    with torch.no_grad():
        look = begin(objective, clean).look(images)
    return Attacked(
        images,
        look.value.detach(),
        look.reached & look.allowed,
        distance(images, clean, "linf"),
        distance(images, clean, "l2"),
    )
