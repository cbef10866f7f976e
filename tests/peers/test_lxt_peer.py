"""Our AttnLRP and CP-LRP against LRP eXplains Transformers' own rules, on a small vision transformer.

LXT has no AttnLRP for vision transformers, only its rules as functions (``lxt.explicit``): the network below is written
with them, line by line, on the weights of the one that is explained here as it is. For CP-LRP it patches torchvision's
modules (``lxt.efficient``); its own patches are put on, and taken off again.
"""

import importlib
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heatproof as hp
from heatproof.vision import torchvision
from networks import attending, photos

pytestmark = pytest.mark.peers
SMALL = 1e-12
"""The stabilizer in both: theirs are 1e-8 to 1e-6, added without regard to the sign."""


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def by_lxt(model: hp.Classifier, images: Tensor, targets: Tensor, hold: bool) -> Tensor:
    """:class:`networks.Attending` written with LXT's functions: the gradient of each is its relevance."""
    import lxt.explicit.functional as lf
    from lxt.explicit import rules as lr

    net: Any = model.network
    pixels = ((images - model.mean) / model.std).requires_grad_()

    def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
        return lf.layer_norm_grad_fn.apply(x, layer.weight, layer.bias, layer.eps, SMALL)

    def linear(layer: nn.Linear, x: Tensor) -> Tensor:
        return lf.linear_epsilon(x, layer.weight, layer.bias, SMALL)

    x = lr.epsilon_lrp(net.stem, SMALL, pixels).flatten(2).transpose(1, 2)
    x = torch.cat([net.token.detach().expand(len(x), -1, -1), x], 1)
    x = lf.add2(x, net.position.detach(), False, SMALL)
    for qkv, out, feed in zip(net.qkv, net.out, net.feed, strict=True):
        q, k, v = linear(qkv, norm(net.norm, x)).reshape(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        if hold:
            weights = (q @ k.transpose(-2, -1) * 4**-0.5).softmax(-1).detach()
            y = lr.epsilon_lrp(torch.matmul, SMALL, weights, v)
        else:
            scores = lr.identity(lambda one: one * 4**-0.5, lf.matmul(q, k.transpose(-2, -1), False, SMALL))
            y = lf.matmul(lf.softmax(scores, -1), v, False, SMALL)
        x = lf.add2(x, linear(out, y.transpose(1, 2).flatten(2)), False, SMALL)
        x = lf.add2(x, lr.identity(F.gelu, linear(feed, x)), False, SMALL)
    logits = linear(net.head, norm(net.last, x)[:, 0])
    torch.testing.assert_close(logits, model(images))
    chosen = logits.gather(1, targets[:, None])[:, 0]
    (relevance,) = torch.autograd.grad(chosen, pixels, chosen.detach())
    return relevance.sum(1)


@pytest.mark.parametrize("composite", ["attnlrp", "cp_lrp"])
@pytest.mark.parametrize("way", ["fused", "written"])
def test_as_lxts_rules_on_a_small_vit(composite: str, way: str) -> None:
    model, images, targets = attending(way=way), photos(), torch.tensor([0, 1, 2])
    wanted = by_lxt(model, images, targets, hold=composite == "cp_lrp")
    found = hp.LRP(composite=composite, stabilizer=SMALL)(model, images, targets).heatmaps
    assert relative(found, wanted) < 1e-5
    # the two composites are not alike
    other = hp.LRP(composite="attnlrp" if composite == "cp_lrp" else "cp_lrp", stabilizer=SMALL)
    assert relative(other(model, images, targets).heatmaps, wanted) > 0.1


@pytest.fixture
def patches(monkeypatch: pytest.MonkeyPatch) -> Any:
    """LXT's patches without the package around them, which imports what transformers 5 no longer has."""
    import lxt

    package = ModuleType("lxt.efficient")
    package.__path__ = [str(Path(lxt.__path__[0]) / "efficient")]
    for name in ("lxt.efficient", "lxt.efficient.rules", "lxt.efficient.patches"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "lxt.efficient", package)
    yield importlib.import_module("lxt.efficient.patches")
    for name in ("lxt.efficient.rules", "lxt.efficient.patches"):
        del sys.modules[name]


@contextmanager
def patched(patches: Any) -> Generator[None]:
    """torchvision's modules as LXT patches them for CP-LRP."""
    kinds = (nn.GELU, nn.LayerNorm, nn.MultiheadAttention)
    before = {kind: kind.forward for kind in kinds}
    patches.patch_method(patches.non_linear_forward, nn.GELU, keep_original=True)
    patches.patch_method(patches.layer_norm_forward, nn.LayerNorm)
    patches.patch_method(patches.cp_multi_head_attention_forward, nn.MultiheadAttention, keep_original=True)
    try:
        yield
    finally:
        for kind, forward in before.items():
            kind.forward = forward  # type: ignore[method-assign]
            if "original_forward" in vars(kind):
                delattr(kind, "original_forward")


def test_cp_lrp_as_lxts_own_patches_of_torchvisions_vit(patches: Any) -> None:
    """In their way, gradient times input, every stabilizer is 0, and relevance of constants is left behind alike."""
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=5).double().eval()
    nn.init.normal_(network.heads[0].weight)  # pyright: ignore[reportArgumentType]
    model = hp.Classifier(network, (0.5,) * 3, (0.25,) * 3, input_size=32)
    images, targets = photos(2, size=32), torch.tensor([0, 3])
    pixels = ((images - model.mean) / model.std).requires_grad_()
    with patched(patches):
        logits = network(pixels)
        (slope,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), pixels)
    wanted = (slope * pixels).sum(1).detach()
    found = hp.LRP(composite="cp_lrp", stabilizer=SMALL)(model, images, targets).heatmaps
    assert relative(found, wanted) < 1e-5
    torch.testing.assert_close(model(images), logits.detach())
    # taken off again, the modules are torch's own
    torch.testing.assert_close(network(images), network(images.clone()))
    assert nn.LayerNorm.forward.__module__ == "torch.nn.modules.normalization"
