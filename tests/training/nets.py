"""Small networks in float64 whose heatmaps can be differentiated by hand or by finite differences."""

import torch
from torch import Tensor, nn

from heatproof.models.classifier import Classifier


class Residual(nn.Module):
    """Two convolutions, a residual addition, global pooling and a linear layer: 6x6 maps of two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.second = nn.Conv2d(2, 2, 3, padding=1)
        self.last = nn.ReLU()
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        # Softplus: finite differences must not step over a kink
        x = nn.functional.softplus(x)
        x = self.last(x + self.second(x) + 2)
        return self.head(x.mean((2, 3)))


def residual(seed: int = 0) -> Classifier:
    """The network with weights that depend on the seed alone, in float64."""
    network = Residual().double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.double))
    return Classifier(network.eval(), classes=["a", "b", "c"], input_size=6).double()


class Convolutions(nn.Module):
    """Three stages with batch norm, as a plain user network; 8x8 maps at ``stage2`` and ``stage3``."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()

        def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
            )

        self.stage1, self.stage2, self.stage3 = stage(3, 8, 1), stage(8, 16, 2), stage(16, 16, 1)
        self.head = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage3(self.stage2(self.stage1(x))).mean((2, 3)))


def convolutions(seed: int = 0, classes: int = 4) -> Classifier:
    """The network with weights that depend on the seed alone."""
    network = Convolutions(classes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter[0].numel() ** -0.5 * 1.4)
            elif "bias" in name:
                parameter.zero_()
    return Classifier(
        network.eval(), classes=[f"class-{i}" for i in range(classes)], input_size=16, name="convolutions"
    )


def patches(count: int, seed: int = 0, classes: int = 4) -> tuple[Tensor, Tensor]:
    """16x16 images with a bright patch whose quarter is the label."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 16, 16, generator=generator) * 0.3
    labels = torch.arange(count) % classes
    for image, label in zip(images, labels.tolist(), strict=True):
        row, col = (label // 2) * 8 + 2, (label % 2) * 8 + 2
        image[:, row : row + 4, col : col + 4] += 0.6
    return images, labels
