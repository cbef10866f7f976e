"""A small ViT and a small Swin for 32x32 photos, and for the demo's scenes brought to that size.

``small_transformers.py:vit@vit.safetensors`` loads one; :func:`~heatproof.studies.small_networks.train` makes the file
from photos, :func:`train_on_scenes` from scenes that are never shown twice.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from heatproof.data.scenes import scenes
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
BF16 = computes_in_bf16(torch.device("cpu"))
"""Whether training computes in bfloat16."""
DIGITS = [str(digit) for digit in range(10)]


def vit() -> nn.Module:
    """timm's vision transformer: patches of 4, width 96, 6 blocks of 3 heads, a class token; 64 tokens of an image."""
    from timm.models.vision_transformer import VisionTransformer

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
    nn.init.trunc_normal_(network.head.weight, std=0.02)
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
    epochs: int = 24,
    batch_size: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> None:
    """Train from scratch into ``file`` (safetensors); one that was stopped goes on at its last whole epoch.

    AdamW with a one-cycle learning rate.

    Args:
        feed: all training images; how they are cropped and mirrored is the feed's affair.

    Raises:
        InputError: there are fewer images than one batch takes.
    """
    if file.exists():
        return
    if len(feed) < batch_size:
        raise InputError(f"{file.stem} is trained on batches of {batch_size} photos, and there are {len(feed)}")
    each, right = len(feed) // batch_size, 0

    def wrong(network: nn.Module, fed: Fed, step: int) -> Tensor:
        nonlocal right
        logits = _logits(network, fed.images)
        right += int((logits.argmax(1) == fed.labels).sum())
        return F.cross_entropy(logits, fed.labels)

    def advance(done: int, loss: float) -> None:
        nonlocal right
        if done % each == 0:
            say(f"{file.stem}: epoch {done // each} of {epochs}, {right / (each * batch_size):.1%} right in training")
            right = 0

    steps = epochs * each
    _train(build, file, lambda done: feed.stream(batch_size, steps, seed, done), wrong, steps, lr, seed, each, advance)


def train_on_scenes(
    build: Callable[[], nn.Module],
    file: Path,
    *,
    steps: int = 3000,
    batch_size: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> None:
    """Train from scratch into ``file`` (safetensors); one that was stopped goes on at its last checkpoint.

    AdamW with a one-cycle learning rate; of every batch a third shows two digits, wanted at one half each.
    """
    if file.exists():
        return
    every = max(1, steps // 10)

    def wrong(network: nn.Module, drawn: tuple[Images, Tensor], step: int) -> Tensor:
        images, wanted = drawn
        return F.cross_entropy(_logits(network, images), wanted)

    def advance(done: int, loss: float) -> None:
        if done % every == 0:
            say(f"{file.stem}: step {done} of {steps}, loss {loss:.3f}")

    def drawn(done: int) -> Iterable[tuple[Images, Tensor]]:
        return islice(_rounds(batch_size, seed), done, steps)

    _train(build, file, drawn, wrong, steps, lr, seed, every, advance)


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
) -> None:
    """The network of ``build``, trained into ``file``; a checkpoint lies beside it meanwhile."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.05)
    checkpoint = FileCheckpoint(file.with_suffix(".partial.pt"))
    train_plainly(
        network,
        optimizer,
        torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1),
        batches,
        lambda batch, step: loss(network, batch, step),
        steps=steps,
        checkpoint=checkpoint,
        every=every,
        advance=advance,
    )
    write_whole(file, save(network.state_dict()))
    checkpoint.path.unlink(missing_ok=True)


def _logits(network: nn.Module, images: Images) -> Logits:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (network.mean, network.std))
    # the fused attention's derivative is slow in bfloat16: with attention written out a step takes 0.6 of its time
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16, enabled=BF16):
        return network((images - mean) / std).float()


def _rounds(batch_size: int, seed: int) -> Iterator[tuple[Images, Float[Tensor, "batch 10"]]]:
    """Endless batches of fresh scenes; of three, one shows two digits."""
    generator = torch.Generator().manual_seed(seed)
    number = 1000 * seed - 1
    while True:
        number += 1
        drawn = [scenes(64 * (3 - digits), number, "train", digits) for digits in (1, 2)]
        images = small(torch.cat([part.images for part in drawn]))
        wanted = torch.cat([F.one_hot(part.labels.view(len(part.images), -1), 10).float().mean(1) for part in drawn])
        for chosen in torch.randperm(len(images), generator=generator).split(batch_size):
            yield images[chosen], wanted[chosen]
