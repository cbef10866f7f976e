"""A small ViT and a small Swin for 32x32 photos, and for the demo's scenes brought to that size.

``small_transformers.py:vit@vit.safetensors`` loads one; :func:`~heatproof.studies.small_networks.train` makes the file
from photos, :func:`train_on_scenes` from scenes that are never shown twice.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import save
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from heatproof.data.scenes import BLOCK, SIDE, scenes
from heatproof.errors import InputError
from heatproof.models.hardware import computes_in_bf16
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.whole import write_whole
from heatproof.studies.small_networks import CLASSES
from heatproof.training.feeds import Fed, Feed
from heatproof.training.plain import train as train_plainly
from heatproof.types import Images, Logits
from heatproof.vision import torchvision

SIZE, PATCH = 32, 4
CELLS = SIZE // PATCH
WINDOWS = {4: 0.4, 5: 0.7, 6: 0.8, CELLS: 1.0}
"""Sides of the windows of scenes that are trained on, in patches, and until which share of the training."""
COLOURED = 0.15
"""The share of the training at which scenes have their own colours."""
POOL = 65536
"""Scenes of one digit that are drawn to train on at most; half as many of two."""
BF16 = computes_in_bf16(torch.device("cpu"))
"""Whether training computes in bfloat16."""
DIGITS = [str(digit) for digit in range(10)]


def vit() -> nn.Module:
    """timm's vision transformer: patches of 4, width 96, 6 blocks of 3 heads, a class token; 64 tokens of an image."""
    network = VisionTransformer(
        img_size=SIZE,
        patch_size=PATCH,
        embed_dim=96,
        depth=6,
        num_heads=3,
        mlp_ratio=2,
        num_classes=len(CLASSES),
        weight_init="jax",
    )
    # a head of zeros, which this initialisation leaves, has no gradient
    nn.init.trunc_normal_(network.get_parameter("head.weight"), std=0.02)
    return _ready(network, CLASSES, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26))


def swin() -> nn.Module:
    """torchvision's Swin: patches of 2, windows of 4x4, two blocks each at 16x16, 8x8 and 4x4 cells."""
    network = torchvision.models.SwinTransformer(
        [2, 2], 32, [2, 2, 2], [2, 4, 8], [4, 4], mlp_ratio=2, stochastic_depth_prob=0.0, num_classes=len(CLASSES)
    )
    return _ready(network, CLASSES, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26))


def vit_scenes() -> nn.Module:
    """:func:`vit` for the demo's scenes, which come to it as :func:`small` makes them."""
    return _of_scenes(vit())


def swin_scenes() -> nn.Module:
    """:func:`swin` for the demo's scenes, which come to it as :func:`small` makes them."""
    return _of_scenes(swin())


def _of_scenes(network: nn.Module) -> nn.Module:
    # nothing of a scene is cropped, and the mean of four pixels is Pillow's box
    for name, value in (("resize", SIZE), ("interpolation", "box")):
        setattr(network, name, value)
    return _ready(network, DIGITS, (0.5,) * 3, (0.25,) * 3)


def _ready(network: nn.Module, classes: Sequence[str], mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """The network says on itself what images it takes."""
    for name, value in (("mean", tuple(mean)), ("std", tuple(std)), ("input_size", SIZE), ("classes", list(classes))):
        setattr(network, name, value)
    return network.eval()


def small(images: Images) -> Float[Tensor, "batch channels rows cols"]:
    """Scenes at the size of these networks: each pixel the mean of four.

    >>> small(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1, 3, 32, 32])
    """
    return F.avg_pool2d(images, 2)


def train_on_photos(
    build: Callable[[], nn.Module],
    file: Path,
    feed: Feed,
    *,
    epochs: int = 16,
    batch_size: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> None:
    """Train from scratch into ``file`` (safetensors); one that was stopped goes on at its last whole epoch.

    AdamW with a one-cycle learning rate; photos are mirrored half of the time, and until the last quarter a vision
    transformer is shown a random half of each photo's patches, at half the cost.

    **Source** Liu et al. 2022 (PatchDropout: Economizing Vision Transformers Using Patch Dropout).

    Args:
        feed: all training images.

    Raises:
        InputError: there are fewer images than one batch takes.
    """
    if file.exists():
        return
    if len(feed) < batch_size:
        raise InputError(f"{file.stem} is trained on batches of {batch_size} photos, and there are {len(feed)}")
    generator = torch.Generator().manual_seed(seed)
    each, right = len(feed) // batch_size, 0
    steps = epochs * each

    def wrong(network: nn.Module, fed: Fed, step: int) -> Tensor:
        nonlocal right
        mirrored = torch.rand(len(fed.labels), generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], fed.images.flip(3), fed.images)
        half = None
        if step < 0.75 * steps and isinstance(network, VisionTransformer):
            half = torch.rand(len(images), CELLS**2, generator=generator).argsort(1)[:, : CELLS**2 // 2]
        logits = _logits(network, images, half)
        right += int((logits.argmax(1) == fed.labels).sum())
        return F.cross_entropy(logits, fed.labels)

    def advance(done: int, loss: float) -> None:
        nonlocal right
        if done % each == 0:
            say(f"{file.stem}: epoch {done // each} of {epochs}, {right / (each * batch_size):.1%} right in training")
            right = 0

    def batches(done: int) -> Iterable[Fed]:
        return feed.stream(batch_size, steps, seed, done)

    _train(build, file, batches, wrong, steps, lr, seed, each, advance, generator)


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
    Phase(6400, CELLS, two=(0.0, 0.75), lr=1e-3),
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
    if file.exists():
        return
    total = sum(phase.steps for phase in phases)
    steps = total if steps is None else steps
    ends = [round(steps * end / total) for end in accumulate(phase.steps for phase in phases)]
    every = max(1, steps // 40)
    one, two = (_Pool.drawn(min(POOL, steps * batch_size), seed, digits) for digits in (1, 2))
    generator = torch.Generator().manual_seed(seed)

    def wrong(network: nn.Module, batch: int, step: int) -> Tensor:
        number = bisect_right(ends, step)
        phase, begin = phases[number], ends[number - 1] if number else 0
        done = (step - begin) / (ends[number] - begin)

        def now(values: tuple[float, float]) -> float:
            return values[0] + (values[1] - values[0]) * done

        pairs = round(batch_size * now(phase.two))
        parts = [one.batch(batch_size - pairs, generator), two.batch(pairs, generator)]
        images, wanted, centres = (torch.cat(kind) for kind in zip(*parts, strict=True))
        if grey := now(phase.grey):
            images = torch.lerp(images, _plain(images), grey)
        shown = None if phase.side == CELLS else _window(centres, phase.side)
        if phase.others != (0, 0):
            shown = _with_others(shown, round(now(phase.others)), generator)
        return F.cross_entropy(_logits(network, images, shown), wanted)

    losses: list[float] = []

    def advance(done: int, loss: float) -> None:
        losses.append(loss)
        if done % every == 0:
            say(f"{file.stem}: step {done} of {steps}, loss {sum(losses) / len(losses):.3f}")
            losses.clear()

    _train(build, file, lambda done: range(done, steps), wrong, steps, _rates(phases, ends), seed, every, advance, generator)


def _with_others(window, count, generator):
    """The window and ``count`` other patches of each image."""
    order = torch.rand(len(window), CELLS**2, generator=generator).scatter_(1, window, -1.0).argsort(1)
    return order[:, : window.shape[1] + count]


def _rates(phases, ends):
    """The learning rate of each step"""
    starts = [0, *ends[:-1]]
    cycles = [(start, phase.lr) for start, phase in zip(starts, phases, strict=True) if phase.lr is not None]

    def rate(step: int) -> float:
        number = bisect_right([start for start, _ in cycles], step) - 1
        begin, peak = cycles[number]
        end = cycles[number + 1][0] if number + 1 < len(cycles) else ends[-1]
        done, rise = (step - begin) / (end - begin), 0.1
        if done < rise:
            return peak * (0.04 + 0.96 * (1 - math.cos(math.pi * done / rise)) / 2)
        return peak * (1 + math.cos(math.pi * (done - rise) / (1 - rise))) / 2

    return rate


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

    def batch(self, size: int, generator: torch.Generator) -> tuple[Images, Tensor, Tensor]:
        chosen = torch.randint(len(self.images), (size,), generator=generator)
        return self.images[chosen].float() / 255, self.wanted[chosen], self.centres[chosen]


def _plain(images: Images) -> Images:
    """How far each pixel is from the median colour of its image, the farthest 1."""
    ground = images.flatten(2).median(2).values[:, :, None, None]
    away = (images - ground).abs().mean(1, keepdim=True)
    return (away / away.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)).expand_as(images)


def _window(centres: Float[Tensor, "batch 2"], side: int) -> Int[Tensor, "batch patches"]:
    """Numbers of the patches of a square window around each centre, as far as the grid allows."""
    first = (centres - side / 2).round().long().clamp(0, CELLS - side)
    along = torch.arange(side)
    return ((first[:, 1, None, None] + along[:, None]) * CELLS + first[:, 0, None, None] + along).flatten(1)


T = TypeVar("T")


def _train(
    build: Callable[[], nn.Module],
    file: Path,
    batches: Callable[[int], Iterable[T]],
    loss: Callable[[nn.Module, T, int], Tensor],
    steps: int,
    lr: float,
    seed: int,
    every: int,
    advance: Callable[[int, float], None],
    generator: torch.Generator | None = None,
) -> None:
    """The network of ``build``, trained into ``file``; a checkpoint lies beside it meanwhile."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build().train()
    one_cycle = isinstance(lr, float)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr if one_cycle else 1.0, weight_decay=0.05)
    checkpoint = FileCheckpoint(file.with_suffix(".partial.pt"))
    train_plainly(
        network,
        optimizer,
        torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
        if one_cycle
        else torch.optim.lr_scheduler.LambdaLR(optimizer, lr),
        batches,
        lambda batch, step: loss(network, batch, step),
        steps=steps,
        checkpoint=checkpoint,
        every=every,
        generator=generator,
        advance=advance,
    )
    write_whole(file, save(network.state_dict()))
    checkpoint.path.unlink(missing_ok=True)


def _logits(network: nn.Module, images: Images, patches: Int[Tensor, "batch patches"] | None = None) -> Logits:
    """Of these patches alone, by number, where they are given; for any network but a ViT they make a square."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (network.mean, network.std))
    images = (images - mean) / std
    with ExitStack() as inside:
        if patches is not None and isinstance(network, VisionTransformer):
            inside.enter_context(_kept(network, patches))
        elif patches is not None:
            images = _cut(images, patches)
        # the fused attention's derivative is slow in bfloat16: with attention written out a step takes 0.6 of its time
        inside.enter_context(sdpa_kernel(SDPBackend.MATH))
        inside.enter_context(torch.autocast("cpu", torch.bfloat16, enabled=BF16))
        return network(images).float()


@contextmanager
def _kept(network: VisionTransformer, patches: Int[Tensor, "batch patches"]) -> Generator[None]:
    """Inside, the blocks are given the class token and these patches, which know their places already."""

    def keep(module: nn.Module, args: Any, tokens: Tensor) -> Tensor:
        chosen = tokens[:, 1:].gather(1, patches[:, :, None].expand(-1, -1, tokens.shape[2]))
        return torch.cat([tokens[:, :1], chosen], 1)

    hook = network.get_submodule("patch_drop").register_forward_hook(keep)
    try:
        yield
    finally:
        hook.remove()


def _cut(images: Images, patches: Int[Tensor, "batch patches"]) -> Float[Tensor, "batch channels side side"]:
    """The window of each image that these patches make."""
    side = math.isqrt(patches.shape[1])
    corners = torch.stack([patches[:, 0] // CELLS, patches[:, 0] % CELLS], 1) * PATCH
    reach = side * PATCH
    return torch.stack(
        [image[:, y : y + reach, x : x + reach] for image, (y, x) in zip(images, corners.tolist(), strict=True)]
    )
