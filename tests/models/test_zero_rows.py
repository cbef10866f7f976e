"""Rows of zeros are left out of a derivative, and nothing else changes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from heatproof.explainers.cam import GradCAM
from heatproof.explainers.together import explain_together
from heatproof.models.classifier import Classifier
from heatproof.models.zero_rows import zero_rows_skipped
from heatproof.vision import torchvision

TOKENS = 101


def vit() -> Classifier:
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(40, 4, 2, 4, 64, 128).eval()
    nn.init.normal_(network.get_parameter("heads.head.weight"), std=0.1)
    return Classifier(network, input_size=40)


def slopes(total: Tensor, leaves: list[Tensor], skipped: bool) -> tuple[tuple[Tensor, ...], int]:
    """The derivatives, and what they cost."""
    counter = FlopCounterMode(display=False)
    with counter, zero_rows_skipped(skipped):
        found = torch.autograd.grad(total, leaves, retain_graph=True)
    return found, counter.get_total_flops()


def linear(tokens: Tensor) -> Tensor:
    return tokens @ torch.linspace(-1, 1, 64 * 32, dtype=tokens.dtype).view(64, 32)


def gelu(tokens: Tensor) -> Tensor:
    return nn.functional.gelu(tokens, approximate="tanh")


def attention(tokens: Tensor) -> Tensor:
    heads = tokens.unflatten(2, (4, 16)).transpose(1, 2)
    return nn.functional.scaled_dot_product_attention(heads, 0.5 * heads, heads.sin()).transpose(1, 2).flatten(2)


def causal(tokens: Tensor) -> Tensor:
    heads = tokens.unflatten(2, (4, 16)).transpose(1, 2)
    return nn.functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("layer", [linear, gelu, attention, causal])
@pytest.mark.parametrize("read", [[0], [7, 50], range(TOKENS)], ids=["class token", "two", "all"])
def test_the_derivative_is_torch_s(layer: Callable[[Tensor], Tensor], read: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(3, TOKENS, 64, generator=generator, dtype=torch.float64, requires_grad=True)
    out = layer(tokens)[:, list(read)]
    total = (out * torch.randn(out.shape, generator=generator, dtype=out.dtype)).sum()
    (own,), spent = slopes(total, [tokens], True)
    (wanted,), whole = slopes(total, [tokens], False)
    torch.testing.assert_close(own, wanted, rtol=1e-12, atol=1e-12)
    if layer is linear:
        assert (spent < 0.05 * whole) if len(read) < TOKENS else (spent == whole)


def test_grad_cam_at_a_class_token_leaves_the_other_tokens_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = vit(), torch.rand(2, 3, 40, 40)
    explainer = GradCAM(layer="encoder.layers.encoder_layer_0", relu=False)
    explainer(model, images)  # finds the layouts
    counter = FlopCounterMode(display=False)
    with counter:
        own = explainer(model, images)
    together = explain_together(model, images, [explainer], torch.tensor([1, 2])).heatmaps[0]
    monkeypatch.setattr("heatproof.explainers.together.zero_rows_skipped", lambda wanted: zero_rows_skipped(False))
    before = FlopCounterMode(display=False)
    with before:
        wanted = explainer(model, images)
    torch.testing.assert_close(own.heatmaps, wanted.heatmaps, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(
        together, explain_together(model, images, [explainer], torch.tensor([1, 2])).heatmaps[0], rtol=1e-4, atol=1e-7
    )
    # two perceptron layers and the projection of attention, of all tokens but one of each image
    others = 2 * (TOKENS - 1)
    assert before.get_total_flops() - counter.get_total_flops() == others * 2 * (2 * 64 * 128 + 64 * 64)


def test_a_dense_derivative_is_the_same_to_the_bit() -> None:
    """A network without a class token, and one whose score reads every token."""
    tokens = torch.randn(2, TOKENS, 64, requires_grad=True)
    total = linear(gelu(attention(tokens))).square().mean()
    (own,), spent = slopes(total, [tokens], True)
    (wanted,), whole = slopes(total, [tokens], False)
    assert torch.equal(own, wanted)
    assert spent == whole
