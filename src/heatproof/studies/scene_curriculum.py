"""The small transformers' training on scenes, by a curriculum: the digit alone first, the whole scene of two at last.

From whole scenes neither network learns within a quarter of an hour: it has to find the digit before it can read it.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from timm.models.vision_transformer import VisionTransformer
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from heatproof.data.scenes import BLOCK, SIDE, scenes
from heatproof.studies.from_scratch import train_from_scratch
from heatproof.studies.small_transformers import CELLS, DIGITS, RISE, adamw, logits_of, small
from heatproof.types import Images

POOL = 65536
"""Scenes of one digit, and of two, that are drawn to train on at most."""


@dataclass(frozen=True)
class Phase:
    """A part of a training on scenes; what has two values goes evenly from the first to the second.

    Attributes:
        steps: its length.
        side: of the window around the digit that is shown, in patches; :data:`CELLS` is the whole scene.
        others: how many patches are shown beside the window, drawn anew for each scene.
        grey: how much of the distance from the ground is blended into the scene's colours, a share.
        two: the share of scenes of two digits.
        lr: peak of a one-cycle learning rate that begins here; without it the cycle before goes on.
    """

    steps: int
    side: int
    others: tuple[int, int] = (0, 0)
    grey: tuple[float, float] = (0.0, 0.0)
    two: tuple[float, float] = (0.0, 0.0)
    lr: float | None = None


PHASES = (
    Phase(1200, 4, grey=(1.0, 0.0), lr=2e-3),
    Phase(1600, 4),
    Phase(1600, 5),
    Phase(800, 6),
    Phase(2400, 6, others=(0, CELLS**2 - 36), lr=1.5e-3),
    Phase(2200, CELLS, two=(0.0, 0.26), lr=1e-3),
    Phase(4600, CELLS, two=(0.6, 0.8), lr=1e-3),
)


def train_on_scenes(
    build: Callable[[], nn.Module],
    file: Path,
    *,
    phases: Sequence[Phase] = PHASES,
    steps: int | None = None,
    batch_size: int = 64,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> None:
    """Train from scratch into ``file`` (safetensors); one that was stopped goes on at its last checkpoint.

    AdamW; cross-entropy to the digit, and to one half each in scenes of two.

    Args:
        phases: one after the other.
        steps: of all phases together, which are stretched or shortened alike; by default they keep their lengths.
    """
    if file.exists():
        return
    course = _Course.of(phases, steps)
    steps = course.ends[-1]
    every = max(1, steps // 40)
    one, two = (_Pool.drawn(min(POOL, steps * batch_size), seed, digits) for digits in (1, 2))
    generator = Generator().manual_seed(seed)
    losses: list[float] = []

    def loss(network: nn.Module, batch: int, step: int) -> Tensor:
        phase, done = course.at(step)
        pairs = round(batch_size * _between(phase.two, done))
        parts = [one.batch(batch_size - pairs, generator), two.batch(pairs, generator)]
        images, wanted, centres = (torch.cat(kind) for kind in zip(*parts, strict=True))
        if grey := _between(phase.grey, done):
            images = torch.lerp(images, distances(images), grey)
        shown = None if phase.side == CELLS else window(centres, phase.side)
        if shown is not None and phase.others != (0, 0):
            shown = with_others(shown, round(_between(phase.others, done)), generator)
            if not isinstance(network, VisionTransformer):
                # only a vision transformer can leave patches out that make no square
                images, shown = painted(images, shown), None
        return F.cross_entropy(logits_of(network, images, shown), wanted)

    def advance(done: int, loss: float) -> None:
        losses.append(loss)
        if done % every == 0:
            say(f"{file.stem}: step {done} of {steps}, loss {sum(losses) / len(losses):.3f}")
            losses.clear()

    train_from_scratch(
        build,
        file,
        adamw,
        lambda optimizer: LambdaLR(optimizer, lambda step: course.rate(step)),
        lambda done: range(done, steps),
        loss,
        steps=steps,
        every=every,
        seed=seed,
        generator=generator,
        advance=advance,
    )


@dataclass(frozen=True)
class _Course:
    """Phases, and the steps before which they end."""

    phases: Sequence[Phase]
    ends: Sequence[int]

    @classmethod
    def of(cls, phases: Sequence[Phase], steps: int | None) -> "_Course":
        lengths = list(accumulate(phase.steps for phase in phases))
        stretch = 1 if steps is None else steps / lengths[-1]
        return cls(phases, [round(end * stretch) for end in lengths])

    def at(self, step: int) -> tuple[Phase, float]:
        """The phase of this step, and the share of it that is done."""
        number = bisect_right(self.ends, step)
        begin = self.ends[number - 1] if number else 0
        return self.phases[number], (step - begin) / (self.ends[number] - begin)

    def rate(self, step: int) -> float:
        """The learning rate: up along half a cosine from a 25th of the cycle's peak, down along another to 0."""
        starts = [0, *self.ends[:-1]]
        peaks = {begin: phase.lr for begin, phase in zip(starts, self.phases, strict=True) if phase.lr is not None}
        begin = max(begin for begin in peaks if begin <= step)
        end = min((other for other in peaks if other > step), default=self.ends[-1])
        done, peak = (step - begin) / (end - begin), peaks[begin]
        if done < RISE:
            return peak * (1 / 25 + 24 / 25 * (1 - math.cos(math.pi * done / RISE)) / 2)
        return peak * (1 + math.cos(math.pi * (done - RISE) / (1 - RISE))) / 2


def _between(values: tuple[float, float], done: float) -> float:
    return values[0] + (values[1] - values[0]) * done


@dataclass(frozen=True)
class _Pool:
    """Scenes that are drawn once, since drawing a scene takes as long as learning from it.

    Attributes:
        images: whole grey levels.
        wanted: a share per class.
        centres: of the first digit's box (x, y), in patches.
    """

    images: Tensor
    wanted: Float[Tensor, "scenes 10"]
    centres: Float[Tensor, "scenes 2"]

    @classmethod
    def drawn(cls, count: int, seed: int, digits: int) -> "_Pool":
        images, labels, centres = list[Tensor](), list[Tensor](), list[Tensor]()
        for number in range(math.ceil(count / BLOCK)):
            part = scenes(BLOCK, 10_000 * seed + number, "train", digits)
            box = part.boxes[:, 0].float()
            images.append((small(part.images) * 255).round().byte())
            labels.append(part.labels.view(BLOCK, digits))
            centres.append((box[:, :2] + box[:, 2:]) / 2 * CELLS / SIDE)
        wanted = F.one_hot(torch.cat(labels), len(DIGITS)).float().mean(1)
        return cls(torch.cat(images), wanted, torch.cat(centres))

    def batch(self, size: int, generator: Generator) -> tuple[Images, Tensor, Tensor]:
        chosen = torch.randint(len(self.images), (size,), generator=generator)
        return self.images[chosen].float() / 255, self.wanted[chosen], self.centres[chosen]


def ground(images: Images) -> Float[Tensor, "batch channels 1 1"]:
    """The median colour of each image."""
    return images.flatten(2).median(2).values[:, :, None, None]


def painted(images: Images, shown: Int[Tensor, "batch patches"]) -> Images:
    """The patches that are not shown have the colour of the ground."""
    visible = torch.zeros(len(images), CELLS**2).scatter_(1, shown, 1.0).view(-1, 1, CELLS, CELLS)
    return torch.where(F.interpolate(visible, size=images.shape[2:]) > 0, images, ground(images))


def distances(images: Images) -> Images:
    """How far each pixel is from the median colour of its image, the farthest 1."""
    away = (images - ground(images)).abs().mean(1, keepdim=True)
    return (away / away.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)).expand_as(images)


def window(centres: Float[Tensor, "batch 2"], side: int) -> Int[Tensor, "batch patches"]:
    """Numbers of the patches of a square window around each centre, as far as the grid allows."""
    first = (centres - side / 2).round().long().clamp(0, CELLS - side)
    along = torch.arange(side)
    return ((first[:, 1, None, None] + along[:, None]) * CELLS + first[:, 0, None, None] + along).flatten(1)


def with_others(
    shown: Int[Tensor, "batch patches"], count: int, generator: Generator
) -> Int[Tensor, "batch more_patches"]:
    """The patches of a window and ``count`` others of each image, drawn evenly."""
    order = torch.rand(len(shown), CELLS**2, generator=generator).scatter_(1, shown, -1.0).argsort(1)
    return order[:, : shown.shape[1] + count]
