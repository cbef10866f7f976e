"""A small network with what real ones have: convolutions, batch norm, dropout, in-place ReLU, a linear head."""

import pytest
import torch
from torch import nn

from heatproof.models.classifier import Classifier


@pytest.fixture
def model() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(16, 5),
        )
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else nn.init.normal_(parameter, 0.1, 0.2)
        network.get_buffer("1.running_mean").normal_(0, 0.2)
        # centred on noise, or one class would always win
        noise = (torch.rand(64, 3, 32, 32) - 0.5) / 0.25
        with torch.no_grad():
            mean = network[:7].eval()(noise).mean(0)
            network[8].weight -= (network[8].weight @ mean)[:, None] * mean / mean.square().sum()
            network.get_parameter("8.bias").zero_()
    network.train()
    network[1].eval()
    return Classifier(network, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), input_size=32)


@pytest.fixture
def images() -> torch.Tensor:
    """Interior images: no pixel is nearer than 0.2 to black or white."""
    return 0.2 + 0.6 * torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.tensor([0, 1, 2, 3, 4, 0])
