"""Does the model decide on the pixels that the heatmap names? Curves per image, and the number under each."""

from typing import ClassVar

import torch
from torch import nn

from heatproof.errors import InputError
from heatproof.metrics.confidence import UNITS, Answer, Model, chosen
from heatproof.metrics.evaluation import Axes, Better, Column, Curves, Explained, Finding, Question
from heatproof.metrics.removal import Filling, Order, check_region, filling, named, turns, unordered, watch
from heatproof.types import Heatmaps, Images, PerImage, Targets, settings


@settings
class AOPC:
    """Area over the perturbation curve: how fast the answer falls when regions go, in the order of the map.

    AOPC = 1/(L+1) sum_{k=0..L} f(x^(0)) - f(x^(k)), with x^(k) the image without its first k regions. A map that names
    what the model needs has a high AOPC with the most relevant first, a low one with the least relevant first, and a
    random order between them.

    **Source** Samek et al. 2017, eq. 12; Heo et al. 2019, Figure 4a. **Differs** their regions are 9 x 9, which does
    not divide 224 (``region=9, ragged=True``); f is the softmax of the class [ours]; the noise that replaces a region
    is drawn once, not on each visit.
    **Range** [-1, 1] for probabilities, up is a more faithful map (with ``order="least"``: down). NaN where the map is
    empty or equal everywhere.

    Args:
        region: side of the square regions in pixels.
        steps: L; where the image has fewer regions, all of them.
        order: ``most`` or ``least`` relevant first, or ``random``.
        fill: ``noise`` (uniform), ``mean``, ``blur``, or a grey value.
        answer: f: ``probability``, ``logit`` or ``correct``.
        ragged: let the last row and column of regions be narrower where the region does not divide the image.
        at_once: images in one forward pass (memory and speed only); ``None``: what suits the device.
        seed: of the noise and of the random order.

    Raises:
        InputError: a region that does not divide the image, no step, maps that are not finite.

    >>> bright = lambda images: torch.stack([images.flatten(1).sum(1), torch.zeros(len(images))], 1)
    >>> image = torch.tensor([[[[0.5, 0.25], [0.25, 0.0]]]])
    >>> AOPC(region=1, fill=0.0, answer="logit")(bright, image, image[:, 0], torch.tensor([0]))
    tensor([0.6500])
    """

    region: int = 8
    steps: int = 100
    order: Order = "most"
    fill: Filling = "noise"
    answer: Answer = "probability"
    ragged: bool = False
    at_once: int | None = None
    seed: int = 0
    question: ClassVar[Question] = "faithfulness"
    condition: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"AOPC needs at least 1 step, got {self.steps}")

    @property
    def columns(self) -> tuple[Column, ...]:
        ways: dict[Order, Better] = {"most": "up", "least": "down", "random": "neither"}
        unit = "logits" if self.answer == "logit" else "[-1, 1]"
        meaning = f"mean fall of the class's {self.answer} as regions go, {named(self.order)}"
        return (Column(_column("aopc", self.order), ways[self.order], unit, meaning),)

    @property
    def axes(self) -> Axes:
        return Axes(f"regions removed, {named(self.order)}", f"fall of the class's {self.answer}")

    def check(self, model: nn.Module, size: tuple[int, int], boxes: bool) -> None:
        check_region(self.region, size, self.ragged)

    def measure(self, explained: Explained) -> list[Finding]:
        return _measured(self, explained)

    def curves(self, model: Model, images: Images, heatmaps: Heatmaps, targets: Targets | None = None) -> Curves:
        """f(x^(0)) - f(x^(k)) for k = 0 .. L; column 0 is zero."""
        targets = _checked(model, images, heatmaps, targets)
        size = (images.shape[2], images.shape[3])
        turn = turns(heatmaps, size, self.region, self.order, seed=self.seed, ragged=self.ragged)
        levels = range(min(self.steps, int(turn.amax()) + 1) + 1)
        fill = filling(images, self.fill, self.seed)
        answer = watch(model, images, fill, turn, levels, targets, answer=self.answer, at_once=self.at_once)
        return _known(answer[:, :1] - answer, heatmaps, self.order)

    def __call__(self, model: Model, images: Images, heatmaps: Heatmaps, targets: Targets | None = None) -> PerImage:
        return self.under(self.curves(model, images, heatmaps, targets))

    def under(self, curves: Curves) -> PerImage:
        """The mean over the steps, from 0 to L."""
        return curves.mean(1)


@settings
class Deletion:
    """Area under the answer's curve while the most relevant pixels are deleted first.

    The area by the trapezoid rule over the share of deleted pixels, which goes from 0 to 1 in ``steps`` equal steps.

    **Source** Petsiuk et al. 2018, section 4.3 (``steps=224`` on 224 x 224 pixels, fill 0).
    **Range** [0, 1] for probabilities, low is a more faithful map. NaN where the map gives no order.

    Args:
        steps: as many forward passes as steps + 1.
        fill: black by default.
        order, answer, at_once, seed: as for AOPC.

    Raises:
        InputError: no step, maps that are not finite.

    >>> bright = lambda images: torch.stack([images.flatten(1).sum(1), torch.zeros(len(images))], 1)
    >>> image = torch.tensor([[[[0.5, 0.25], [0.25, 0.0]]]])
    >>> Deletion(steps=4, answer="logit").curves(bright, image, image[:, 0], torch.tensor([0]))
    tensor([[1.0000, 0.5000, 0.2500, 0.0000, 0.0000]])
    """

    steps: int = 100
    fill: Filling = 0.0
    order: Order = "most"
    answer: Answer = "probability"
    at_once: int | None = None
    seed: int = 0
    question: ClassVar[Question] = "faithfulness"
    condition: ClassVar[str] = ""

    def __post_init__(self) -> None:
        _check_steps("deletion", self.steps)

    @property
    def columns(self) -> tuple[Column, ...]:
        ways: dict[Order, Better] = {"most": "down", "least": "up", "random": "neither"}
        meaning = f"area under the class's {self.answer} as pixels are deleted, {named(self.order)}"
        return (Column(_column("deletion", self.order), ways[self.order], UNITS[self.answer], meaning),)

    @property
    def axes(self) -> Axes:
        shares = tuple(step / self.steps for step in range(self.steps + 1))
        return Axes(f"share of pixels deleted, {named(self.order)}", f"{self.answer} of the class", shares)

    def measure(self, explained: Explained) -> list[Finding]:
        return _measured(self, explained)

    def curves(self, model: Model, images: Images, heatmaps: Heatmaps, targets: Targets | None = None) -> Curves:
        """The answer from no pixel deleted to all."""
        fill = filling(images, self.fill, self.seed)
        return _pixelwise(self, model, images, fill, heatmaps, targets)

    def __call__(self, model: Model, images: Images, heatmaps: Heatmaps, targets: Targets | None = None) -> PerImage:
        return self.under(self.curves(model, images, heatmaps, targets))

    def under(self, curves: Curves) -> PerImage:
        """The area under each curve."""
        return area(curves)


@settings
class Insertion:
    """Area under the answer's curve while the most relevant pixels come first on a blurred image.

    **Source** Petsiuk et al. 2018, section 4.3 (11 x 11 Gaussian, sigma 5). **Differs** the blur repeats the border's
    pixels where they pad with zeros.
    **Range** [0, 1] for probabilities, up is a more faithful map. NaN where the map gives no order.

    Args:
        steps: as many forward passes as steps + 1.
        fill: what the image starts from.
        order, answer, at_once, seed: as for AOPC.

    Raises:
        InputError: no step, maps that are not finite.

    >>> bright = lambda images: torch.stack([images.flatten(1).sum(1), torch.zeros(len(images))], 1)
    >>> image = torch.tensor([[[[0.5, 0.25], [0.25, 0.0]]]])
    >>> Insertion(steps=4, fill=0.0, answer="logit")(bright, image, image[:, 0], torch.tensor([0]))
    tensor([0.6875])
    """

    steps: int = 100
    fill: Filling = "blur"
    order: Order = "most"
    answer: Answer = "probability"
    at_once: int | None = None
    seed: int = 0
    question: ClassVar[Question] = "faithfulness"
    condition: ClassVar[str] = ""

    def __post_init__(self) -> None:
        _check_steps("insertion", self.steps)

    @property
    def columns(self) -> tuple[Column, ...]:
        ways: dict[Order, Better] = {"most": "up", "least": "down", "random": "neither"}
        meaning = f"area under the class's {self.answer} as pixels are inserted, {named(self.order)}"
        return (Column(_column("insertion", self.order), ways[self.order], UNITS[self.answer], meaning),)

    @property
    def axes(self) -> Axes:
        shares = tuple(step / self.steps for step in range(self.steps + 1))
        return Axes(f"share of pixels inserted, {named(self.order)}", f"{self.answer} of the class", shares)

    def measure(self, explained: Explained) -> list[Finding]:
        return _measured(self, explained)

    def curves(self, model: Model, images: Images, heatmaps: Heatmaps, targets: Targets | None = None) -> Curves:
        """The answer from no pixel inserted to all."""
        targets = _checked(model, images, heatmaps, targets)
        start = filling(images, self.fill, self.seed)
        return _pixelwise(self, model, start, images, heatmaps, targets)

    def __call__(self, model: Model, images: Images, heatmaps: Heatmaps, targets: Targets | None = None) -> PerImage:
        return self.under(self.curves(model, images, heatmaps, targets))

    def under(self, curves: Curves) -> PerImage:
        """The area under each curve."""
        return area(curves)


def area(curves: Curves) -> PerImage:
    """Area under each curve over [0, 1], by the trapezoid rule.

    >>> area(torch.tensor([[1.0, 0.5, 0.0]]))
    tensor([0.5000])
    """
    return (curves[:, 1:] + curves[:, :-1]).mean(1) / 2


def _measured(metric: AOPC | Deletion | Insertion, explained: Explained) -> list[Finding]:
    lines = metric.curves(explained.model, explained.images, explained.heatmaps, explained.targets)
    return [Finding((metric.under(lines),), lines)]


def _column(name: str, order: Order) -> str:
    return name if order == "most" else f"{name}_{order}"


def _pixelwise(
    settings: Deletion | Insertion,
    model: Model,
    images: Images,
    fill: Images,
    heatmaps: Heatmaps,
    targets: Targets | None,
) -> Curves:
    targets = _checked(model, images, heatmaps, targets)
    turn = turns(heatmaps, (images.shape[2], images.shape[3]), 1, settings.order, seed=settings.seed)
    pixels = turn[0].numel()
    levels = [round(step * pixels / settings.steps) for step in range(settings.steps + 1)]
    answer = watch(model, images, fill, turn, levels, targets, answer=settings.answer, at_once=settings.at_once)
    return _known(answer, heatmaps, settings.order)


def _checked(model: Model, images: Images, heatmaps: Heatmaps, targets: Targets | None) -> Targets:
    if len(heatmaps) != len(images):
        raise InputError(f"one heatmap per image: expected {len(images)}, got {len(heatmaps)}")
    return chosen(model, images, targets)


def _known(curves: Curves, heatmaps: Heatmaps, order: Order) -> Curves:
    return curves.masked_fill(unordered(heatmaps, order)[:, None], torch.nan)


def _check_steps(name: str, steps: int) -> None:
    if steps < 1:
        raise InputError(f"{name} needs at least 1 step, got {steps}")
