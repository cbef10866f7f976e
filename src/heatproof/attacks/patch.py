"""An attack that may change the pixels of one patch, and these as it likes."""

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from heatproof.attacks.balls import check_epsilon
from heatproof.attacks.gradient import PGD
from heatproof.attacks.objectives import begin
from heatproof.errors import InputError
from heatproof.heatmaps import Box, check_box
from heatproof.types import Images, Objective, settings


@settings
class Patch:
    """Adversarial patch: PGD on the pixels of a rectangle, the others stay as they are.

    x <- clean outside of the patch, clip(clean + d, 0, 1) with |d| <= epsilon in it; of all images met on the way
    the best is kept, as by :class:`~heatproof.attacks.gradient.PGD`. A patch of its own for each image.

    To change the answer and hide the patch from the map as well, raise
    ``move_heatmap(model, explainer, Hide(box), wanted=CLASS)`` with the same box.

    **Source** Brown et al. 2017; Subramanya, Pillai and Pirsiavash 2019, section 3 (the patch that hides itself).
    **Differs** they follow the gradient in steps of 0.005 for up to 1,000 of them, without its sign.
    **Range** images in [0, 1].

    Args:
        box: left, top, right and bottom of the patch, as shares of the image; the default covers 5% of it, the upper
            left corner, as theirs does. Pixels whose centre lies in it belong to the patch.
        epsilon: how far each of its pixels may go; 1: to any colour.
        steps: gradient steps.
        step_size: of each step, in pixel units of [0, 1].
        seed: of the start, which is random in the patch.

    Raises:
        InputError: a box that is none, or in which no pixel lies; an epsilon above 1.
    """

    box: Box = (0.0, 0.0, 0.23, 0.23)
    epsilon: float = 1.0
    steps: int = 100
    step_size: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_box(self.box)
        self._climber()

    def __call__(self, objective: Objective, images: Images) -> Images:
        clean = images.detach()
        inside = self.pixels(clean)

        def pasted(images: Images) -> Images:
            return torch.where(inside, images, clean)

        goal = begin(objective, clean)
        climb = goal.climb
        patched = replace(
            goal,
            look=lambda images: goal.look(pasted(images)),
            climb=None if climb is None else lambda images, done: climb(pasted(images), done),
        )
        return pasted(self._climber()(patched, clean))

    def pixels(self, images: Images) -> Bool[Tensor, "rows cols"]:
        """Which pixels of an image the patch covers, [rows, cols].

        Raises:
            InputError: none.
        """
        left, top, right, bottom = self.box
        rows, cols = ((torch.arange(size, device=images.device) + 0.5) / size for size in images.shape[-2:])
        inside = ((rows > top) & (rows < bottom))[:, None] & ((cols > left) & (cols < right))
        if not inside.any():
            raise InputError(f"no pixel of an image of {list(images.shape[-2:])} lies in the patch {self.box}")
        return inside

    def _climber(self) -> PGD:
        return PGD(self.epsilon, self.steps, step_size=self.step_size, seed=self.seed)
