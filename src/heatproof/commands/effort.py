"""How long work will take, told before it begins: one photo or one step is rehearsed, and counted up."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from heatproof.commands.passes import TIMED, counting, seconds_per_pass
from heatproof.data.batches import Batch
from heatproof.errors import HeatproofError
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.intact import evaluating
from heatproof.models.layers import default_layer, known_layouts
from heatproof.training.split_at import split_at
from heatproof.training.terms import without_relu
from heatproof.types import Explainer, Explanation, Images

FEWEST = 8
"""Photos from which on one of them is rehearsed: of fewer, the rehearsal itself would be much of the work."""
SHORT = 1.0
"""Seconds that a rehearsal may take once more, with as many photos as then fit: with a single photo of a small network
most of the time is what is done once for each batch."""
LONG = 10.0
"""Seconds from which on a rehearsal is not repeated: what is done once at all is then little of it."""
TRAINED, BATCH = 4, 64
"""Photos of a step that is rehearsed, and, where that is done at once, of one that is rehearsed again."""


@dataclass(frozen=True)
class Effort:
    """What work takes.

    Attributes:
        seconds: on this machine, by a rehearsal.
        passes: photos through the network, forwards and backwards.
        more: in words, what stands behind the passes.
    """

    seconds: float
    passes: float
    more: str = ""

    def __mul__(self, times: float) -> "Effort":
        return Effort(self.seconds * times, self.passes * times, self.more)

    def __add__(self, other: "Effort") -> "Effort":
        return Effort(self.seconds + other.seconds, self.passes + other.passes, self.more or other.more)

    def words(self) -> str:
        """``about 6 min, 2,880 passes``."""
        from heatproof.report.words import duration  # which loads polars

        passes = "1 pass" if round(self.passes) == 1 else f"{self.passes:,.0f} passes"
        return f"about {duration(self.seconds)}, {passes}{f' ({self.more})' if self.more else ''}"


NOTHING = Effort(0.0, 0.0)


def rehearsal(
    models: Sequence[Classifier],
    photos: int,
    measure: Callable[[Classifier, Batch], object],
    hardware: Hardware,
    part: int,
) -> Effort | None:
    """What ``photos`` photos take with all models: a photo of noise is measured with each, and counted up.

    What a metric or an attack costs follows from its settings and the network, hardly from what a photo shows; files
    are not read. Where there is an accelerator, which is as fast with many photos as with one, a whole part is
    measured; where one photo is done at once, as many as :data:`SHORT` bears. The first time does not count, unless it
    is long: it also does what is done once.

    Args:
        measure: all that is done with a batch of a model's photos; what it hands out is forgotten.
        part: photos that are measured together.

    Returns:
        ``None`` for fewer than :data:`FEWEST` photos, or where it cannot be rehearsed: the work itself says why.
    """
    count = 1 if hardware.place.type == "cpu" else min(part, photos)
    if photos < FEWEST * count:
        return None
    whole = NOTHING
    for model in models:
        hosted = hardware.host(model)
        # what is asked once for all photos
        with suppress(HeatproofError):
            default_layer(hosted)
            known_layouts(hosted, hardware.bring(noise(hosted, 1).images))
        try:
            whole += _of_photo(hosted, hardware, partial(measure, hosted), count, min(part, photos // FEWEST))
        except HeatproofError:
            return None
    return whole * photos


def _of_photo(
    model: Classifier, hardware: Hardware, measure: Callable[[Batch], object], count: int, most: int
) -> Effort:
    """What a photo takes among ``count``, or among as many as a short rehearsal bears, at most ``most``."""
    found = timed(model, hardware, lambda: measure(noise(model, count)))
    if found.seconds < LONG:
        # again, without what is done once for a network: LRP's walk, what a metric imports
        count = max(count, min(int(SHORT * count / max(found.seconds, 1e-3)), most))
        found = timed(model, hardware, lambda: measure(noise(model, count)))
    return found * (1 / count)


def planned(model: Classifier, passes: int, hardware: Hardware, more: str = "") -> Effort:
    """What so many passes forward take, by one that is timed."""
    return Effort(passes * seconds_per_pass(hardware.host(model), hardware), passes, more)


def timed(model: Classifier, hardware: Hardware, work: Callable[[], object]) -> Effort:
    """What the work takes when the network is warm."""
    seconds_per_pass(model, hardware)
    with counting(model) as passes:
        begun = time.perf_counter()
        work()
    return Effort(time.perf_counter() - begun, passes.forward + passes.backward)


def noise(model: Classifier, count: int) -> Batch:
    """Photos of noise, the same always."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, model.channels, *model.input_shape, generator=generator)
    return Batch([f"noise-{place}" for place in range(count)], images, torch.zeros(count, dtype=torch.long))


@dataclass(frozen=True)
class OfPhoto:
    """What one photo takes in a training.

    Attributes:
        trained: in a step: its map with a graph, and the gradient in all weights.
        explained: its map alone.
        asked: the answer alone.
    """

    trained: Effort
    explained: Effort
    asked: Effort


def of_training(model: Classifier, explainer: Explainer, hardware: Hardware) -> OfPhoto | None:
    """What one photo of a training takes, where everything is trained.

    Returns:
        ``None`` where the explainer cannot be trained: the work itself says why.
    """
    own = deepcopy(hardware.host(model)).eval()
    weights = [value for value in own.parameters() if value.is_floating_point()]
    for value in weights:
        value.requires_grad_()

    def explain(images: Images, create_graph: bool = False) -> Explanation:
        with hardware.autocast():
            return without_relu(explainer)(own, images, create_graph=create_graph)

    def step(images: Images) -> None:
        found = explain(images, create_graph=True)
        loss = found.heatmaps.float().square().sum() + found.logits.float().square().sum()
        gradients = torch.autograd.grad(loss, weights, materialize_grads=True, allow_unused=True)
        # a number on the host: the device is done
        float(torch.stack([gradient.sum() for gradient in gradients]).sum())

    def rehearsed(count: int) -> tuple[Effort, Effort]:
        images = hardware.bring(noise(own, count).images)
        step(images)
        trained, explained = (timed(own, hardware, lambda work=work: work(images)) for work in (step, explain))
        return trained * (1 / count), explained * (1 / count)

    try:
        trained, explained = rehearsed(TRAINED)
        if trained.seconds * BATCH < SHORT:
            trained, explained = rehearsed(BATCH)
    except (HeatproofError, RuntimeError):
        return None
    return OfPhoto(trained, explained, planned(own, 1, hardware))


def rear_share(model: Classifier, layer: str | None, hardware: Hardware) -> float:
    """The share of a pass's time from the layer on, where what lies before it is computed once."""
    halves = split_at(model, layer) if layer else None
    if halves is None:
        return 1.0
    images = hardware.bring(noise(model, TIMED).images)
    with torch.no_grad(), evaluating(model):
        activation = halves.front(images)
        front, rear = (_seconds(half, given) for half, given in ((halves.front, images), (halves.rear, activation)))
    return rear / (front + rear)


def _seconds(half: nn.Module, given: Tensor) -> float:
    """Of a pass when the network is warm; a number on the host: the device is done."""
    float(half(given).sum())
    begun = time.perf_counter()
    float(half(given).sum())
    return time.perf_counter() - begun
