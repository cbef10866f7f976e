"""Norms by the signal's own deviation: a matrix replica of the rule, and networks of the ConvNeXt kind."""

import copy
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heatproof.explainers.lrp import rules
from heatproof.explainers.lrp.composites import COMPOSITES
from heatproof.explainers.lrp.norms import standard
from heatproof.explainers.lrp.propagation import LRP
from networks import photos

# module, shape of one input, the cells that share one deviation: an index of the group for each cell
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Callable[[Tensor], Tensor], bool]] = {
    "layer": (lambda: nn.LayerNorm(6), (4, 6), lambda cell: cell // 6, True),
    "layer, two dimensions": (lambda: nn.LayerNorm([3, 2]), (2, 3, 2), lambda cell: cell // 6, True),
    "layer, plain": (lambda: nn.LayerNorm(6, elementwise_affine=False), (6,), lambda cell: cell // 6, True),
    "group": (lambda: nn.GroupNorm(2, 4), (4, 3, 2), lambda cell: cell // 12, True),
    "one group": (lambda: nn.GroupNorm(1, 4, eps=0.1), (4, 2, 2), lambda cell: cell // 16, True),
    "instance": (lambda: nn.InstanceNorm2d(3, affine=True), (3, 2, 3), lambda cell: cell // 6, True),
    "instance, plain": (lambda: nn.InstanceNorm1d(3), (3, 5), lambda cell: cell // 5, True),
    "rms": (lambda: nn.RMSNorm(6), (2, 6), lambda cell: cell // 6, False),
}


@pytest.mark.parametrize("name", CASES)
def test_the_matrix_with_the_deviation_held(name: str) -> None:
    """W = diag(w / deviation) (1 - mean), written out cell by cell from the definition."""
    make, shape, group, centred = CASES[name]
    torch.manual_seed(2)
    layer: Any = make().double()
    for value in layer.parameters():
        nn.init.normal_(value, 1)
    x = torch.randn(3, *shape, dtype=torch.float64)
    z = layer(x).detach()
    relevance = torch.randn_like(z)
    found = rules.standardised(standard(type(layer), layer, {"input": x}, name), [x], relevance, stabilizer=0.01)
    groups = group(torch.arange(x[0].numel()))
    together = (groups[:, None] == groups).double()
    count = together.sum(1)
    for image, out, r, got in zip(x, z, relevance, torch.as_tensor(found), strict=True):
        cells = image.flatten()
        mean = together @ cells / count if centred else torch.zeros_like(cells)
        eps = layer.eps if layer.eps is not None else torch.finfo(x.dtype).eps
        deviation = (together @ (cells - mean) ** 2 / count + eps).sqrt()
        weight, bias = (
            torch.zeros_like(out) + (default if value is None else per_channel(value.detach(), layer, out))
            for value, default in ((getattr(layer, "weight", None), 1.0), (getattr(layer, "bias", None), 0.0))
        )
        matrix = torch.eye(len(cells)).double() - (together / count[:, None] if centred else 0)
        matrix = (weight.flatten() / deviation)[:, None] * matrix
        torch.testing.assert_close(matrix @ cells + bias.flatten(), out.flatten())
        outs, sign = out.flatten(), torch.where(out.flatten() >= 0, 1.0, -1.0)
        wanted = cells * (matrix.T @ (r.flatten() / (outs + 0.01 * sign)))
        torch.testing.assert_close(got.flatten(), wanted)


def per_channel(value: Tensor, layer: nn.Module, out: Tensor) -> Tensor:
    return value if isinstance(layer, nn.LayerNorm | nn.RMSNorm) else value.view(-1, *[1] * (out.ndim - 1))


def test_an_instance_norm_with_running_statistics_is_refused() -> None:
    """In eval mode it is another function, without this image's deviation."""
    from heatproof.errors import ModelError

    layers = [nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, track_running_stats=True), nn.Flatten(), nn.Linear(400, 2)]
    with pytest.raises(ModelError, match="running statistics"):
        LRP()(nn.Sequential(*layers).double().eval(), photos(2))


class ConvNeXt(nn.Module):
    """A ConvNeXt of one block per kind of norm: channels last inside, layer scale, GELU, a global response norm."""

    def __init__(self, activation: Callable[[Tensor], Tensor] = F.gelu, response: bool = True):
        super().__init__()
        torch.manual_seed(4)
        self.stem = nn.Conv2d(3, 6, 2, stride=2)
        self.norm = nn.GroupNorm(2, 6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.inner = nn.LayerNorm(6)
        self.wide, self.narrow = nn.Linear(6, 12), nn.Linear(12, 6)
        self.weight, self.bias = nn.Parameter(torch.randn(12)), nn.Parameter(torch.randn(12))
        self.scale = nn.Parameter(torch.rand(6, 1, 1) + 0.5)
        self.last, self.head = nn.LayerNorm(6), nn.Linear(6, 4)
        self.activation, self.response = activation, response
        for norm in (self.norm, self.inner, self.last):
            nn.init.normal_(norm.weight, 1, 0.3)
            nn.init.normal_(norm.bias, 0, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        y = self.activation(self.wide(self.inner(self.depthwise(x).permute(0, 2, 3, 1))))
        if self.response:
            size = y.norm(p=2, dim=(1, 2), keepdim=True)
            y = y + torch.addcmul(self.bias, self.weight, y * (size / (size.mean(-1, keepdim=True) + 1e-6)))
        x = x + self.narrow(y).permute(0, 3, 1, 2).mul(self.scale)
        return self.head(self.last(x.mean((2, 3))))


def without_biases(network: nn.Module) -> nn.Module:
    for name, value in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(value)
    return network.double().eval()


@pytest.mark.parametrize("composite", sorted({make: name for name, make in COMPOSITES.items()}.values()))
def test_the_score_is_conserved_without_biases(composite: str) -> None:
    if composite == "epsilon_gamma_box":
        pytest.skip("needs a classifier's range; the others' layers are the same")
    network, images = without_biases(ConvNeXt()), photos(2)
    found = LRP(composite=composite, stabilizer=1e-15)(network, images)
    score = found.logits.gather(1, found.targets[:, None])[:, 0]
    torch.testing.assert_close(found.heatmaps.sum((1, 2)), score, rtol=1e-9, atol=1e-12)


def test_epsilon_is_gradient_times_input_with_the_deviation_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network written anew with its deviations detached: autograd's gradient is then the whole of LRP-0."""
    network, images = without_biases(ConvNeXt(F.relu, response=False)), photos(2)
    found = LRP(composite="epsilon", stabilizer=1e-14)(network, images)

    def held(cells: Tensor) -> Tensor:
        centred = cells - cells.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt().detach()

    def layer_norm(x: Tensor, shape: Any, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        return held(x) * weight + bias

    def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        return held(x.reshape(len(x), groups, -1)).view_as(x) * weight[:, None, None] + bias[:, None, None]

    monkeypatch.setattr(F, "layer_norm", layer_norm)
    monkeypatch.setattr(F, "group_norm", group_norm)
    images.requires_grad_()
    logits = network(images)
    torch.testing.assert_close(logits.detach(), found.logits)
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), images)
    torch.testing.assert_close(found.heatmaps, (gradient * images.detach()).sum(1), rtol=1e-7, atol=1e-10)


def test_written_as_functions() -> None:
    class Functional(ConvNeXt):
        def forward(self, x: Tensor) -> Tensor:
            n, inner, last = self.norm, self.inner, self.last
            x = F.group_norm(self.stem(x), 2, n.weight, bias=n.bias)
            y = F.layer_norm(self.depthwise(x).permute(0, 2, 3, 1), [6], weight=inner.weight, bias=inner.bias)
            y = self.activation(self.wide(y))
            size = y.norm(p=2, dim=(1, 2), keepdim=True)
            y = y + torch.addcmul(self.bias, self.weight, y * (size / (size.mean(-1, keepdim=True) + 1e-6)))
            x = x + self.narrow(y).permute(0, 3, 1, 2).mul(self.scale)
            return self.head(
                F.layer_norm(input=x.mean((2, 3)), normalized_shape=(6,), weight=last.weight, bias=last.bias)
            )

    images = photos(2)
    found, wanted = LRP()(Functional().double(), images), LRP()(ConvNeXt().double(), images)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("composite", ["lrp", "epsilon"])
def test_the_map_is_differentiable_in_weights_and_pixels(composite: str) -> None:
    """The deviation is a constant in the rule, and moves in the derivative."""
    network = ConvNeXt().double().eval()
    images = photos(1, size=6).requires_grad_()

    def heatmaps(*values: Tensor) -> Tensor:
        return LRP(composite=composite)(network, values[0], torch.tensor([1]), create_graph=True).heatmaps

    assert torch.autograd.gradcheck(heatmaps, [images, *network.parameters()], atol=1e-6, rtol=1e-4, fast_mode=True)


class Caching(nn.Module):
    """Keeps position biases and the last size, as tiny_vit and levit do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.position, self.head = nn.Parameter(torch.randn(3)), nn.Linear(3, 2)
        self.cache: dict[str, Any] = {}
        self.seen: list[Any] = []
        self.size: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if "bias" not in self.cache:
            self.cache["bias"] = self.position * 2
            self.seen.append(x.shape)
        self.size = x.shape[2]
        self.last = x
        return self.head(F.relu(x.mean((2, 3)) + self.cache["bias"]))


def attributes(network: nn.Module) -> list[dict[str, Any]]:
    return [
        {key: copy.copy(value) if isinstance(value, dict | list) else value for key, value in vars(module).items()}
        for module in network.modules()
    ]


def test_a_network_that_keeps_something_is_given_back_as_it_was() -> None:
    caching = Caching()
    network = nn.Sequential(caching).double().eval()
    for _ in range(2):
        before = attributes(network)
        found = LRP()(network, photos(2))
        assert_same(before, attributes(network))
        # once before anything is kept, once after
        torch.testing.assert_close(found.logits, network(photos(2)).detach())
    del caching.last
    torch.save(network, io.BytesIO())


def assert_same(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    for one, other in zip(before, after, strict=True):
        assert list(one) == list(other)
        for key, value in one.items():
            if isinstance(value, dict | list):
                assert len(value) == len(other[key])
                parts = value if isinstance(value, list) else value.values()
                others = other[key] if isinstance(value, list) else other[key].values()
                assert all(a is b for a, b in zip(parts, others, strict=True)), key
            else:
                assert value is other[key], key


def test_instances_share_no_deviation() -> None:
    network, images = ConvNeXt().double().eval(), photos(3)
    together = LRP()(network, images).heatmaps
    alone = torch.cat([partial(LRP())(network, image[None]).heatmaps for image in images])
    torch.testing.assert_close(together, alone)
