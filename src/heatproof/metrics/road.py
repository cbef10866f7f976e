"""Remove and debias: pixels are taken away so that nobody sees where, and the model is watched."""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof.errors import InputError, ModelError
from heatproof.metrics.confidence import UNITS, Answer, Model, answers, chosen
from heatproof.metrics.evaluation import Axes, Better, Column, Explained, Finding, Question
from heatproof.metrics.removal import Order, named, turns, unordered
from heatproof.types import Heatmaps, Images, PerImage, Targets, settings

TOLERANCE, PATIENCE = 1e-7, 20_000


@settings
class ROAD:
    """The answer when shares of the most relevant pixels are removed and imputed from their neighbours.

    A removed pixel becomes the weighted mean of its neighbours, 1/6 for the four direct and 1/12 for the four diagonal
    ones (fewer at the border, rescaled), all removed pixels at once: a linear system. Then noise is added. The value
    of an image is the mean over the fractions.

    **Source** Rong et al. 2022, section 5 and appendix C. **Differs** they watch the accuracy (``answer="correct"``);
    noise is in pixel units of [0, 1], and what it pushes outside is clipped; the system is solved for the whole batch
    on the device by conjugate gradients.
    **Range** [0, 1] for probabilities, low is a more faithful map (with ``order="least"``: up). NaN where the map is
    empty or equal everywhere.

    Args:
        fractions: shares of the pixels that are removed, each in (0, 1).
        order: ``most`` or ``least`` relevant first, or ``random``.
        noise: standard deviation of what is added to imputed pixels.
        answer: ``probability``, ``logit`` or ``correct``.
        seed: of the noise and of the random order.

    Raises:
        InputError: a fraction outside (0, 1), maps that are not finite.

    >>> dark = lambda images: torch.stack([-images[:, 0, 0, 0], torch.zeros(len(images))], 1)
    >>> image = torch.zeros(1, 1, 3, 3)
    >>> image[0, 0, 0, 1] = 1.0
    >>> first = torch.tensor([[[9.0, 8.0, 7.0], [6.0, 5.0, 4.0], [3.0, 2.0, 1.0]]])
    >>> ROAD((0.12,), noise=0.0, answer="logit")(dark, image, first, torch.tensor([0]))
    tensor([-0.4000])
    """

    fractions: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
    order: Order = "most"
    noise: float = 0.01
    answer: Answer = "probability"
    seed: int = 0
    question: ClassVar[Question] = "faithfulness"
    condition: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not self.fractions or not all(0 < fraction < 1 for fraction in self.fractions):
            raise InputError(f"ROAD removes fractions between 0 and 1, at least one, got {self.fractions}")
        if self.noise < 0:
            raise InputError(f"ROAD's noise must not be negative, got {self.noise}")

    @property
    def columns(self) -> tuple[Column, ...]:
        ways: dict[Order, Better] = {"most": "down", "least": "up", "random": "neither"}
        name = "road" if self.order == "most" else f"road_{self.order}"
        meaning = f"mean {self.answer} of the class as pixels are removed and imputed, {named(self.order)}"
        return (Column(name, ways[self.order], UNITS[self.answer], meaning),)

    @property
    def axes(self) -> Axes:
        xlabel = f"share of pixels removed and imputed, {named(self.order)}"
        return Axes(xlabel, f"{self.answer} of the class", self.fractions)

    def measure(self, explained: Explained) -> list[Finding]:
        lines = self.curves(explained.model, explained.images, explained.heatmaps, explained.targets)
        return [Finding((self.under(lines),), lines)]

    def curves(
        self, model: Model, images: Images, heatmaps: Heatmaps, targets: Targets | None = None
    ) -> Float[Tensor, "batch fractions"]:
        """The answer at each fraction."""
        if len(heatmaps) != len(images):
            raise InputError(f"one heatmap per image: expected {len(images)}, got {len(heatmaps)}")
        targets = chosen(model, images, targets)
        turn = turns(heatmaps, (images.shape[2], images.shape[3]), 1, self.order, seed=self.seed)
        noise = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(self.seed)).to(images)
        found = []
        for fraction in self.fractions:
            gone = turn < int(fraction * turn[0].numel())
            imputed = (impute(images, gone) + self.noise * noise).clamp(0, 1)
            found.append(answers(model, torch.where(gone[:, None], imputed, images), targets, self.answer))
        return torch.stack(found, 1).masked_fill(unordered(heatmaps, self.order)[:, None], torch.nan)

    def __call__(self, model: Model, images: Images, heatmaps: Heatmaps, targets: Targets | None = None) -> PerImage:
        return self.under(self.curves(model, images, heatmaps, targets))

    def under(self, curves: Float[Tensor, "batch fractions"]) -> PerImage:
        """The mean over the fractions."""
        return curves.mean(1)


def impute(images: Images, gone: Bool[Tensor, "batch rows cols"]) -> Images:
    """Images whose ``gone`` pixels are the weighted means of their neighbours.

    Conjugate gradients on s_i u_i - sum_j w_ij u_j = sum_known w_ik x_k, with s_i the sum of the weights inside the
    image; symmetric and, as long as a pixel is known, positive definite.

    Raises:
        InputError: an image of which nothing is left.
        ModelError: the iteration does not settle.
    """
    if gone.flatten(1).all(1).any():
        raise InputError("an image of which every pixel is removed cannot be imputed")
    hole = gone[:, None].double()
    known = images.double() * (1 - hole)
    weight = _neighbours(torch.ones_like(hole))
    right = hole * _neighbours(known)
    guess = hole * _coarse(known, 1 - hole)
    rest = right - hole * (weight * guess - _neighbours(guess))
    pushed = rest / weight
    step, size = pushed, (rest * pushed).sum((2, 3), keepdim=True)
    for _ in range(PATIENCE):
        if rest.abs().max() < TOLERANCE:
            return torch.where(gone[:, None], guess, images.double()).to(images.dtype)
        drawn = hole * (weight * step - _neighbours(step))
        length = size / (step * drawn).sum((2, 3), keepdim=True).clamp(min=1e-300)
        guess, rest = guess + length * step, rest - length * drawn
        pushed = rest / weight
        before, size = size, (rest * pushed).sum((2, 3), keepdim=True)
        step = pushed + size / before.clamp(min=1e-300) * step
    raise ModelError(f"the imputation did not settle in {PATIENCE} steps; are the images finite?")


def _neighbours(pixels: Tensor) -> Tensor:
    """1/6 of the direct and 1/12 of the diagonal neighbours, none from outside: (1 2 1) x (1 2 1) less the middle."""
    tall = 2 * pixels
    tall[..., 1:, :] += pixels[..., :-1, :]
    tall[..., :-1, :] += pixels[..., 1:, :]
    wide = 2 * tall
    wide[..., 1:] += tall[..., :-1]
    wide[..., :-1] += tall[..., 1:]
    return (wide - 4 * pixels) / 12


def _coarse(known: Tensor, mask: Tensor) -> Tensor:
    """A first guess: each hole shows the mean of what is known around it, looked for in ever larger blocks."""
    if bool((mask > 0).all()) or min(known.shape[2:]) == 1:
        count = mask.sum((2, 3), keepdim=True).clamp(min=1)
        return torch.where(mask > 0, known, known.sum((2, 3), keepdim=True) / count)
    share = torch.nn.functional.avg_pool2d(mask, 2, ceil_mode=True)
    mean = torch.nn.functional.avg_pool2d(known, 2, ceil_mode=True) / share.clamp(min=1e-12)
    seen = (share > 0).to(mask)
    above = torch.nn.functional.interpolate(
        _coarse(mean * seen, seen), size=known.shape[2:], mode="bilinear", align_corners=False
    )
    return torch.where(mask > 0, known, above)
