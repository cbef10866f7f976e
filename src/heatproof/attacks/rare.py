"""How likely is it that a random change of the pixels moves the map so far? Probabilities too small to count."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.attacks.balls import check_epsilon
from heatproof.errors import InputError
from heatproof.types import Images, PerImage, settings

TAKEN = 0.4
"""Share of the steps that are to be taken."""
WIDEST = 3.0
"""Of a factor: where every step is taken, wider ones would leave the ball."""


@settings
class SubsetSimulation:
    """log10 of the probability that a value exceeds a level, for pixels drawn uniformly from the ``linf`` ball.

    A small probability is a product of larger ones, P(v > t) = P(v > t_1) * P(v > t_2 | v > t_1) * ..., each t_i the
    value that a ``share`` of the images of the level before exceeds; images of the next level are made from those by
    Metropolis steps (a step of a pixel value that would leave the ball, or the range of pixels, is not made; the image
    moves if its value stays above t_i). A step is uniform within the spread that the pixel value has among those
    images, times a factor that is adapted, image by image, until two of five steps are taken [ours].

    **Source** Au and Beck 2001; Huang et al. 2023 (SAFARI), for explanations. **Range** (-inf, 0]; what is
    below ``share ** most`` is -inf: never seen.

    Args:
        epsilon: the ball's radius in pixel units of [0, 1].
        samples: images of each level.
        share: of these that go on.
        most: levels.
        moves: Metropolis steps from an image to its successor.
        seed: of everything random.

    Raises:
        InputError: settings that make no sense.
    """

    epsilon: float = 8 / 255
    samples: int = 100
    share: float = 0.1
    most: int = 10
    moves: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        if not 0 < self.share < 1 or self.most < 1 or self.moves < 1:
            raise InputError(f"a level needs a share that goes on, a move and a level, got {self!r}")
        if round(self.share * self.samples) < 2:
            raise InputError(f"the spread of the images of a level needs two of them at least, got {self!r}")

    def __call__(self, value: Callable[[Images], PerImage], images: Images, level: float) -> Float[Tensor, "batch"]:
        """log10 P(value(x + d) > level), d uniform in the ball, of each image.

        Args:
            value: one number per image, for instance a started goal's (``begin(goal, images)``), or the distance of
                maps.
            level: that is to be exceeded.
        """
        generator, clean = torch.Generator().manual_seed(self.seed), images.detach()
        low, high = (clean - self.epsilon).clamp(min=0), (clean + self.epsilon).clamp(max=1)
        keep = round(self.share * self.samples)
        with torch.no_grad():
            shape = (self.samples, 1, *clean.shape[1:])
            alive = low + (high - low) * torch.rand(shape, generator=generator).to(clean)
            found = torch.stack([value(one) for one in alive])
            log = torch.zeros(len(clean), device=clean.device)
            open_ = torch.ones(len(clean), dtype=torch.bool, device=clean.device)
            for _ in range(self.most - 1):
                over = (found > level).float().mean(0)
                ends = open_ & (over >= self.share)
                log = torch.where(ends, log + over.log10(), log)
                open_ &= ~ends
                if not open_.any():
                    break
                log = torch.where(open_, log + math.log10(keep / self.samples), log)
                order = found.argsort(0, descending=True)[:keep]
                bar = found.gather(0, order)[-1]
                alive, found = self._successors(value, alive, found, order, bar, (low, high), generator)
            return torch.where(open_, log + (found > level).float().mean(0).log10(), log)

    def _successors(
        self,
        value: Callable[[Images], PerImage],
        alive: Tensor,
        found: Tensor,
        order: Tensor,
        bar: PerImage,
        ends: tuple[Images, Images],
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """As many images as before, all at or above the bar, each some moves away from one that was."""
        places = torch.arange(alive.shape[1], device=alive.device)
        parents = alive[order, places]
        spread, factor = parents.std(0), torch.ones(len(places), device=alive.device)
        made, values = [], []
        for number in range(self.samples):
            chosen = order[number % len(order)]
            point, now = alive[chosen, places], found[chosen, places]
            for _ in range(self.moves):
                drawn = (2 * torch.rand(point.shape[1:], generator=generator) - 1).to(point)
                there = point + drawn * spread * factor.view(-1, 1, 1, 1)
                moved = torch.where((there > ends[1]) | (there < ends[0]), point, there)
                risen = value(moved)
                taken = risen >= bar
                point = torch.where(taken.view(-1, 1, 1, 1), moved, point)
                now = torch.where(taken, risen, now)
                factor = (factor * ((taken.float() - TAKEN) / (1 + number) ** 0.5).exp()).clamp(max=WIDEST)
            made.append(point)
            values.append(now)
        return torch.stack(made), torch.stack(values)
