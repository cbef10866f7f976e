"""Ten small convolutional networks for 32x32 photos, of kinds that the audit's population does not have.

``small_families.py:fire@fire.safetensors`` loads one; :func:`train` makes the file, :func:`trained` both.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from heatproof.data.sources import open_data
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.studies import from_scratch
from heatproof.studies.small_networks import CLASSES, SmallNetwork, ready
from heatproof.training.data import feed_photos
from heatproof.training.feeds import Feed
from heatproof.types import Images, Logits


class Branches(nn.Module):
    """What several branches make of the same maps, concatenated."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Residual(nn.Module):
    """The maps, brought to the size of the branch where that differs, plus the branch; then an activation."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None, after: nn.Module | None = None):
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut or nn.Identity()
        self.after = after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.shortcut(x) + self.branch(x))


class Excitation(nn.Module):
    """Every map times a weight in [0, 1] that all maps' means decide (Hu et al. 2018)."""

    def __init__(self, width: int):
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width // 4, 1), nn.ReLU(), nn.Conv2d(width // 4, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x).sigmoid()


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each cell."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def conv(inputs: int, width: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    layer = nn.Conv2d(inputs, width, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(width), nn.ReLU())


def linear_conv(inputs: int, width: int, size: int = 1, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm."""
    return nn.Sequential(nn.Conv2d(inputs, width, size, stride, size // 2, bias=False), nn.BatchNorm2d(width))


def plain() -> SmallNetwork:
    """Six 3x3 convolutions with bias and ReLU, without any norm."""
    layers: list[nn.Module] = []
    inputs = 3
    for width, pooled in ((24, False), (24, True), (48, False), (48, True), (96, False), (96, False)):
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if pooled else [])]
        inputs = width
    return _pooled(layers, 96)


def strided() -> SmallNetwork:
    """All convolutional (Springenberg et al. 2015): strides in the place of pooling, ELU, batch norm."""
    layers: list[nn.Module] = []
    inputs = 3
    for width, stride in ((24, 1), (32, 2), (48, 1), (64, 2), (96, 1), (96, 1)):
        layers += [nn.Conv2d(inputs, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ELU()]
        inputs = width
    return _pooled(layers, 96)


def grouped_norm() -> SmallNetwork:
    """3x3 convolutions with group norm and leaky ReLU, average poolings."""
    layers: list[nn.Module] = []
    inputs = 3
    for width, pooled in ((24, False), (32, True), (48, False), (64, True), (96, False)):
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.GroupNorm(4, width), nn.LeakyReLU(0.1)]
        layers += [nn.AvgPool2d(2)] if pooled else []
        inputs = width
    return _pooled(layers, 96)


def inverted() -> SmallNetwork:
    """Inverted residuals with depthwise convolutions and ReLU6 (MobileNetV2, Sandler et al. 2018)."""
    layers: list[nn.Module] = [conv(3, 16, 3, 2)]
    inputs = 16
    for width, stride in ((24, 1), (24, 1), (40, 2), (40, 1), (40, 1)):
        wide = 4 * inputs
        branch = nn.Sequential(
            OrderedDict(
                expand=nn.Sequential(nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()),
                depthwise=nn.Sequential(
                    nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()
                ),
                project=linear_conv(wide, width),
            )
        )
        layers += [Residual(branch)] if stride == 1 and inputs == width else [branch]
        inputs = width
    return _pooled([*layers, conv(40, 128, 1)], 128)


def fire() -> SmallNetwork:
    """Fire modules; the mean of a last 1x1 convolution's maps are the logits (SqueezeNet, Iandola et al. 2016)."""
    layers: list[nn.Module] = [conv(3, 32), nn.MaxPool2d(2)]
    inputs = 32
    for squeezed, width, pooled in ((12, 32, False), (16, 48, True), (24, 64, False), (24, 64, False)):
        layers += [conv(inputs, squeezed, 1), Branches(conv(squeezed, width, 1), conv(squeezed, width))]
        layers += [nn.MaxPool2d(2)] if pooled else []
        inputs = 2 * width
    classifier = nn.Sequential(nn.Conv2d(inputs, len(CLASSES), 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return ready(SmallNetwork(OrderedDict(features=nn.Sequential(*layers), classifier=classifier)))


def inception() -> SmallNetwork:
    """Branches of 1x1, 3x3, two 3x3 and pooling (Szegedy et al. 2015)."""
    layers: list[nn.Module] = [conv(3, 24), nn.MaxPool2d(2)]
    inputs = 24
    for width, pooled in ((12, False), (16, True), (24, False)):
        layers.append(
            Branches(
                conv(inputs, width, 1),
                nn.Sequential(conv(inputs, width, 1), conv(width, 2 * width)),
                nn.Sequential(conv(inputs, width, 1), conv(width, width), conv(width, width)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(inputs, width, 1)),
            )
        )
        layers += [nn.MaxPool2d(2)] if pooled else []
        inputs = 5 * width
    return _pooled(layers, inputs)


def convnext() -> SmallNetwork:
    """Depthwise 5x5 convolutions, layer norm, GELU, and strided patches between stages (Liu et al. 2022)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 2, 2), ChannelNorm(32)]
    for width, last in ((32, False), (64, True)):
        for _ in range(2):
            branch = nn.Sequential(
                nn.Conv2d(width, width, 5, padding=2, groups=width),
                ChannelNorm(width),
                nn.Conv2d(width, 3 * width, 1),
                nn.GELU(),
                nn.Conv2d(3 * width, width, 1),
            )
            layers.append(Residual(branch))
        layers += [ChannelNorm(width)] if last else [ChannelNorm(width), nn.Conv2d(width, 2 * width, 2, 2)]
    return _pooled(layers, 64)


def excited() -> SmallNetwork:
    """Residual blocks whose maps are weighed by their means, SiLU (squeeze and excitation, Hu et al. 2018)."""
    layers: list[nn.Module] = [conv(3, 16)]
    inputs = 16
    for width, stride in ((24, 2), (48, 2), (64, 1)):
        branch = nn.Sequential(conv(inputs, width, 3, stride), linear_conv(width, width, 3), Excitation(width))
        layers.append(Residual(branch, linear_conv(inputs, width, 1, stride), nn.SiLU()))
        inputs = width
    return _pooled(layers, inputs)


def grouped() -> SmallNetwork:
    """Bottlenecks with grouped 3x3 convolutions (ResNeXt, Xie et al. 2017)."""
    layers: list[nn.Module] = [conv(3, 24)]
    inputs = 24
    for width, stride in ((48, 2), (96, 2), (96, 1)):
        branch = nn.Sequential(
            conv(inputs, width // 2, 1), conv(width // 2, width // 2, 3, stride, 6), linear_conv(width // 2, width)
        )
        shortcut = None if stride == 1 and inputs == width else linear_conv(inputs, width, 1, stride)
        layers.append(Residual(branch, shortcut, nn.ReLU()))
        inputs = width
    return _pooled(layers, inputs)


def preactivated() -> SmallNetwork:
    """Wide residual blocks that normalise before they convolve (Zagoruyko and Komodakis 2016)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    inputs = 16
    for width, stride in ((32, 2), (64, 2)):
        branch = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        layers.append(Residual(branch, nn.Conv2d(inputs, width, 1, stride, bias=False)))
        inputs = width
    return _pooled([*layers, nn.BatchNorm2d(inputs), nn.ReLU()], inputs)


FAMILIES: dict[str, Callable[[], SmallNetwork]] = {
    build.__name__: build
    for build in (
        plain,
        strided,
        grouped_norm,
        inverted,
        fire,
        inception,
        convnext,
        excited,
        grouped,
        preactivated,
    )
}
INSIDE = tuple(name for name in FAMILIES if name != "convnext")
"""Those of the audit's population: layer norm makes the last one's cells alike, which puts it outside."""


def _pooled(layers: Sequence[nn.Module], width: int) -> SmallNetwork:
    """Global average pooling and a linear layer after these."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(features=nn.Sequential(*layers), pool=nn.AdaptiveAvgPool2d(1))
    parts |= OrderedDict(flatten=nn.Flatten(), head=nn.Linear(width, len(CLASSES)))
    return ready(SmallNetwork(parts))


def trained(
    family: str,
    seed: int,
    folder: Path,
    data: str,
    limit: int,
    *,
    epochs: int = 4,
    say: Callable[[str], None] = print,
) -> Classifier:
    """The network of this training, made first where the folder does not have it.

    Args:
        data: labelled photos, of which the seed draws ``limit`` to train on.
    """
    file = folder / f"{family}-{seed}.safetensors"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        photos = open_data(data, classes=CLASSES, limit=limit, seed=seed)
        train(family, file, feed_photos(photos, 32), seed=seed, epochs=epochs, say=say)
    model = load(f"{Path(__file__)}:{family}@{file.resolve()}")
    model.name = file.stem
    return model


def train(
    family: str, file: Path, feed: Feed, *, seed: int, epochs: int = 4, say: Callable[[str], None] = print
) -> None:
    """Train from scratch into ``file`` (safetensors); one that was stopped goes on at the last whole epoch.

    Seeds train differently: those that leave 0 over 3 by AdamW, 1 by SGD with momentum, 2 by AdamW on batches that are
    rolled by up to an eighth of the side as well; photos are mirrored half of the time.

    Raises:
        InputError: there are fewer images than one batch takes.
    """
    how, lr = seed % 3, 0.03 if seed % 3 == 1 else 4e-3

    def optimizer(network: nn.Module) -> torch.optim.Optimizer:
        if how == 1:
            return torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
        return torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01)

    def logits(network: nn.Module, images: Images, done: float, generator: Generator) -> Logits:
        if how == 2:
            most = images.shape[-1] // 8
            down, right = torch.randint(-most, most + 1, (2,), generator=generator).tolist()
            images = images.roll((down, right), (2, 3))
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (network.mean, network.std))
        return network((images - mean) / std)

    from_scratch.train_on_photos(
        FAMILIES[family],
        file,
        feed,
        optimizer,
        logits,
        lr=lr,
        rise=0.3,
        epochs=epochs,
        batch_size=64,
        seed=seed,
        say=say,
    )
