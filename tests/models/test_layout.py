"""Layouts: followed through the operators, and refused where they are lost."""

import pytest
import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof.models.layers import choose_layer, probe
from heatproof.models.layout import Layout
from heatproof.types import Explainer
from heatproof.vision import torchvision


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
