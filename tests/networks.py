"""Small networks that contain what real ones do, for laws and derivatives in float64."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heatproof.models.classifier import Classifier


class Residual(nn.Module):
    """Convolution + batch norm, one ReLU used twice in place, a residual add, a concat, a pooling, a gate."""

    def __init__(self, classes: int = 4):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.left = nn.Conv2d(4, 4, 3, padding=1)
        self.right = nn.Conv2d(4, 3, 1)
        self.gate = nn.Conv2d(7, 7, 1)
        self.last = nn.Conv2d(7, 5, 3, padding=1)
        self.head = nn.Linear(5, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.stem(x))))
        x = self.relu(x + self.left(x))
        x = torch.cat([x, F.relu(self.right(x))], 1)
        x = x * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1)))
        x = F.relu(self.last(x), inplace=True)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def small(seed: int = 0, size: int = 10, dtype: torch.dtype = torch.float64) -> Classifier:
    """A :class:`Residual` with random weights and running statistics, as a classifier of ``size`` pixels."""
    generator = torch.Generator().manual_seed(seed)
    network = Residual()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.4)
    assert network.norm.running_var is not None
    network.norm.running_var.uniform_(0.5, 1.5, generator=generator)
    network.norm.weight.data.uniform_(0.5, 1.5, generator=generator)
    model = Classifier(network, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), ["ant", "bee", "cat", "dog"], size, name="small")
    return model.eval().to(dtype)


def photos(count: int = 3, size: int = 10, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random pixels well inside [0, 1]."""
    return 0.1 + 0.8 * torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)
