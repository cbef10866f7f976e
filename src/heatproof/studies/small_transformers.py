"""A small ViT and a small Swin for 32x32 photos, and for the demo's scenes brought to that size.

``small_transformers.py:vit@vit.safetensors`` loads one; :func:`~heatproof.studies.small_networks.train` makes the file
from photos, :func:`heatproof.studies.scene_training.train_on_scenes` from scenes.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from heatproof.models.hardware import computes_in_bf16
from heatproof.studies import from_scratch
from heatproof.studies.small_networks import CLASSES
from heatproof.training.feeds import Feed
from heatproof.types import Images, Logits
from heatproof.vision import torchvision

SIZE, PATCH = 32, 4
CELLS = SIZE // PATCH
RISE = 0.1
"""The share of a one-cycle learning rate at which it is highest."""
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

    def half(network: nn.Module, images: Images, done: float, generator: torch.Generator) -> Logits:
        shown = None
        if done < 0.75 and isinstance(network, VisionTransformer):
            shown = torch.rand(len(images), CELLS**2, generator=generator).argsort(1)[:, : CELLS**2 // 2]
        return logits_of(network, images, shown)

    from_scratch.train_on_photos(
        build,
        file,
        feed,
        adamw,
        half,
        lr=lr,
        rise=RISE,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        say=say,
    )


def adamw(network: nn.Module) -> torch.optim.AdamW:
    """What both trainings go by; its learning rate is the schedule's."""
    return torch.optim.AdamW(network.parameters(), lr=1.0, weight_decay=0.05)


def logits_of(network: nn.Module, images: Images, patches: Int[Tensor, "batch patches"] | None = None) -> Logits:
    """Of these patches alone, by number, where a vision transformer is given them."""
    return answers_of(network, images, patches)[0]


def answers_of(
    network: nn.Module, images: Images, patches: Int[Tensor, "batch patches"] | None = None
) -> tuple[Logits, Float[Tensor, "batch cells classes"]]:
    """The logits, and what the same head says of each cell of the last grid alone."""
    last: list[Tensor] = []

    def keep(module: nn.Module, args: Any, normed: Tensor) -> None:
        last.append(normed)

    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (network.mean, network.std))
    images = (images - mean) / std
    with ExitStack() as inside:
        if patches is not None:
            inside.enter_context(only(network, patches))
        inside.enter_context(_written_out(network))
        inside.enter_context(torch.autocast("cpu", torch.bfloat16, enabled=BF16))
        with network.get_submodule("norm").register_forward_hook(keep):
            logits = network(images)
        normed = last[0].flatten(1, -2)
        cells = normed[:, 1:] if isinstance(network, VisionTransformer) else normed
        return logits.float(), network.get_submodule("head")(cells).float()


@contextmanager
def _written_out(network: nn.Module) -> Generator[None]:
    """Inside, timm's attention is two products and a softmax.

    The fused attention's derivative is slow in bfloat16: a step takes twice the time, and 1.4 times with torch's own
    writing out, which also guards rows that are masked whole.
    """
    fused: list[Any] = [module for module in network.modules() if getattr(module, "fused_attn", False)]
    try:
        for module in fused:
            module.fused_attn = False
        yield
    finally:
        for module in fused:
            module.fused_attn = True


@contextmanager
def only(network: nn.Module, patches: Int[Tensor, "batch patches"]) -> Generator[None]:
    """Inside, the blocks are given the class token and these patches, which know their places already."""

    def keep(module: nn.Module, args: Any, tokens: Tensor) -> Tensor:
        chosen = tokens[:, 1:].gather(1, patches[:, :, None].expand(-1, -1, tokens.shape[2]))
        return torch.cat([tokens[:, :1], chosen], 1)

    hook = network.get_submodule("patch_drop").register_forward_hook(keep)
    try:
        yield
    finally:
        hook.remove()
