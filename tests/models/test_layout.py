"""Layouts: followed through the operators, and refused where they are lost."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heatproof as hp
from heatproof.models.following import FollowAxes
from heatproof.models.layers import choose_layer, probe
from heatproof.models.layout import Layout, layout_of
from heatproof.types import Explainer
from heatproof.vision import torchvision

Operator = Callable[[Any, Tensor], Tensor]


class Tokens(nn.Module):
    """A vision transformer of two blocks: patches of 4 pixels, a class token or the mean of all, windows of 2 rows."""

    def __init__(self, read: str = "class", width: int = 8):
        super().__init__()
        self.read = read
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(width, 2, 16, 0.0, batch_first=True) for _ in range(3))
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.read == "class":
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0] if self.read == "class" else x.mean(1))


class Last(nn.Module):
    """The same two convolutions, with channels first or last in between."""

    def __init__(self, last: bool):
        super().__init__()
        torch.manual_seed(0)
        self.last = last
        self.stem = nn.Conv2d(3, 6, 4, stride=4)
        self.mix = nn.Linear(6, 6)
        self.act = nn.GELU()
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.last:
            return self.head(self.act(self.mix(x.permute(0, 2, 3, 1))).mean((1, 2)))
        x = torch.einsum("nchw,dc->ndhw", x, self.mix.weight) + self.mix.bias[:, None, None]
        return self.head(self.act(x).mean((2, 3)))


def classifier(network: nn.Module, size: int = 16) -> hp.Classifier:
    return hp.Classifier(network.eval(), input_size=size, name="net")


@pytest.mark.parametrize(("read", "layer", "prefix"), [("class", "blocks.1", 1), ("mean", "blocks.2", 0)])
def test_tokens_are_a_grid_after_their_prefix(read: str, layer: str, prefix: int) -> None:
    """Also of images that are not square; behind the last block only the class token has a gradient."""
    torch.manual_seed(0)
    model, images = classifier(Tokens(read)), torch.rand(2, 3, 12, 20)
    assert hp.default_layer(model, images) == layer
    found = {entry.name: entry.layout for entry in hp.list_layers(model, images)}
    assert found[layer] == Layout("NLC", 3, 5, prefix)
    assert hp.GradCAM()(model, images).heatmaps.shape == (2, 3, 5)


def test_grad_cam_of_tokens_is_the_formula_on_the_grid() -> None:
    torch.manual_seed(0)
    model, images = classifier(Tokens()), torch.rand(1, 3, 12, 20)
    kept: list[Tensor] = []
    block = model.network.get_submodule("blocks.1")
    hook = block.register_forward_hook(lambda m, a, out: (out.retain_grad(), kept.append(out))[0])
    logit = model(images)[0, 2]
    logit.backward()
    hook.remove()
    (tokens,), grad = kept, kept[0].grad
    assert grad is not None
    wanted = (tokens[0, 1:] @ grad[0, 1:].mean(0)).view(3, 5)
    got = hp.GradCAM("blocks.1", relu=False)(model, images, torch.tensor([2])).heatmaps[0]
    torch.testing.assert_close(got, wanted.detach())


def test_channels_last_has_the_map_of_channels_first() -> None:
    images = torch.rand(2, 3, 24, 16)
    first, last = (hp.GradCAM("act", relu=False)(classifier(Last(way)), images) for way in (False, True))
    assert last.heatmaps.shape == (2, 6, 4)
    torch.testing.assert_close(last.heatmaps, first.heatmaps)
    torch.testing.assert_close(last.logits, first.logits)


@pytest.mark.parametrize(
    "layout", [Layout("NHWC", 3, 4), Layout("NLC", 3, 4, 2), Layout("NCL", 3, 4, 1), Layout("NCHW", 3, 4)]
)
def test_maps_and_output_are_inverse(layout: Layout) -> None:
    sizes = {"N": 2, "C": 5, "H": 3, "W": 4, "L": layout.prefix + 12}
    output = torch.rand([sizes[letter] for letter in layout.dims])
    maps = layout.maps(output)
    assert maps.shape == (2, 5, 3, 4)
    assert layout.output(maps, output).equal(output)
    assert not layout.output(maps + 1, output).equal(output)


class Scrambled(nn.Module):
    """Reads a map's numbers in another order: four dimensions, and neither rows nor columns."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.odd = nn.Identity()
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.odd(x.flatten(1).view(len(x), 4, 4, 16).transpose(1, 3))
        return self.head(x.mean((2, 3)))


def test_a_layer_without_rows_and_columns_is_refused() -> None:
    model, images = classifier(Scrambled()), torch.rand(1, 3, 16, 16)
    with pytest.raises(hp.LayerError, match=r"'odd' puts out \[1, 16, 4, 4\], in which the image's rows and columns"):
        hp.GradCAM("odd")(model, images)
    assert hp.GradCAM("stem")(model, images).heatmaps.shape == (1, 4, 4)


class Cut(nn.Module):
    def __init__(self, how: str):
        super().__init__()
        self.how, self.conv, self.head = how, nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x.detach() if self.how == "detach" else x
        with torch.set_grad_enabled(self.how != "no_grad" and torch.is_grad_enabled()):
            x = x.mean((2, 3))
        return self.head(x)


@pytest.mark.parametrize("how", ["detach", "no_grad"])
@pytest.mark.parametrize(
    "explainer",
    [
        hp.GradCAM(),
        hp.GradCAM("conv"),
        hp.SimpleGrad(),
        hp.SmoothGrad(samples=2),
        hp.IntegratedGradients(steps=2),
        hp.GuidedBackprop(),
        hp.GuidedGradCAM("conv"),
    ],
    ids=repr,
)
def test_a_score_without_a_gradient_is_refused(explainer: Explainer, how: str) -> None:
    with pytest.raises(hp.HeatproofError, match="no gradient at"):
        explainer(classifier(Cut(how)), torch.rand(2, 3, 16, 16))
    assert hp.Occlusion(patch=4)(classifier(Cut(how)), torch.rand(2, 3, 16, 16)).heatmaps.abs().sum() > 0


class Closed(Cut):
    """Nothing of its forward pass has a graph."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


def test_a_forward_pass_without_a_graph_is_refused() -> None:
    model, images = classifier(Closed("")), torch.rand(2, 3, 16, 16)
    with pytest.raises(hp.LayerError, match="no gradient at any of its feature maps"):
        hp.default_layer(model)
    with pytest.raises(hp.ModelError, match="the score has no gradient at the layer or the pixels that are"):
        hp.SimpleGrad()(model, images)


class Gate(nn.Module):
    """Two branches of the same map, joined by a product: no convolution carries all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(3, 6, 9, stride=1), nn.Conv2d(6, 6, 3, 4), nn.Conv2d(6, 6, 3, 4)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((self.left(x) * self.right(x)).mean((2, 3)))


def test_a_branch_that_is_left_out_is_said() -> None:
    chosen = choose_layer(classifier(Gate(), 32))
    assert chosen.name == "right"
    assert "beside it is left out" in chosen.reason
    assert "left out" not in choose_layer(classifier(Last(last=True))).reason


def test_the_default_layer_costs_one_pass() -> None:
    network = Tokens().eval()
    passes: list[int] = []
    network.register_forward_pre_hook(lambda module, args: passes.append(1))
    model, images = classifier(network), torch.rand(2, 3, 16, 16)
    hp.default_layer(model, images)
    assert len(passes) == 1
    hp.GradCAM()(model, images)
    hp.GradCAM()(model, images)
    assert len(passes) == 3


def test_class_scores_are_no_features_and_512_classes_are_no_class_scores() -> None:
    network = torchvision.models.resnet18(weights=None, num_classes=512)
    assert hp.default_layer(classifier(network, 64)) == "layer4"


def test_the_probe_leaves_nothing_behind() -> None:
    network = Tokens().eval()
    before = [dict(vars(module)) for module in network.modules()]
    probe(classifier(network), torch.rand(1, 3, 16, 16), graph=True)
    for module, was in zip(network.modules(), before, strict=True):
        assert vars(module).keys() == was.keys()
        assert not module._forward_hooks
    assert all(parameter.grad is None for parameter in network.parameters())


class Between(nn.Module):
    """One operator between a map of 6 channels and a layer that hands its result on."""

    def __init__(self, operator: Operator):
        super().__init__()
        self.stem, self.token = nn.Conv2d(3, 6, 4, stride=4), nn.Parameter(torch.zeros(1, 1, 6))
        self.odd, self.operator = nn.Identity(), operator

    def forward(self, x: Tensor) -> Tensor:
        return self.odd(self.operator(self, self.stem(x))).flatten(1)[:, :4]


def tokens(net: Between, x: Tensor) -> Tensor:
    """The map as tokens behind a class token."""
    return torch.cat([net.token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)


def windowed(x: Tensor) -> Tensor:
    """Rows in two bands: [batch, channels, band, row, column]."""
    return x.view(len(x), 6, 2, 2, 4)


MAP, GRID = Layout("NCHW", 3, 5), Layout("NLC", 3, 5)
WIDE: dict[str, tuple[Operator, Layout | None]] = {
    "channels of a map": (lambda net, x: x[:, 2:], MAP),
    "nearly all columns": (lambda net, x: x[..., :-1], Layout("NCHW", 3, 4)),
    "every other row": (lambda net, x: x[:, :, ::2], Layout("NCHW", 2, 5)),
    "a corner": (lambda net, x: x[:, :, :2, :2], None),
    "tokens without the class": (lambda net, x: tokens(net, x)[:, 1:], GRID),
    "tokens without one of the grid": (lambda net, x: tokens(net, x)[:, 2:], None),
    "tokens without the last": (lambda net, x: tokens(net, x)[:, :-1], None),
    "parts of the channels": (lambda net, x: x.split([2, 4], 1)[1], MAP),
    "parts of the rows": (lambda net, x: x.split([1, 2], 2)[1], None),
    "the grid's part of the tokens": (lambda net, x: tokens(net, x).split([1, 15], 1)[1], GRID),
    "a stack": (lambda net, x: torch.stack([x, 2 * x], 1).sum(1), MAP),
    "all rows": (lambda net, x: x.narrow(2, 0, 3), MAP),
    "tokens column by column": (lambda net, x: x.transpose(2, 3).flatten(2).transpose(1, 2), None),
    "tokens column by column put together": (lambda net, x: F.fold(x.transpose(2, 3).flatten(2), (5, 3), 1), None),
    "rolled": (lambda net, x: x.roll((1, 2), (2, 3)), None),
    "rolled there and back": (lambda net, x: x.roll((1, 2), (2, 3)).roll((-1, -2), (2, 3)), MAP),
    "rolled over the edges": (lambda net, x: x.roll(3), None),
    "rolled channels": (lambda net, x: x.roll(1, 1), MAP),
    "rolled tokens": (lambda net, x: tokens(net, x).roll(1, 1), None),
    "repeated channels": (lambda net, x: x.repeat(1, 2, 1, 1), MAP),
    "repeated rows": (lambda net, x: x.repeat(1, 1, 2, 1), None),
    "stretched channels": (lambda net, x: x.mean(1, keepdim=True).expand(-1, 6, -1, -1), MAP),
    "columns before rows": (lambda net, x: x.transpose(2, 3), Layout("NCWH", 3, 5)),
    "read in another order": (lambda net, x: x.flatten(2).view(len(x), 6, 5, 3), None),
    "tokens with a dimension more": (
        lambda net, x: tokens(net, x).view(len(x), 1, 16, 6).squeeze(1),
        Layout("NLC", 3, 5, 1),
    ),
    "tokens of all images": (
        lambda net, x: tokens(net, x).reshape(-1, 6).view(len(x), 16, 6),
        Layout("NLC", 3, 5, 1),
    ),
    "patches": (lambda net, x: F.unfold(x, 3, padding=1), Layout("NCL", 3, 5)),
    "patches of a rolled map": (lambda net, x: F.unfold(x.roll(1, 2), 3, padding=1), None),
    "patches put together": (lambda net, x: F.fold(F.unfold(x, 3, padding=1), (3, 5), 3, padding=1), MAP),
    "rolled patches put together": (
        lambda net, x: F.fold(F.unfold(x.roll(1, 2), 3, padding=1), (3, 5), 3, padding=1),
        None,
    ),
    "the mean of all": (lambda net, x: x * x.mean(), MAP),
    "a vector's transpose": (lambda net, x: x + x.mean((1, 2, 3)).t().sum(), MAP),
}
SQUARE: dict[str, tuple[Operator, Layout | None]] = {
    "rows plus columns": (lambda net, x: x + x.transpose(2, 3), None),
    "windows": (lambda net, x: windowed(x).transpose(2, 3).reshape(x.shape), None),
    "windows and back": (
        lambda net, x: windowed(windowed(x).transpose(2, 3).reshape(x.shape)).transpose(2, 3).reshape(x.shape),
        Layout("NCHW", 4, 4),
    ),
    "a map plus its windows": (lambda net, x: x + windowed(x).transpose(2, 3).reshape(x.shape), None),
    "means of windows": (
        lambda net, x: windowed(x).mean(3, keepdim=True).expand(-1, -1, -1, 2, -1).reshape(x.shape),
        None,
    ),
    "a map beside them": (
        lambda net, x: x * windowed(x).mean(3, keepdim=True).expand(-1, -1, -1, 2, -1).reshape(x.shape),
        Layout("NCHW", 4, 4),
    ),
    "the first row of each window": (lambda net, x: windowed(x)[:, :, :, 0], Layout("NCHW", 2, 4)),
    "beside a pooled map": (lambda net, x: F.avg_pool2d(x, (2, 1)) + windowed(x)[:, :, :, 0], Layout("NCHW", 2, 4)),
    "pixels into channels": (lambda net, x: F.pixel_unshuffle(x, 2), Layout("NCHW", 2, 2)),
}


@pytest.mark.parametrize(
    ("operator", "layout", "shape"),
    [
        pytest.param(*case, shape, id=name)
        for cases, shape in ((WIDE, (12, 20)), (SQUARE, (16, 16)))
        for name, case in cases.items()
    ],
)
def test_rows_and_columns_are_followed_or_lost(
    operator: Operator, layout: Layout | None, shape: tuple[int, int]
) -> None:
    found = {
        entry.name: entry.layout for entry in hp.list_layers(classifier(Between(operator)), torch.rand(2, 3, *shape))
    }
    assert found["odd"] == layout


def test_layouts_are_the_same_in_inference_mode() -> None:
    """In which torch runs other operators, whole linear layers among them: the probe leaves it."""
    model, images = classifier(Tokens()), torch.rand(2, 3, 12, 20)
    outside = {entry.name: entry.layout for entry in hp.list_layers(model, images)}
    with torch.inference_mode():
        inside = {entry.name: entry.layout for entry in hp.list_layers(model, images)}
    assert inside == outside
    assert inside["blocks.1"] == Layout("NLC", 3, 5, 1)


def test_a_layout_is_told_in_letters_and_numbers() -> None:
    assert str(Layout("NCHW", 3, 5)) == "NCHW"
    assert str(Layout("NLC", 3, 5)) == "NLC, 3x5 tokens"
    assert str(Layout("NLC", 3, 5, 1)) == "NLC, 1 + 3x5 tokens"


def test_operators_that_run_whole_are_followed() -> None:
    """A linear layer in inference mode, and torch's fast path of an encoder: one operator each."""
    image, encoder = torch.rand(2, 4, 4, 5), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    with FollowAxes(image) as follow:
        tokens = image.flatten(2).transpose(1, 2)
        with torch.inference_mode():
            wider = F.linear(tokens, torch.ones(7, 4))
        with torch.no_grad():
            encoded = encoder(tokens)
        assert layout_of(follow.of(wider)) == Layout("NLC", 4, 5)
        assert layout_of(follow.of(encoded)) == Layout("NLC", 4, 5)
