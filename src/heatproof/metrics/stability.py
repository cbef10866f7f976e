"""How alike is the map of a photo and that of the photo with a little noise? By any measure of likeness."""

from collections.abc import Callable
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from heatproof.errors import SpecError, did_you_mean
from heatproof.heatmaps import normalise, resize
from heatproof.metrics.evaluation import Better, Column, Explained, Finding, Question
from heatproof.metrics.removal import unordered
from heatproof.metrics.robustness import ball_points, check_ball
from heatproof.metrics.similarity import WINDOW, center_distance, nissim, spearman, ssim, topk_intersection
from heatproof.types import Heatmaps, PerImage, settings

Likeness = Literal["spearman", "ssim", "nissim", "topk_intersection", "center_distance"]
BETTER: dict[Likeness, tuple[Better, str]] = {
    "spearman": ("up", "[-1, 1]"),
    "ssim": ("up", "[-1, 1]"),
    "nissim": ("down", "[0, 1]"),
    "topk_intersection": ("up", "[0, 1]"),
    "center_distance": ("down", "[0, 1)"),
}


@settings
class Stability:
    """How alike the map of an image and the maps of points close to it are, in the mean over the points.

    mean_i m(h(x), h(x + d_i)) with the measure m = ``by``, the d_i uniform in the L-inf ball and the same for every
    image, the class the one explained at x. It asks what :class:`~heatproof.metrics.robustness.SensitivityMax` asks, in
    a likeness of maps: a rank correlation does not see a map that only grows. For ``ssim`` the maps are brought to the
    image's size, each absolute map over its own maximum.

    **Source** Alvarez-Melis and Jaakkola 2018 (stability of explanations), measures of Ghorbani et al. 2019.
    **Differs** the mean over the ball and not its supremum [ours].
    **Range** that of the measure; NaN where the map of the image itself is empty or equal everywhere.

    Args:
        by: ``spearman``, ``ssim``, ``nissim``, ``topk_intersection`` or ``center_distance``.
        radius: in pixel units of [0, 1].
        samples: points of the ball.
        at_once: images in one call of the explainer.
        seed: of the points.

    Raises:
        SpecError: another measure.
        InputError: no sample, or a radius that is not positive.
    """

    by: Likeness = "spearman"
    radius: float = 0.02
    samples: int = 4
    at_once: int = 32
    seed: int = 0
    question: ClassVar[Question] = "robustness"
    condition: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if self.by not in get_args(Likeness):
            raise SpecError(f"maps are compared by no {self.by!r}; {did_you_mean(str(self.by), get_args(Likeness))}")
        check_ball("stability", self.radius, self.samples)

    @property
    def columns(self) -> tuple[Column, ...]:
        better, unit = BETTER[self.by]
        meaning = f"mean {self.by} of the map and those within {self.radius:.4g} around the image"
        return (Column(f"stability_{self.by}", better, unit, meaning),)

    def measure(self, explained: Explained) -> list[Finding]:
        model, images, heatmaps = explained.model, explained.images, explained.heatmaps
        total, compare = torch.zeros(len(images), device=images.device), measures(explained.size)[self.by]
        for moves in ball_points(images, self.radius, self.samples, self.seed, self.at_once):
            near = (images[:, None] + moves).clamp(0, 1).flatten(0, 1)
            maps = explained.explainer(model, near, explained.targets.repeat_interleave(len(moves))).heatmaps
            alike = compare(heatmaps.repeat_interleave(len(moves), 0), maps.detach().float())
            total += alike.view(len(images), -1).sum(1)
        return [Finding(((total / self.samples).masked_fill(unordered(heatmaps, "most"), torch.nan),))]


def measures(size: tuple[int, int]) -> dict[Likeness, Callable[[Heatmaps, Heatmaps], PerImage]]:
    """Each measure of likeness, for maps of images of ``size``."""
    shape = max(size[0], WINDOW), max(size[1], WINDOW)

    def large(maps: Tensor) -> Heatmaps:
        return resize(normalise(maps.abs(), "max"), shape)

    return {
        "spearman": spearman,
        "ssim": lambda a, b: ssim(large(a), large(b)),
        "nissim": lambda a, b: nissim(a, b, size=size),
        "topk_intersection": topk_intersection,
        "center_distance": center_distance,
    }
