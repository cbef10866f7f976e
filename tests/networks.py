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


class Attending(nn.Module):
    """A vision transformer of two blocks and two heads with a class token, written as timm's are."""

    def __init__(self, size: int, classes: int = 4, patch: int = 2, way: str = "fused"):
        super().__init__()
        self.way = way
        self.stem = nn.Conv2d(3, 8, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.position = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, 8))
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.ModuleList(nn.Linear(8, 24) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.feed = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.last = nn.LayerNorm(8)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        for qkv, out, feed in zip(self.qkv, self.out, self.feed, strict=True):
            x = x + out(self.attend(qkv(self.norm(x))))
            x = x + F.gelu(feed(x))
        x = self.last(x)
        return self.head(x.mean(1) if self.way == "mean" else x[:, 0])

    def attend(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = x.reshape(batch, tokens, 3, 2, width // 6).permute(2, 0, 3, 1, 4).unbind(0)
        if self.way == "written":
            scores = q @ k.transpose(-2, -1) / (width // 6) ** 0.5
            found = scores.softmax(dim=-1) @ v
        else:
            found = F.scaled_dot_product_attention(q, k, v)
        return found.transpose(1, 2).reshape(batch, tokens, width // 3)


def attending(seed: int = 0, size: int = 10, dtype: torch.dtype = torch.float64, way: str = "fused") -> Classifier:
    """An :class:`Attending` with random weights, as a classifier of ``size`` pixels."""
    generator = torch.Generator().manual_seed(seed)
    network = Attending(size, way=way)
    for name, value in network.state_dict().items():
        value.copy_(torch.randn(value.shape, generator=generator) * (0.2 if "norm" in name or "last" in name else 0.6))
        if name in ("norm.weight", "last.weight"):
            value.add_(1)
    model = Classifier(network, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), ["ant", "bee", "cat", "dog"], size, name="attending")
    return model.eval().to(dtype)
