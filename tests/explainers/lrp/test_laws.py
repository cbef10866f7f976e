"""LRP's laws: relevance is conserved without biases, and the map is differentiable in weights and pixels."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from heatproof.explainers.lrp import rules
from heatproof.explainers.lrp.affine import affine
from heatproof.explainers.lrp.composites import COMPOSITES
from heatproof.explainers.lrp.propagation import LRP
from heatproof.models.classifier import Classifier
from heatproof.vision import torchvision
from networks import photos, small

TINY = 1e-15
RULES = {
    "epsilon": partial(rules.epsilon, stabilizer=TINY),
    "z_plus": partial(rules.z_plus, stabilizer=TINY),
    "alpha2beta1": partial(rules.alpha_beta, alpha=2, beta=1, stabilizer=TINY),
    "gamma": partial(rules.gamma, gamma=0.25, stabilizer=TINY),
    "z_box": partial(rules.z_box, stabilizer=TINY),
    "flat": rules.flat,
    "w_square": rules.w_square,
}


ONCE = sorted({make: name for name, make in COMPOSITES.items()}.values())
"""Composites, without second names."""


@st.composite
def convolutions(draw: Any) -> tuple[nn.Conv2d, Tensor]:
    groups = draw(st.integers(1, 3))
    kernel, dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3))), draw(st.integers(1, 2))
    torch.manual_seed(draw(st.integers(0, 1000)))
    layer = nn.Conv2d(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        kernel,
        stride=draw(st.integers(1, 3)),
        padding=draw(st.integers(0, 1)),
        dilation=dilation,
        groups=groups,
        bias=False,
    ).double()
    rows, cols = draw(st.integers(5, 8)), draw(st.integers(5, 8))
    return layer, torch.randn(2, layer.in_channels, rows, cols, dtype=torch.float64)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=25, deadline=None)
@given(case=convolutions(), nonnegative=st.booleans())
def test_every_rule_conserves(rule: str, case: tuple[nn.Conv2d, Tensor], nonnegative: bool) -> None:
    layer, x = case
    x = x.abs() if nonnegative else x
    bounds = (x.amin(0, keepdim=True) - 0.1, x.amax(0, keepdim=True) + 0.1)
    seen = affine(nn.Conv2d, layer, {"input": x}, None, name="conv", nonnegative=nonnegative, bounds=bounds)
    with torch.no_grad():
        z = layer(x)
        # relevance is proportional to the output, as it is in a network: none where nothing went in
        relevance = z * torch.rand_like(z)
        shares = torch.as_tensor(RULES[rule](seen, [x], relevance))
    torch.testing.assert_close(shares.sum((1, 2, 3)), relevance.sum((1, 2, 3)), rtol=1e-9, atol=1e-9)


def without_biases(network: nn.Module, images: Tensor) -> nn.Module:
    """No biases, no shifts; variances that fit the images, so that signals neither vanish nor explode."""
    network = network.double().eval()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)

    def measure(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        norm.get_buffer("running_var").copy_(inputs[0].square().mean((0, 2, 3)) + 1e-3)

    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return network


# narrow members of the families, since float64 convolutions are slow, and depthwise ones very slow
models = torchvision.models
NARROW: dict[str, Callable[[], nn.Module]] = {
    "vgg": lambda: nn.Sequential(
        models.vgg.make_layers([8, "M", 16, "M", 16, 16, "M"]),
        nn.AdaptiveAvgPool2d(7),
        nn.Flatten(),
        nn.Linear(16 * 49, 32),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(32, 10),
    ),
    "resnet": lambda: models.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1], 10, width_per_group=8),
    "densenet": lambda: models.DenseNet(8, (2, 2, 2), 8, num_classes=10),  # pyright: ignore[reportArgumentType] four, says torchvision
    "squeezenet": lambda: models.squeezenet1_1(weights=None),
    "mobilenet": lambda: models.MobileNetV2(10, 0.25, [[1, 16, 1, 1], [6, 24, 2, 2]]),
    "efficientnet": lambda: models.EfficientNet(
        [models.efficientnet.MBConvConfig(1, 3, 1, 8, 8, 1), models.efficientnet.MBConvConfig(4, 3, 2, 8, 16, 2)],
        dropout=0.2,
        num_classes=10,
    ),
}
# name -> side of the images in pixels
LARGE = {
    "vgg16": 32,
    "vgg19": 32,
    "resnet18": 32,
    "resnet50": 32,
    "resnet101": 32,
    "densenet121": 32,
    "inception_v3": 80,
    "googlenet": 32,
    "squeezenet1_1": 32,
    "mobilenet_v2": 32,
    "efficientnet_b0": 32,
    "mobilenet_v3_small": 32,
    "shufflenet_v2_x0_5": 32,
    "regnet_y_400mf": 32,
    "timm.vgg16": 32,
    "timm.resnet50": 32,
    "timm.densenet121": 32,
    "timm.inception_v3": 80,
    "timm.legacy_xception": 32,
    "timm.xception41": 32,
    "timm.efficientnet_b0": 32,
    "timm.tf_efficientnet_b0": 32,
    "timm.mobilenetv2_100": 32,
    "timm.seresnet18": 32,
    "timm.resnetv2_50": 32,
    "timm.res2net50_26w_4s": 32,
    "timm.dla34": 32,
    "convnext_tiny": 32,
    "timm.convnextv2_atto": 32,
    "timm.resnet50_gn": 32,
}


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name.startswith("timm."):
        # after heatproof.vision, which lets torchvision be imported
        import timm

        return timm.create_model(name.removeprefix("timm."), pretrained=False)
    extra = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **extra)


def assert_conserved(network: nn.Module, size: int, composite: str, batch_norm: Any = "fold") -> None:
    images = torch.rand(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    network = without_biases(network, (images - 0.5) / 0.25)
    model = Classifier(network, 0.5, 0.25, input_size=size).double()
    with torch.no_grad():
        wanted = model(images)
    found = LRP(composite=composite, batch_norm=batch_norm, stabilizer=TINY)(model, images)
    torch.testing.assert_close(found.logits, wanted, rtol=1e-9, atol=1e-12)
    scores = wanted.gather(1, found.targets[:, None])[:, 0]
    torch.testing.assert_close(found.heatmaps.sum((1, 2)), scores, rtol=1e-9, atol=0)


@pytest.mark.parametrize("composite", ["lrp", "epsilon_gamma_box"])
@pytest.mark.parametrize("family", NARROW)
def test_families_conserve(family: str, composite: str) -> None:
    torch.manual_seed(0)
    assert_conserved(NARROW[family](), 32, composite)


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", ["fold", "pass"])
@pytest.mark.parametrize("composite", ONCE)
@pytest.mark.parametrize("family", NARROW)
def test_families_conserve_with_every_composite(family: str, composite: str, batch_norm: str) -> None:
    torch.manual_seed(0)
    assert_conserved(NARROW[family](), 32, composite, batch_norm)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_whole_networks_conserve(name: str) -> None:
    assert_conserved(built(name), LARGE[name], "lrp")


def test_bias_takes_what_is_missing() -> None:
    """One linear layer: the map sums to the score without the bias's share of the output."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    images = torch.rand(1, 3, 2, 2, dtype=torch.float64)
    found = LRP(stabilizer=1e-12)(network, images, torch.tensor([1]))
    torch.testing.assert_close(
        found.heatmaps.sum((1, 2)), found.logits[:, 1] - network.get_parameter("1.bias")[1].detach()
    )


class Mixed(nn.Module):
    """What ``networks.Residual`` leaves out: average pooling, ReLU6, SiLU, a split, an option-A shortcut, a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.alone = nn.BatchNorm2d(4)
        self.project = nn.Conv2d(4, 6, 1, stride=2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.stem(x))
        left, right = self.norm(self.depthwise(x)).chunk(2, 1)
        x = x + torch.cat([F.relu6(right), left], 1)
        x = F.relu(self.alone(F.avg_pool2d(x, 3, 1, 1)))
        x = self.project(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))
        return self.head(x.mean([2, 3]))


def mixed() -> Classifier:
    torch.manual_seed(2)
    network = Mixed().double().eval()
    for norm in (network.norm, network.alone):
        for value in (norm.weight, norm.bias, norm.get_buffer("running_mean")):
            nn.init.normal_(value)
        nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 1.5)
    return Classifier(network, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), input_size=6).double()


def assert_differentiable(network: str, fast: bool, **setting: Any) -> None:
    model = small(size=6) if network == "residual" else mixed()
    images = photos(1, size=6).requires_grad_()

    def heatmaps(*values: Tensor) -> Tensor:
        # gradcheck moves the live parameters themselves
        return LRP(**setting)(model, values[0], torch.tensor([1]), create_graph=True).heatmaps

    assert torch.autograd.gradcheck(heatmaps, [images, *model.parameters()], atol=1e-6, rtol=1e-4, fast_mode=fast)


@pytest.mark.parametrize("network", ["residual", "mixed"])
@pytest.mark.parametrize("setting", [{}, {"batch_norm": "pass"}, {"composite": "alpha2beta1"}], ids=str)
def test_the_map_is_differentiable_in_weights_and_pixels(network: str, setting: dict[str, Any]) -> None:
    assert_differentiable(network, True, **setting)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["residual", "mixed"])
@pytest.mark.parametrize("composite", ONCE)
def test_so_it_is_with_every_composite(network: str, composite: str) -> None:
    assert_differentiable(network, True, composite=composite)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["residual", "mixed"])
@pytest.mark.parametrize("layer", [None, "stem"])
def test_every_entry_of_the_jacobian(network: str, layer: str | None) -> None:
    assert_differentiable(network, False, layer=layer)


def test_epsilon_everywhere_is_gradient_times_input() -> None:
    """Ancona et al. 2018: with ReLUs alone and a vanishing stabilizer; on an image without normalisation."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)
    )
    network = network.double().eval()
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    logits = network(images)
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), images)
    found = LRP(composite="epsilon", stabilizer=1e-14)(network, images.detach())
    torch.testing.assert_close(found.heatmaps, (gradient * images.detach()).sum(1), rtol=1e-8, atol=1e-10)
