"""The demo network: a small CNN that names the handwritten digit in a cluttered 64x64 scene.

Seven 3x3 convolutions, three of them strided, each with batch norm and ReLU; the 8x8 map of the last is averaged and
weighed by one linear layer, so CAM and Grad-CAM agree on it. Its layers are ``stage1`` ... ``stage7``, ``pool``,
``flatten`` and ``head``; inside a stage ``conv``, ``norm`` and ``relu``. ``scripts/train_demo.py`` made its weights.
"""

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

WEIGHTS = Path(__file__).with_name("demo.safetensors")
CHANNELS = (16, 32, 48, 64, 96, 96, 96)
STRIDES = (2, 1, 1, 2, 1, 1, 2)
"""Maps are 32x32 from ``stage1``, 16x16 from ``stage4`` and 8x8 in ``stage7``, whose pixels see 39x39 of the image."""
# A strided 3x3 convolution padded on both sides looks half a step up and left of where its pixel is drawn; three of
# them would draw every heatmap 3.5 pixels too far down and right. Padded after the last row and column only, this
# stage looks the other way, and half a pixel remains.
SHIFTED = 7


def build(seed: int = 0) -> nn.Sequential:
    """The network with fresh weights, in eval mode; equal seeds give equal weights, the global RNG is left alone.

    >>> sum(weight.numel() for weight in build().parameters())
    269562
    """
    generator = torch.Generator().manual_seed(seed)
    network = _empty().to_empty(device="cpu")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        elif isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear", generator=generator)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
    return network


class DemoNetwork(nn.Sequential):
    """A Sequential that says on itself what images it takes."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: int
    classes: list[str]


def network() -> DemoNetwork:
    """The network with the packaged weights, in eval mode.

    It takes *normalised* images and says how on itself: ``mean`` and ``std`` (of [0, 1] pixels), ``input_size`` and
    ``classes``.

    >>> network().classes
    ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']
    """
    made = _empty()
    made.load_state_dict(load_file(WEIGHTS), assign=True)
    return made


def _empty() -> DemoNetwork:
    """The network without memory for its weights: making it draws no random numbers."""
    stages = OrderedDict()
    inputs = 3
    with torch.device("meta"):
        for number, (outputs, stride) in enumerate(zip(CHANNELS, STRIDES, strict=True), 1):
            stage = OrderedDict()
            if number == SHIFTED:
                stage["pad"] = nn.ZeroPad2d((0, 1, 0, 1))
            padding = 0 if number == SHIFTED else 1
            stage["conv"] = nn.Conv2d(inputs, outputs, 3, stride, padding, bias=False)
            stage["norm"], stage["relu"] = nn.BatchNorm2d(outputs), nn.ReLU()
            stages[f"stage{number}"] = nn.Sequential(stage)
            inputs = outputs
        stages |= OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), head=nn.Linear(inputs, 10))
        made = DemoNetwork(stages)
    made.mean, made.std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    made.input_size, made.classes = 64, [str(digit) for digit in range(10)]
    return made.eval()
