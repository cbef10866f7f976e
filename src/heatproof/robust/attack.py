"""PGD on the map: the attacker against whom a network is defended, and by whom it is judged."""

from typing import NamedTuple

from torch import nn

from heatproof.attacks.balls import check_epsilon
from heatproof.attacks.gradient import PGD
from heatproof.attacks.objectives import move_heatmap
from heatproof.errors import InputError
from heatproof.manipulation.penalties import TopK
from heatproof.metrics.similarity import topk_intersection
from heatproof.models.altered import is_rectified
from heatproof.models.classifier import Classifier
from heatproof.types import Explainer, Explanation, Images, PerChannel, PerImage, Targets, inside, redrawn, settings

BETAS = (10.0, 100.0)
"""Of the softplus copies that are climbed where ReLUs leave no second derivative: Dombrowski et al. 2019."""


class Moved(NamedTuple):
    """Photos and maps before and after an attack."""

    images: Images
    clean: Explanation
    attacked: Explanation


@settings
class MapAttack:
    """PGD in l-infinity that lowers the highest cells of the map, the predicted class held.

    It knows what it attacks: maps that are gradients of a network of ReLUs are climbed on softplus copies
    (beta 10 to 100), those of a network of softplus on itself, noise is drawn anew in every step.

    **Source** Ghorbani et al. 2019, algorithm 1 (top-k); Dombrowski et al. 2019, section 4.

    Args:
        epsilon: in pixel units of [0, 1].
        steps: of PGD.
        fraction: of the cells that count as the highest.
        seed: of the random start.

    Raises:
        InputError: a number makes no sense.
    """

    epsilon: float = 4 / 255
    steps: int = 10
    fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        if self.steps < 1:
            raise InputError(f"an attack takes at least 1 step, got {self.steps}")
        TopK(self.fraction)

    def __call__(self, model: nn.Module, explainer: Explainer, images: Images, targets: Targets) -> Moved:
        """Attack the maps of these classes."""
        bent = isinstance(model, Classifier) and reads_pixels(explainer) and is_rectified(model, images)
        goal = move_heatmap(
            model,
            explainer,
            TopK(self.fraction),
            targets=targets,
            betas=BETAS if bent else None,
            draws=int(redrawn(explainer, 1) != explainer),
        )
        moved = PGD(self.epsilon, self.steps, seed=self.seed)(goal, images)
        clean, attacked = (explainer(model, shown, targets) for shown in (images, moved))
        return Moved(moved, clean, attacked)

    def overlap(self, moved: Moved) -> PerImage:
        """Share of the highest cells that are still among the highest. **Range** [0, 1], 1: the map held still."""
        clean, attacked = (found.heatmaps.detach().float() for found in (moved.clean, moved.attacked))
        return topk_intersection(clean, attacked, self.fraction)


def reads_pixels(explainer: Explainer) -> bool:
    """Whether the map is a gradient at the pixels, or made of one."""
    return isinstance(explainer, PerChannel) or any(map(reads_pixels, inside(explainer)))
