"""Does what was found survive when the weights are shaken? Gaussian noise on every tensor, on a copy of the model."""

import copy
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.metrics.evaluation import Column, Explained, Finding, Question
from heatproof.metrics.randomisation import alike, likeness
from heatproof.types import PerImage, settings

M = TypeVar("M", bound=nn.Module)
LEVELS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


class Shaken(NamedTuple):
    """A copy of the model with noise of one level; of level 0 there is one draw, the weights themselves."""

    level: float
    draw: int
    model: nn.Module


@settings
class WeightNoise:
    """Weights w + level * std(w) * n with n standard normal, the deviation taken over each tensor by itself.

    Equal seeds give equal n for any two models of one architecture, so a clean and a fooled model are shaken alike.

    **Source** Heo et al. 2019, section 5 and Figure 4b. **Differs** they add noise of one deviation to all weights;
    relative to each tensor's own, on a logarithmic grid, is [ours].
    **Range** levels from 0; at 1 the noise is as large as the weights.

    Args:
        levels: noise relative to each tensor's deviation.
        draws: how often each level above 0 is drawn.
        seed: of the noise.

    Raises:
        InputError: no draw, no level, or a negative one.

    >>> layer = nn.Linear(1, 2, bias=False)
    >>> WeightNoise(levels=(0.0, 0.1), draws=2)(layer, lambda model: torch.zeros(3)).shape
    torch.Size([2, 2, 3])
    """

    levels: tuple[float, ...] = LEVELS
    draws: int = 5
    seed: int = 0
    question: ClassVar[Question] = "robustness"
    condition: ClassVar[str] = "weight_noise"

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise InputError(f"weight noise needs at least 1 draw, got {self.draws}")
        if not self.levels or min(self.levels) < 0:
            raise InputError(f"weight noise needs levels of 0 or more, at least one, got {self.levels}")

    @property
    def columns(self) -> tuple[Column, ...]:
        return likeness("up", "before and after the weights are shaken, mean over the draws")

    def measure(self, explained: Explained) -> list[Finding]:
        """How alike the maps are under each level above 0, for ``heatproof evaluate``."""
        found: dict[float, list[Tensor]] = {}
        for level, _, copied in self.shaken(explained.model):
            if level:
                after = explained.explainer(copied, explained.images, explained.targets).heatmaps
                found.setdefault(level, []).append(torch.stack(alike(explained.heatmaps, after, explained.size)))
        return [Finding(tuple(torch.stack(draws).nanmean(0)), condition=level) for level, draws in found.items()]

    def shaken(self, model: nn.Module) -> Iterator[Shaken]:
        """Every copy in turn; the next one overwrites the last, and the model itself is not touched."""
        copied = copy.deepcopy(model)
        for level in self.levels:
            for draw in range(self.draws if level else 1):
                with torch.no_grad():
                    _shake(copied, model, level, self.seed + draw)
                yield Shaken(level, draw, copied)

    def __call__(
        self, model: nn.Module, measure: Callable[[nn.Module], PerImage]
    ) -> Float[Tensor, "levels draws batch"]:
        """What ``measure`` finds, per level, draw and image; level 0 is measured once and repeated."""
        rows: dict[float, list[Tensor]] = {}
        for level, _, copied in self.shaken(model):
            rows.setdefault(level, []).append(measure(copied).detach())
        return torch.stack([torch.stack(rows[level] * (1 if level else self.draws)) for level in self.levels])


def _shake(copied: nn.Module, model: nn.Module, level: float, seed: int) -> None:
    # on the CPU, tensor after tensor in the order of their names: equal on every device
    generator = torch.Generator().manual_seed(seed)
    for shaken, weight in zip(copied.parameters(), model.parameters(), strict=True):
        noise = torch.randn(weight.shape, generator=generator).to(weight)
        shaken.copy_(weight + level * weight.std(correction=0) * noise)
