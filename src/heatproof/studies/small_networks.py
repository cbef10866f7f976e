"""A small VGG and a small DenseNet for 32x32 photos: stand-ins for Heo et al.'s families where no weights can be had.

``small_networks.py:vgg@vgg.safetensors`` loads one; :func:`train` makes the file.
"""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from heatproof.studies.from_scratch import train_on_photos
from heatproof.training.feeds import Feed
from heatproof.types import Images, Logits

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


class DenseLayer(nn.Module):
    """Puts out its input and ``growth`` new maps, concatenated."""

    def __init__(self, inputs: int, growth: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(self.relu(self.norm(x)))], 1)


class SmallNetwork(nn.Sequential):
    """A Sequential that says on itself what images it takes."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: int
    classes: list[str]


def vgg() -> SmallNetwork:
    """Six 3x3 convolutions with batch norm, three max poolings and two linear layers, as VGG ends.

    Heo et al.'s layer, the output of the last ReLU before the last pooling (96x8x8), is ``features.19``.
    """
    features: list[nn.Module] = []
    inputs = 3
    for width, pooled in ((16, False), (16, True), (48, False), (48, True), (96, False), (96, True)):
        features += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        features += [nn.MaxPool2d(2)] if pooled else []
        inputs = width
    head = [nn.Flatten(), nn.Linear(96 * 16, 128), nn.ReLU(), nn.Linear(128, 10)]
    return ready(SmallNetwork(OrderedDict(features=nn.Sequential(*features), classifier=nn.Sequential(*head))))


def densenet(growth: int = 16) -> SmallNetwork:
    """Two dense blocks of six layers at 16x16 and 8x8, with a halving transition between them.

    Heo et al.'s layer, the input of the last dense layer (140x8x8), is ``block2.layer5``.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        stem=nn.Sequential(nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.MaxPool2d(2))
    )
    width = 24
    for number in (1, 2):
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            (f"layer{i + 1}", DenseLayer(width + i * growth, growth)) for i in range(6)
        )
        parts[f"block{number}"] = nn.Sequential(layers)
        width += 6 * growth
        parts[f"norm{number}"] = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())
        if number == 1:
            parts["transition"] = nn.Sequential(nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2))
            width //= 2
    parts |= OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), head=nn.Linear(width, 10))
    return ready(SmallNetwork(parts))


def ready(network: SmallNetwork) -> SmallNetwork:
    network.mean, network.std = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
    network.input_size, network.classes = 32, CLASSES
    return network.eval()


def train(
    build: Callable[[], nn.Module],
    file: Path,
    feed: Feed,
    *,
    epochs: int = 6,
    batch_size: int = 64,
    lr: float = 3e-3,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> None:
    """Train from scratch into ``file`` (safetensors); one that was stopped goes on at the last whole epoch.

    Adam with a one-cycle learning rate; photos are mirrored half of the time.

    Args:
        feed: all training images.

    Raises:
        InputError: there are fewer images than one batch takes.
    """
    train_on_photos(
        build,
        file,
        feed,
        lambda network: torch.optim.Adam(network.parameters(), lr=lr),
        _logits,
        lr=lr,
        rise=0.3,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        say=say,
    )


def _logits(network: nn.Module, images: Images, done: float, generator: torch.Generator) -> Logits:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (network.mean, network.std))
    return network((images - mean) / std)
