"""Explainers on transformers: layouts at layers, slopes of slopes through fused attention, HuggingFace's networks."""

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heatproof as hp
from heatproof.errors import LayerError
from heatproof.explainers.attention import _Opened
from heatproof.explainers.lrp.propagation import LRP
from heatproof.explainers.relevance_cam import RelevanceCAM
from heatproof.types import Explainer
from networks import attending, photos

ATTNLRP, CP_LRP = LRP(composite="attnlrp"), LRP(composite="cp_lrp")
TARGETS = torch.tensor([0, 1, 2])
# maps without ReLU: an empty one would have every derivative right
EXPLAINERS: dict[str, Explainer] = {
    "gradcam": hp.GradCAM("tokens", relu=False),
    "hirescam": hp.HiResCAM("tokens", relu=False),
    "simple_grad": hp.SimpleGrad(),
    "simple_grad at a layer": hp.SimpleGrad("tokens"),
    "input_x_gradient": hp.InputXGradient(),
    "rollout": hp.AttentionRollout(),
    "chefer": hp.Chefer(),
    "attnlrp": ATTNLRP,
    "cp_lrp": CP_LRP,
    "attnlrp at a layer": LRP("tokens", "attnlrp"),
    "cp_lrp with gamma": LRP(composite="cp_lrp", gamma_conv=0.3, gamma_linear=0.1),
}


class Named(nn.Module):
    """An :class:`networks.Attending` whose tokens after the stem have a layer of their own."""

    def __init__(self, way: str = "fused"):
        super().__init__()
        self.inner = attending(size=6, way=way).network
        self.tokens = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        net: Any = self.inner
        x = net.stem(x).flatten(2).transpose(1, 2)
        x = self.tokens(torch.cat([net.token.expand(x.shape[0], -1, -1), x], 1) + net.position)
        for qkv, out, feed in zip(net.qkv, net.out, net.feed, strict=True):
            x = x + out(net.attend(qkv(net.norm(x))))
            x = x + nn.functional.gelu(feed(x))
        return net.head(net.last(x)[:, 0])


def named(way: str = "fused") -> hp.Classifier:
    return hp.Classifier(Named(way).double().eval(), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), input_size=6)


@pytest.mark.parametrize("way", ["fused", "written"])
@pytest.mark.parametrize("name", EXPLAINERS)
def test_derivatives_in_weights_and_pixels(name: str, way: str) -> None:
    """Along random directions of all weights and pixels together, against central differences in float64.

    torch's fused attention has no second derivative: it is opened while a map with a graph is made.
    """
    model, explainer, images = named(way), EXPLAINERS[name], photos(1, size=6)
    generator = torch.Generator().manual_seed(5)
    projection = torch.randn(36, generator=generator, dtype=torch.float64)

    def number(graph: bool) -> Tensor:
        heatmaps = explainer(model, images, TARGETS[1:2], create_graph=graph).heatmaps.flatten()
        return (heatmaps * projection[: len(heatmaps)]).sum()

    values = [images.requires_grad_(), *model.network.parameters()]
    slopes = torch.autograd.grad(number(True), values, materialize_grads=True)
    for _ in range(2):
        along = [torch.randn(value.shape, generator=generator, dtype=torch.float64) for value in values]
        expected = sum((slope * one).sum() for slope, one in zip(slopes, along, strict=True))
        found = []
        for step in (1e-6, -2e-6, 1e-6):
            for value, one in zip(values, along, strict=True):
                value.data.add_(one, alpha=step)
            found.append(number(False).detach())
        difference = (found[0] - found[1]) / 2e-6
        torch.testing.assert_close(torch.as_tensor(expected), difference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("explainer", [hp.GradCAM(relu=False), hp.SimpleGrad(), ATTNLRP], ids=str)
def test_a_penalty_moves_the_weights_of_attention_in_single_precision(explainer: Explainer) -> None:
    model, images = attending(dtype=torch.float32), photos(2, dtype=torch.float32)
    found = explainer(model, images, TARGETS[:2], create_graph=True)
    hp.Location()(found.heatmaps, found.heatmaps.detach()).sum().backward()
    slope = model.network.get_parameter("qkv.0.weight").grad
    assert slope is not None
    assert slope.abs().sum() > 0


class Turned(nn.Module):
    """Convolutions, whose maps also stand there with their channels last, and as tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.later, self.head = nn.Conv2d(3, 5, 2, stride=2), nn.Conv2d(5, 4, 3, padding=1), nn.Linear(4, 3)
        self.first, self.last, self.tokens = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.first(self.stem(x)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.tokens(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])
        return self.head(self.later(x).relu().mean((2, 3)))


@pytest.mark.parametrize("explain", [LRP, RelevanceCAM], ids=str)
def test_relevance_at_a_layer_is_read_in_its_layout(explain: Callable[..., Explainer]) -> None:
    """Not square, so that rows, columns and channels cannot be confused without notice."""
    network, images = Turned().eval(), torch.rand(2, 3, 12, 8)
    wanted = explain("first")(network, images).heatmaps
    assert wanted.shape == (2, 6, 4)
    assert wanted.abs().sum() > 0
    for layer in ("last", "tokens"):
        torch.testing.assert_close(explain(layer)(network, images).heatmaps, wanted)


def test_relevance_at_a_layer_without_rows_and_columns_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 2, stride=2), nn.Flatten(), nn.Linear(50, 6), nn.ReLU(), nn.Linear(6, 3))
    with pytest.raises(LayerError, match=r"layer '2' puts out \[3, 6\]"):
        LRP("2")(network.eval(), photos(dtype=torch.float32))


def test_positions_take_their_share_between_tokens_and_pixels() -> None:
    """What the grid's tokens have, less the positions' share x / (x + position), is what arrives at the pixels."""
    model, images = named(), photos(3, size=6)
    nn.init.zeros_(model.network.get_parameter("inner.stem.bias"))
    kept: list[Tensor] = []
    hook = model.network.get_submodule("tokens").register_forward_hook(lambda *given: kept.append(given[2]))
    model(images)
    hook.remove()
    relevance = LRP("tokens", "cp_lrp", stabilizer=1e-13).relevance(model, images, TARGETS).channels
    share = 1 - model.network.get_parameter("inner.position")[:, 1:] / kept[0][:, 1:]
    wanted = (relevance.flatten(2).transpose(1, 2) * share).sum((1, 2)).detach()
    pixels = LRP(composite="cp_lrp", stabilizer=1e-13)(model, images, TARGETS).heatmaps.sum((1, 2))
    torch.testing.assert_close(pixels, wanted, rtol=1e-6, atol=1e-8)


class Theirs(nn.Module):
    """As HuggingFace's: a decorated forward method with arguments by name, and an object that holds the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = attending().network

    def forward(self, pixel_values: Tensor | None = None, labels: Any = None, **kwargs: Any) -> Any:
        assert pixel_values is not None
        kwargs.pop("return_dict", None)
        return SimpleNamespace(logits=self.inner(pixel_values), loss=None)


def decorated(forward: Any) -> Any:
    @functools.wraps(forward)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("return_dict", None)
        return forward(self, *args, **kwargs)

    return wrapper


def test_a_network_as_huggingface_writes_it() -> None:
    kind = type("Decorated", (Theirs,), {"forward": decorated(Theirs.forward)})
    theirs = hp.Classifier(kind().double().eval(), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), input_size=10)
    model, images = attending(), photos()
    for explainer in (ATTNLRP, hp.Chefer(), hp.GradCAM()):
        torch.testing.assert_close(explainer(theirs, images), explainer(model, images))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_networks_of_huggingface() -> None:
    import transformers

    sizes: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 5}
    made = [
        (transformers.ViTConfig, transformers.ViTForImageClassification, {"intermediate_size": 32}),
        (transformers.DeiTConfig, transformers.DeiTForImageClassification, {"intermediate_size": 32}),
        (transformers.BeitConfig, transformers.BeitForImageClassification, {"intermediate_size": 32}),
        (transformers.Dinov2WithRegistersConfig, transformers.Dinov2WithRegistersForImageClassification, {}),
    ]
    for config, kind, more in made:
        torch.manual_seed(0)
        network = kind(config(image_size=32, patch_size=8, **sizes, **more)).eval()
        model = hp.Classifier(network, (0.5,) * 3, (0.5,) * 3, input_size=32)
        images = photos(2, size=32, dtype=torch.float32)
        assert ATTNLRP(model, images).heatmaps.shape == (2, 32, 32)
        for explainer in (hp.GradCAM(), LRP("default", "attnlrp"), hp.AttentionRollout(), hp.Chefer()):
            assert explainer(model, images).heatmaps.shape == (2, 4, 4), kind
    torch.manual_seed(0)
    sizes = {"embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "num_labels": 5}
    windows = transformers.SwinConfig(image_size=64, patch_size=4, **sizes)
    network = transformers.SwinForImageClassification(windows).eval()
    model, images = hp.Classifier(network, (0.5,) * 3, (0.5,) * 3, input_size=64), photos(2, size=64).float()
    assert hp.default_layer(model) == "swin.layernorm"
    for explainer in (hp.GradCAM(), LRP("default", "attnlrp")):
        assert explainer(model, images).heatmaps.shape == (2, 8, 8)


def test_attention_over_five_dimensions_is_followed() -> None:
    """Twins hands torch's attention windows beside batch and heads, for which torch takes another softmax."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model("twins_svt_small", img_size=64, depths=[1, 1, 1, 1], wss=[4, 4, 2, 2], num_classes=5)
    model = hp.Classifier(network.eval(), (0.5,) * 3, (0.5,) * 3, input_size=64)
    known = {layer.name: layer.layout for layer in hp.list_layers(model)}
    assert str(known["blocks.0.0"]) == "NLC, 16x16 tokens"
    assert hp.default_layer(model) == "pos_block.3"


@pytest.mark.parametrize(
    "more",
    [
        {"is_causal": True},
        {"attn_mask": torch.ones(5, 5, dtype=torch.bool).tril(1)},
        {"attn_mask": torch.linspace(-1, 1, 25).view(5, 5)},
        {"enable_gqa": True},
        {"scale": 0.3},
    ],
    ids=lambda more: next(iter(more)),
)
def test_attention_written_out_is_torch_s(more: dict) -> None:
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, 5, 8, generator=draw)
    heads = 2 if "enable_gqa" in more else 4
    key, value = (torch.randn(2, heads, 5, 8, generator=draw) for _ in range(2))
    expected = F.scaled_dot_product_attention(query, key, value, **more)
    with torch.no_grad():
        written = _Opened()._attention(query, key, value, **more)
    torch.testing.assert_close(written, expected)
