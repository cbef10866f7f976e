"""Our LRP against zennit's and captum's, on VGG, ResNet and the real SqueezeNet and MobileNetV2.

Where the libraries differ, and how that is taken out of the comparison, stands with each test.
"""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heatproof as hp
from heatproof.data.batches import batches
from heatproof.data.sources import open_data
from heatproof.explainers.lrp import rules
from heatproof.explainers.lrp.composites import COMPOSITES, CONVOLUTION, NORM, epsilon, paper
from heatproof.explainers.lrp.kinds import FirstLayer
from heatproof.vision import torchvision

pytestmark = pytest.mark.peers


def random(name: str) -> hp.Classifier:
    """Random weights whose biases and running statistics are not zero."""
    torch.manual_seed(3)
    network = torchvision.models.get_model(name, weights=None, num_classes=20)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # zennit folds a batch norm into the convolution but leaves it in place with its eps: it then divides by
            # sqrt(1 + eps) a second time, and its logits differ from the model's by 5e-6 per layer
            module.eps = 0.0
            nn.init.uniform_(module.weight, 0.6, 1.4)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.get_buffer("running_mean"), 0, 0.2)
            nn.init.uniform_(module.get_buffer("running_var"), 0.6, 1.4)
        elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.normal_(module.bias, 0, 0.1)
    return hp.Classifier(network.eval(), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), input_size=64, name=name)


def pixels(size: int = 64) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def canonizers(name: str) -> list[Any]:
    from zennit.canonizers import AttributeCanonizer, SequentialMergeBatchNorm
    from zennit.layer import Sum
    from zennit.torchvision import ResNetCanonizer

    if "resnet" in name:
        return [ResNetCanonizer()]

    from torchvision.models.mobilenetv2 import InvertedResidual

    def forward(self: Any, x: Tensor) -> Tensor:
        return self.canonizer_sum(torch.stack([x, self.conv(x)], -1)) if self.use_res_connect else self.conv(x)

    def attributes(name: str, module: nn.Module) -> dict[str, Any] | None:
        if isinstance(module, InvertedResidual):
            return {"forward": forward.__get__(module), "canonizer_sum": Sum()}
        return None

    # without it zennit hands the relevance of a residual sum to both branches whole (zennit#165, #193)
    return [SequentialMergeBatchNorm(), AttributeCanonizer(attributes)]


def zennit(model: hp.Classifier, images: Tensor, composite: Callable[..., Any], **setting: Any) -> Tensor:
    from zennit.attribution import Gradient

    leaf = ((images - model.mean) / model.std).requires_grad_()
    rules = composite(canonizers=canonizers(str(model.name)), **setting)
    explaining: Any = Gradient(model=model.network, composite=rules)
    with explaining as attributor:
        logits, relevance = attributor(leaf, lambda out: out * F.one_hot(out.argmax(1), out.shape[1]))
    torch.testing.assert_close(logits, model(images), rtol=1e-6, atol=1e-8)
    return relevance.sum(1).detach()


@pytest.mark.parametrize("composite", ["epsilon_plus", "alpha2beta1", "epsilon_gamma_box"])
@pytest.mark.parametrize("name", ["vgg11_bn", "resnet18", "resnet50"])
def test_as_zennit_on_vgg_and_resnet(name: str, composite: str) -> None:
    assert_as_zennit(random(name).double(), pixels(), composite)


def assert_as_zennit(
    model: hp.Classifier,
    images: Tensor,
    composite: str,
    ours: str | None = None,
    pad: nn.Module = nn.Identity(),
    theirs: hp.Classifier | None = None,
) -> None:
    from zennit.composites import EpsilonAlpha2Beta1, EpsilonGammaBox, EpsilonPlus

    peer: Any = {"epsilon_plus": EpsilonPlus, "alpha2beta1": EpsilonAlpha2Beta1, "epsilon_gamma_box": EpsilonGammaBox}[
        composite
    ]
    boxes = {
        key: pad(((value - model.mean) / model.std).expand_as(images[:1])) for key, value in (("low", 0), ("high", 1))
    }
    wanted = zennit(theirs or model, images, peer, **(boxes if composite == "epsilon_gamma_box" else {}))
    found = hp.LRP(composite=ours or composite, stabilizer=1e-6)(model, images)
    assert relative(found.heatmaps, wanted) < 1e-5


@pytest.fixture(scope="module")
def photos(shared: Path) -> Tensor:
    source = open_data([str(shared / "data/photos/both.png"), str(shared / "data/photos/cat_dog_original.jpg")])
    return next(iter(batches(source, 96, 2))).images.double()


def real(shared: Path, name: str) -> hp.Classifier:
    model = hp.load(f"{shared}/weights/zoo.py:{name}").double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    return model


def one_sided(layer: Any, inputs: Any, relevance: Tensor, *, stabilizer: float) -> Tensor:
    """Alpha2-beta1 to the letter: an output with products of one sign only doubles its relevance, or turns it over.

    zennit has it so. Ours gives the one side all, which conserves the relevance; on real weights such outputs exist.
    """
    shares = []
    for sign, factor in ((1, 2.0), (-1, -1.0)):
        pairs = rules.products(layer, inputs[0], sign)
        z = rules.total(layer, pairs, rules.offset(layer, True, sign))
        shares.append(rules.share(layer, pairs, factor * relevance / rules.stabilized(z, stabilizer)))
    return shares[0] + shares[1]


def to_the_letter(stabilizer: float) -> Any:
    return ((CONVOLUTION + NORM, partial(one_sided, stabilizer=stabilizer)), *epsilon(stabilizer))


@pytest.mark.weights
@pytest.mark.parametrize("composite", ["epsilon_plus", "alpha2beta1", "epsilon_gamma_box"])
def test_as_zennit_on_real_squeezenet(
    shared: Path, photos: Tensor, composite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMPOSITES, "letter", to_the_letter)
    ours = "letter" if composite == "alpha2beta1" else None
    assert_as_zennit(real(shared, "squeezenet1_1"), photos, composite, ours)


@pytest.mark.weights
@pytest.mark.parametrize("composite", ["epsilon_plus", "alpha2beta1", "epsilon_gamma_box"])
def test_as_zennit_on_real_mobilenet(
    shared: Path, photos: Tensor, composite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """zennit gets the network with its pooling as a module, and its box with the black and white of the padding.

    torchvision's MobileNetV2 pools by a function, which zennit's hooks do not see: it then spreads the relevance evenly
    over the last map (10% off). The TensorFlow padding is a module of its own: our box is padded with the photo, theirs
    lets the padding be black or white (7% off).
    """
    monkeypatch.setitem(COMPOSITES, "letter", to_the_letter)
    model = real(shared, "mobilenet_v2")
    network: Any = model.network
    parts = nn.Sequential(network.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), network.classifier)
    settings: Any = (model.mean.flatten().tolist(), model.std.flatten().tolist())
    theirs = hp.Classifier(parts, *settings, input_size=224, name="mobilenet_v2").double().eval()
    ours = "letter" if composite == "alpha2beta1" else None
    assert_as_zennit(model, photos, composite, ours, network.features[0][0][0], theirs)


def captum(model: hp.Classifier, images: Tensor, rule_for: Callable[[nn.Module, int], Any]) -> Tensor:
    """On a copy without in-place ReLUs, on which captum fails (captum#1082)."""
    from captum.attr import LRP

    model = copy.deepcopy(model)
    weighted = 0
    for module in model.network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # pyright: ignore[reportArgumentType]
        if isinstance(module, nn.Conv2d | nn.Linear):
            rule = rule_for(module, weighted)
            weighted += 1
            if rule is not None:
                module.rule = rule  # type: ignore[assignment]
    leaf = ((images - model.mean) / model.std).requires_grad_()
    targets = model(images).argmax(1)
    return LRP(model.network).attribute(leaf, targets).sum(1).detach()  # type: ignore[union-attr]


class Residual(nn.Module):
    """A residual network as captum needs it: the addition is a module, every module is used once."""

    def __init__(self) -> None:
        super().__init__()
        from captum.attr._utils.custom_modules import Addition_Module

        torch.manual_seed(1)
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv2, self.bn2, self.relu2 = nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        self.conv3, self.bn3, self.relu3 = nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        self.add = Addition_Module()
        self.mean, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)
        for norm in (self.bn1, self.bn2, self.bn3):
            nn.init.normal_(norm.weight, 1, 0.2)
            nn.init.normal_(norm.bias, 0, 0.2)
            nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu1(self.bn1(self.conv1(x))))
        y = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(x)))))
        return self.head(self.mean(self.relu3(self.add(y, x))).flatten(1))


def test_as_captum_on_a_residual_network() -> None:
    """The epsilon rule throughout, which is captum's default; batch norm after its convolution is one layer with it."""
    model = hp.Classifier(Residual().eval(), 0.5, 0.25, input_size=32).double()
    wanted = captum(model, pixels(32), lambda module, place: None)
    found = hp.LRP(composite="epsilon", stabilizer=1e-9)(model, pixels(32))
    assert relative(found.heatmaps, wanted) < 1e-5


def captum_mixture(module: nn.Module, place: int) -> Any:
    """captum's alpha1-beta0 does not split signed inputs, so the first layer, which reads them, gets epsilon."""
    from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule

    # captum's rules keep the sign of the bias or drop it: the paper's rule has none
    return Alpha1_Beta0_Rule(set_bias_to_zero=True) if isinstance(module, nn.Conv2d) and place else EpsilonRule()


def our_mixture(stabilizer: float) -> Any:
    return (((FirstLayer,), partial(rules.epsilon, stabilizer=stabilizer)), *paper(stabilizer))


@pytest.mark.weights
@pytest.mark.parametrize("mixture", [False, True])
def test_as_captum_on_real_squeezenet(
    shared: Path, photos: Tensor, mixture: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_as_captum(real(shared, "squeezenet1_1"), photos, mixture, monkeypatch)


@pytest.mark.parametrize("mixture", [False, True])
def test_as_captum_on_vgg(mixture: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_as_captum(random("vgg11").double(), pixels(), mixture, monkeypatch)


def assert_as_captum(model: hp.Classifier, images: Tensor, mixture: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = captum(model, images, captum_mixture if mixture else lambda module, place: None)
    monkeypatch.setitem(COMPOSITES, "mixture", our_mixture if mixture else epsilon)
    found = hp.LRP(composite="mixture", stabilizer=1e-9)(model, images)
    assert relative(found.heatmaps, wanted) < 1e-5
