"""What was worked out for a network is worked out again when the network is changed, whatever the change is."""

import copy
from collections.abc import Callable
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrize

import heatproof as hp
from heatproof.models.structure import observer, own_pass, remembered, structure_digest
from networks import photos


class Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2


class Settings:
    def __init__(self) -> None:
        self.factor = 1.0


class Body(nn.Module):
    """Everything in its forward method that a user may set between two calls."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.act: Callable[[Tensor], Tensor] = torch.relu
        self.settings, self.scales, self.shift = settings, [1.0], (0.0,)
        self.twice = False
        self.calls, self.seen = 0, list[int]()
        self.mask: Tensor | None
        self.register_buffer("mask", None)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(len(x))
        x = self.act(self.conv(x)) * self.settings.factor * self.scales[0] + self.shift[0]
        if self.mask is not None:
            x = x * self.mask
        return self.bent(x * 2 if self.twice else x)

    def bent(self, x: Tensor) -> Tensor:
        return x


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.last = Body(Settings()), nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.body(x)).mean((2, 3)))


def made() -> hp.Classifier:
    return hp.Classifier(Network().double().eval(), input_size=10)


CHANGES: dict[str, Callable[[Any, pytest.MonkeyPatch], Any]] = {
    "hook": lambda n, _: n.body.register_forward_hook(lambda module, args, output: output * 0.5),
    "pre-hook": lambda n, _: n.last.register_forward_pre_hook(lambda module, args: (args[0] * 0.5,)),
    "forward of an instance": lambda n, _: setattr(n.body, "forward", lambda x: n.body.conv(x)),
    "method of an instance": lambda n, _: setattr(n.body, "bent", MethodType(lambda self, x: x * 3, n.body)),
    "forward of a class": lambda n, patch: patch.setattr(Body, "forward", lambda self, x: self.conv(x)),
    "method of a class": lambda n, patch: patch.setattr(Body, "bent", lambda self, x: x * 3),
    "flag": lambda n, _: setattr(n.body, "twice", True),
    "function": lambda n, _: setattr(n.body, "act", torch.sigmoid),
    "setting of an object": lambda n, _: setattr(n.body.settings, "factor", 2.0),
    "list": lambda n, _: n.body.scales.__setitem__(0, 2.0),
    "tuple": lambda n, _: setattr(n.body, "shift", (1.0,)),
    "buffer": lambda n, _: setattr(n.body, "mask", torch.full((8, 8), 0.5).double()),
    "parametrization": lambda n, _: parametrize.register_parametrization(n.body.conv, "weight", Half()),
    "module": lambda n, _: setattr(n, "last", nn.Sequential(*n.last, nn.Tanh())),
    "module of one kind": lambda n, _: setattr(n, "head", nn.Linear(8, 3).double()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_lrp_follows_the_network_as_it_is_now(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images, targets = made(), photos(2), torch.tensor([0, 1])
    explainer = hp.LRP(None, "epsilon")
    before = explainer(model, images, targets)
    CHANGES[change](model.network, monkeypatch)
    found = explainer(model, images, targets)
    torch.testing.assert_close(found.logits, model(images).detach())
    assert not torch.allclose(found.logits, before.logits)
    # a classifier of which nothing is remembered
    afresh = hp.Classifier(model.network, input_size=10)
    remembered(model.network).clear()
    torch.testing.assert_close(found.heatmaps, explainer(afresh, images, targets).heatmaps, rtol=0, atol=0)


def test_a_hook_on_every_module_is_followed_and_forgotten() -> None:
    model, images = made(), photos(2)
    before = hp.LRP(None, "epsilon")(model, images)
    handle = register_module_forward_hook(
        lambda module, args, output: output * 2 if module is model.network.body else None
    )
    try:
        assert not torch.allclose(hp.LRP(None, "epsilon")(model, images).logits, before.logits)
    finally:
        handle.remove()
    torch.testing.assert_close(hp.LRP(None, "epsilon")(model, images), before)


@pytest.mark.parametrize("explainer", [hp.LRP(None, "epsilon"), hp.LRP("default", "epsilon"), hp.GradCAM()], ids=repr)
def test_what_the_network_changes_by_itself_is_no_change(explainer: hp.LRP | hp.GradCAM) -> None:
    model, images = made(), photos(2)
    explainer(model, images)
    kept = remembered(model.network)
    with torch.no_grad():
        model.network.get_parameter("head.weight").mul_(2)
    model(images)
    model.train()
    explainer(model, images)
    assert remembered(model.network) is kept
    assert kept


def test_a_hook_that_only_looks_on_is_no_change() -> None:
    model = made()
    kept = remembered(model.network)
    with model.network.register_forward_hook(observer(lambda module, args, output: None)):
        assert remembered(model.network) is kept
    with model.network.register_forward_hook(lambda module, args, output: None):
        assert remembered(model.network) is not kept


def test_the_digest_is_that_of_a_copy_until_it_is_changed() -> None:
    network = made().network
    other: Any = copy.deepcopy(network)
    assert structure_digest(other) == structure_digest(network)
    other.body.twice = True
    assert structure_digest(other) != structure_digest(network)


def test_a_pass_that_fails_leaves_what_is_known() -> None:
    network = made().network
    kept = remembered(network)
    with pytest.raises(ZeroDivisionError), own_pass(network):
        raise ZeroDivisionError
    assert remembered(network) is kept


def vit(**given: Any) -> hp.Classifier:
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    network = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3, mlp_ratio=2, num_classes=7, **given
    )
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return hp.Classifier(network.eval(), (0.5,) * 3, (0.25,) * 3, input_size=32)


def shortened(network: Any) -> None:
    network.blocks = network.blocks[:2]


SHRINKS: dict[str, tuple[Callable[[Any], object], str]] = {
    "fewer blocks": (shortened, "blocks.0"),
    "the mean of all tokens is read": (lambda network: network.reset_classifier(7, global_pool="avg"), "blocks"),
}


@pytest.mark.parametrize("change", SHRINKS)
@pytest.mark.parametrize("explainer", [hp.GradCAM(), hp.HiResCAM(), hp.LRP("default", "attnlrp")], ids=repr)
def test_the_default_layer_is_that_of_the_network_as_it_is_now(change: str, explainer: Any) -> None:
    model, images = vit(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert hp.default_layer(model) == "blocks.1"
    explainer(model, images, 3)
    other = copy.deepcopy(model)
    alter, layer = SHRINKS[change]
    for one in (model, other):
        alter(one.network)
        with torch.no_grad():
            one.network.get_parameter("head.weight").normal_(generator=torch.Generator().manual_seed(2))
        assert hp.default_layer(one) == layer
        found = explainer(one, images, 3)
        afresh = hp.Classifier(copy.deepcopy(one.network), (0.5,) * 3, (0.25,) * 3, input_size=32)
        torch.testing.assert_close(found.heatmaps, explainer(afresh, images, 3).heatmaps)
        assert found.heatmaps.abs().sum() > 0


def test_a_stated_default_layer_stays() -> None:
    model = vit()
    model.default_layer = "blocks.0"
    hp.GradCAM()(model, torch.rand(1, 3, 32, 32), 0)
    shortened(model.network)
    SHRINKS["the mean of all tokens is read"][0](model.network)
    assert hp.default_layer(model) == "blocks.0"
    assert type(hp.default_layer(vit())) is str
