"""Does the heatmap stay when the image hardly changes, and does it foretell how the answer changes?"""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from heatproof.errors import InputError
from heatproof.heatmaps import is_empty, resize
from heatproof.metrics.confidence import Answer, Model, answers, chosen
from heatproof.metrics.evaluation import Column, Explained, Finding, Question
from heatproof.types import Explainer, Heatmaps, Images, PerImage, Targets, settings


@settings
class SensitivityMax:
    """How far the heatmap moves, at most, within a small ball around the image.

    max_i || h(x + d_i) - h(x) || / || h(x) ||, the d_i uniform in the L-inf ball, the class the one predicted at x.

    **Source** Yeh et al. 2019, section 4. **Differs** what leaves [0, 1] is clipped; they do not say what an empty map
    gives, here NaN.
    **Range** [0, inf), low is more stable; grows with ``samples``.

    Args:
        radius: in pixel units of [0, 1].
        samples: points of the ball; the same for every image.
        at_once: images in one call of the explainer.
        seed: of the points.

    Raises:
        InputError: no sample, or a radius that is not positive.

    >>> from heatproof.types import Explanation
    >>> def pixels(model, images, targets=None, *, create_graph=False):
    ...     return Explanation(images[:, 0], model(images), targets)
    >>> model = lambda images: images.flatten(1)
    >>> SensitivityMax(radius=0.1, samples=50)(model, pixels, torch.full((1, 1, 1, 2), 0.5)).round(decimals=2)
    tensor([0.1800])
    """

    radius: float = 0.02
    samples: int = 10
    at_once: int = 32
    seed: int = 0
    question: ClassVar[Question] = "robustness"
    condition: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_ball("sensitivity-max", self.radius, self.samples)

    @property
    def columns(self) -> tuple[Column, ...]:
        meaning = f"largest relative move of the map within {self.radius:.4g} around the image"
        return (Column("sensitivity_max", "down", "[0, inf)", meaning),)

    def measure(self, explained: Explained) -> list[Finding]:
        return [Finding((self(explained.model, explained.explainer, explained.images, explained.targets),))]

    def __call__(self, model: Model, explainer: Explainer, images: Images, targets: Targets | None = None) -> PerImage:
        targets = chosen(model, images, targets)
        clean = explainer(model, images, targets).heatmaps.flatten(1)  # type: ignore[arg-type]
        norm = clean.norm(dim=1)
        most = torch.zeros_like(norm)
        for moves in ball_points(images, self.radius, self.samples, self.seed, self.at_once):
            near = (images[:, None] + moves).clamp(0, 1).flatten(0, 1)
            each = targets.repeat_interleave(len(moves))
            maps = explainer(model, near, each).heatmaps.flatten(1).view(len(images), len(moves), -1)  # type: ignore[arg-type]
            most = torch.maximum(most, (maps - clean[:, None]).norm(dim=2).amax(1))
        return torch.where(norm > 0, most / norm, torch.full_like(norm, torch.nan))


@settings
class Infidelity:
    """How badly the heatmap foretells the change of the answer under perturbations.

    E_I [ (b I^T h - (f(x) - f(x - I)))^2 ] with the scale b that is best for the image, b = E[I^T h (f(x) - f(x - I))]
    / E[(I^T h)^2]; I is uniform in the L-inf ball. Channels share the map, which is brought to the image's size.

    **Source** Yeh et al. 2019, definition 2.1 and section 3.1 (optimal scaling: their code). **Differs** a map has one
    value per pixel and not per channel.
    **Range** [0, inf) in squared units of the answer, low is better; NaN for an empty map.

    Args:
        radius: of the ball, in pixel units of [0, 1].
        samples: perturbations; the same for every image.
        scaled: with the best scale; ``False``: b = 1, for maps in the answer's own unit.
        answer: f: ``logit``, ``probability`` or ``correct``.
        at_once: images in one forward pass.
        seed: of the perturbations.

    Raises:
        InputError: no sample, or a radius that is not positive.

    >>> linear = lambda images: torch.stack([images.flatten(1).sum(1), torch.zeros(len(images))], 1)
    >>> image = torch.full((1, 1, 2, 2), 0.5)
    >>> Infidelity()(linear, image, 3 * torch.ones(1, 2, 2), torch.tensor([0])).round(decimals=4)
    tensor([0.])
    """

    radius: float = 0.1
    samples: int = 50
    scaled: bool = True
    answer: Answer = "logit"
    at_once: int = 32
    seed: int = 0
    question: ClassVar[Question] = "faithfulness"
    condition: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_ball("infidelity", self.radius, self.samples)

    @property
    def columns(self) -> tuple[Column, ...]:
        unit = "squared logits from 0" if self.answer == "logit" else "[0, 1]"
        meaning = f"how badly the map foretells the change of the {self.answer} under noise"
        return (Column("infidelity", "down", unit, meaning),)

    def measure(self, explained: Explained) -> list[Finding]:
        return [Finding((self(explained.model, explained.images, explained.heatmaps, explained.targets),))]

    def __call__(self, model: Model, images: Images, heatmaps: Heatmaps, targets: Targets | None = None) -> PerImage:
        if len(heatmaps) != len(images):
            raise InputError(f"one heatmap per image: expected {len(images)}, got {len(heatmaps)}")
        targets = chosen(model, images, targets)
        size = (images.shape[2], images.shape[3])
        fine = heatmaps if heatmaps.shape[1:] == size else resize(heatmaps, size)
        here = answers(model, images, targets, self.answer)
        # the sums over I of (I^T h)^2, I^T h * drop, drop^2
        sums = torch.zeros(3, len(images), device=images.device, dtype=here.dtype)
        for moves in ball_points(images, self.radius, self.samples, self.seed, self.at_once):
            moved = (images[:, None] - moves).flatten(0, 1)
            there = answers(model, moved, targets.repeat_interleave(len(moves)), self.answer)
            drop = here[:, None] - there.view(len(images), len(moves))
            foretold = torch.einsum("mhw,nhw->nm", moves.sum(1), fine).to(drop)
            sums += torch.stack([foretold.square().sum(1), (foretold * drop).sum(1), drop.square().sum(1)])
        known, both, dropped = sums / self.samples
        scale = both / torch.where(known > 0, known, torch.ones_like(known)) if self.scaled else torch.ones_like(both)
        found = (scale.square() * known - 2 * scale * both + dropped).clamp(min=0)
        return found.masked_fill(is_empty(heatmaps), torch.nan)


def ball_points(images: Images, radius: float, samples: int, seed: int, at_once: int) -> Iterator[Tensor]:
    """Points of the L-inf ball, [points, channels, rows, cols], as many at a time as fit."""
    generator = torch.Generator().manual_seed(seed)
    group = max(1, at_once // len(images))
    for begin in range(0, samples, group):
        # one picture after the other: which come together must not change them
        drawn = [torch.rand(images.shape[1:], generator=generator) for _ in range(min(group, samples - begin))]
        yield (2 * torch.stack(drawn).to(images) - 1) * radius


def check_ball(name: str, radius: float, samples: int) -> None:
    if samples < 1:
        raise InputError(f"{name} needs at least 1 sample, got {samples}")
    if not radius > 0:
        raise InputError(f"{name}'s radius must be positive, in pixel units of [0, 1], got {radius}")
