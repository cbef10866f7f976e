"""The small transformers' training on scenes, in which every cell of the last grid answers for what it shows.

From whole scenes and their labels alone neither network learns within a quarter of an hour: it has to find the digit
before it can read it. That a cell is asked for its own digit tells it where to look.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from heatproof.data.scenes import BLOCK, SIDE, scenes
from heatproof.studies.from_scratch import train_from_scratch
from heatproof.studies.small_transformers import CELLS, DIGITS, RISE, adamw, answers_of, small
from heatproof.types import Images

POOL = 65536
"""Scenes of one digit, and of two, that are drawn to train on at most."""
TWO = 0.6
"""The share of scenes of two digits."""


def train_on_scenes(
    build: Callable[[], nn.Module],
    file: Path,
    *,
    steps: int = 10_000,
    batch_size: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> None:
    """Train from scratch into ``file`` (safetensors); one that was stopped goes on at its last checkpoint.

    AdamW with a one-cycle learning rate; cross-entropy to the digit, to one half each in scenes of two, and
    :func:`cells_loss`.

    Args:
        lr: peak of the learning rate.
    """
    if file.exists():
        return
    every = max(1, steps // 40)
    one, two = (_Pool.drawn(min(POOL, steps * batch_size), seed, digits) for digits in (1, 2))
    generator = Generator().manual_seed(seed)
    pairs = round(batch_size * TWO)
    losses: list[float] = []

    def loss(network: nn.Module, batch: int, step: int) -> Tensor:
        parts = [one.batch(batch_size - pairs, generator), two.batch(pairs, generator)]
        images, wanted, covering = (torch.cat(kind) for kind in zip(*parts, strict=True))
        logits, cells = answers_of(network, images)
        return F.cross_entropy(logits, wanted) + cells_loss(cells, covering)

    def advance(done: int, loss: float) -> None:
        losses.append(loss)
        if done % every == 0:
            say(f"{file.stem}: step {done} of {steps}, loss {sum(losses) / len(losses):.3f}")
            losses.clear()

    train_from_scratch(
        build,
        file,
        adamw,
        lambda optimizer: OneCycleLR(optimizer, lr, total_steps=steps, pct_start=RISE),
        lambda done: range(done, steps),
        loss,
        steps=steps,
        every=every,
        seed=seed,
        generator=generator,
        advance=advance,
    )


@dataclass(frozen=True)
class _Pool:
    """Scenes that are drawn once, since drawing a scene takes as long as learning from it.

    Attributes:
        images: whole grey levels.
        boxes, labels: of each digit.
    """

    images: Tensor
    boxes: Int[Tensor, "scenes digits 4"]
    labels: Int[Tensor, "scenes digits"]

    @classmethod
    def drawn(cls, count: int, seed: int, digits: int) -> "_Pool":
        parts = [scenes(BLOCK, 10_000 * seed + n, "train", digits) for n in range(math.ceil(count / BLOCK))]
        images = torch.cat([(small(part.images) * 255).round().byte() for part in parts])
        return cls(images, torch.cat([p.boxes for p in parts]), torch.cat([p.labels.view(BLOCK, -1) for p in parts]))

    def batch(self, size: int, generator: Generator) -> tuple[Images, Tensor, Tensor]:
        """Scenes, the share that is wanted of each class, and how much of each patch a digit of each class covers."""
        chosen = torch.randint(len(self.images), (size,), generator=generator)
        labels = self.labels[chosen]
        wanted = F.one_hot(labels, len(DIGITS)).float().mean(1)
        return self.images[chosen].float() / 255, wanted, covered(self.boxes[chosen], labels)


def covered(
    boxes: Int[Tensor, "batch digits 4"], labels: Int[Tensor, "batch digits"]
) -> Float[Tensor, "batch classes rows cols"]:
    """The share of each patch that lies in the box of a digit of each class."""
    edges = torch.arange(CELLS + 1) * SIDE / CELLS
    low, high = boxes[..., :2, None], boxes[..., 2:, None]
    along = (torch.minimum(high, edges[1:]) - torch.maximum(low, edges[:-1])).clamp(min=0) * CELLS / SIDE
    of_class = F.one_hot(labels, len(DIGITS)).float()
    return torch.einsum("bdk,bdx,bdy->bkyx", of_class, along[:, :, 0], along[:, :, 1])


def cells_loss(
    answers: Float[Tensor, "batch cells classes"], covering: Float[Tensor, "batch classes rows cols"]
) -> Float[Tensor, ""]:
    """Cross-entropy of each cell alone: to the digit whose box covers it, and to all digits alike where none does.

    The mean over what is covered, plus that over what is not; a cell is a patch or some of them. **Source** Jiang et
    al. 2021 (All Tokens Matter: Token Labeling for Training Better Vision Transformers), whose labels are what a larger
    network says of each token; here they are known. The two means are [ours]: most cells show no digit.
    """
    side = math.isqrt(answers.shape[1])
    shares = F.adaptive_avg_pool2d(covering, side).flatten(2).transpose(1, 2)
    inside = shares.sum(2)
    wanted = shares + (1 - inside[..., None]) / len(DIGITS)
    each = F.cross_entropy(answers.flatten(0, 1), wanted.flatten(0, 1), reduction="none").view_as(inside)
    return (each * inside).sum() / inside.sum() + (each * (1 - inside)).sum() / (1 - inside).sum()
