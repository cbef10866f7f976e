"""AttnLRP: each rule against its equation cell by cell, attention in one call against attention written out."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heatproof.errors import InputError, ModelError
from heatproof.explainers.lrp import attention
from heatproof.explainers.lrp.affine import Call
from heatproof.explainers.lrp.propagation import LRP
from networks import photos


def signed(z: float, small: float) -> float:
    return z + (small if z >= 0 else -small)


def test_a_product_of_signals_cell_by_cell() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(3, 4).double(), torch.randn(4, 2).double()
    r, o = torch.randn(3, 2).double(), a @ b
    layer: Any = Call("product", None, None, torch.matmul)  # type: ignore[arg-type]
    found = attention.product(layer, [a, b], r, stabilizer=0.01)
    of_a, of_b = torch.zeros_like(a), torch.zeros_like(b)
    for i in range(3):
        for j in range(4):
            for k in range(2):
                part = a[i, j] * b[j, k] * r[i, k] / signed(float(2 * o[i, k]), 0.01)
                of_a[i, j] += part
                of_b[j, k] += part
    torch.testing.assert_close(list(found), [of_a, of_b])
    # no relevance is made or lost
    both = attention.product(layer, [a, b], r, stabilizer=1e-15)
    torch.testing.assert_close(sum(torch.as_tensor(part).sum() for part in both), r.sum())


@pytest.mark.parametrize("dim", [-1, 0])
def test_softmax_cell_by_cell(dim: int) -> None:
    torch.manual_seed(1)
    x, r = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    x[1, 2] = -math.inf
    layer: Any = Call("softmax", None, nn.Softmax(dim), nn.Softmax(dim))  # type: ignore[arg-type]
    found = torch.as_tensor(attention.softmax(layer, [x], r))
    s = x.softmax(dim)
    for i in range(3):
        for j in range(4):
            line = r[i] if dim == -1 else r[:, j]
            wanted = 0.0 if (i, j) == (1, 2) else x[i, j] * (r[i, j] - s[i, j] * line.sum())
            assert float(found[i, j]) == pytest.approx(float(wanted))


class ViT(nn.Module):
    """One block of two heads, a class token, positions, a mask; the last patch, which sees all, is read."""

    def __init__(self, way: str):
        super().__init__()
        torch.manual_seed(3)
        self.way = way
        self.patches = nn.Conv2d(3, 8, 5, stride=5)
        self.token, self.position = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 5, 8))
        self.one, self.two, self.last = nn.LayerNorm(8), nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.wide, self.narrow, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 3)
        self.mask, self.added = nn.Buffer(torch.ones(5, 5).tril().bool()), nn.Buffer(torch.randn(5, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        x = x + self.out(self.attend(self.one(x)))
        x = x + self.narrow(F.gelu(self.wide(self.two(x))))
        return self.head(self.last(x)[:, -1])

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(x.shape[0], 5, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        if "written" in self.way:
            scores = (q @ k.transpose(-2, -1)) * 0.5
            if "causal" in self.way or "mask" in self.way:
                scores = scores + torch.zeros(5, 5, dtype=x.dtype).masked_fill(~self.mask, -math.inf)
            if "added" in self.way:
                scores = scores + self.added
            y = scores.softmax(-1) @ v
        elif "causal" in self.way:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        elif "mask" in self.way:
            y = F.scaled_dot_product_attention(q, k, v, self.mask)
        elif "added" in self.way:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.added, scale=0.5)
        else:
            y = F.scaled_dot_product_attention(q, k, v)
        return y.transpose(1, 2).reshape(x.shape[0], 5, 8)


@pytest.mark.parametrize("composite", ["attnlrp", "cp_lrp"])
@pytest.mark.parametrize("mask", ["", "causal", "mask", "added"])
def test_one_call_is_what_is_written_out(mask: str, composite: str) -> None:
    images = photos(2)
    # a mask of zeros that is added is stabilized, one that only allows is not
    explain = LRP(composite=composite, stabilizer=1e-10)
    maps = [explain(ViT(way).double().eval(), images) for way in (mask, "written " + mask)]
    torch.testing.assert_close(maps[0], maps[1])
    assert maps[0].heatmaps.abs().sum() > 0


def test_the_map_is_differentiable_in_weights_and_pixels() -> None:
    network, images = ViT("").double().eval(), photos(1).requires_grad_()

    def heatmaps(*values: Tensor) -> Tensor:
        return LRP(composite="attnlrp")(network, values[0], torch.tensor([1]), create_graph=True).heatmaps

    values = [images, *network.parameters()]
    assert torch.autograd.gradcheck(heatmaps, values, atol=1e-6, rtol=1e-4, fast_mode=True)


class Grouped(nn.Module):
    """Attention of four heads of queries and two of keys and values, over tokens that are cells."""

    def __init__(self, way: str):
        super().__init__()
        torch.manual_seed(5)
        self.way = way
        self.patches = nn.Conv2d(3, 8, 5, stride=5)
        self.q, self.kv, self.head = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 3)
        self.learned = nn.Parameter(torch.randn(1, 4, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        q = self.q(x).reshape(x.shape[0], -1, 4, 4).transpose(1, 2)
        if "learned" in self.way:
            q = self.learned.expand(x.shape[0], -1, -1, -1)
        k, v = self.kv(x).reshape(x.shape[0], -1, 2, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        if "repeated" in self.way:
            k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        if "written" in self.way:
            y = ((q @ k.transpose(-2, -1)) * 0.5).softmax(-1) @ v
        elif "named" in self.way:
            y = F.scaled_dot_product_attention(query=q, key=k, value=v, enable_gqa=True)
        elif "repeated" in self.way:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return self.head(y.transpose(1, 2).flatten(2).mean(1))


@pytest.mark.parametrize("composite", ["attnlrp", "cp_lrp"])
@pytest.mark.parametrize("way", ["", "named", "learned"])
def test_heads_that_share_keys_are_those_of_repeated_keys(way: str, composite: str) -> None:
    images, explain = photos(2), LRP(composite=composite, stabilizer=1e-12)
    found = explain(Grouped(way).double().eval(), images)
    learned = "learned " if way == "learned" else ""
    for other in ("repeated", "repeated written"):
        torch.testing.assert_close(found, explain(Grouped(learned + other).double().eval(), images))
    assert found.heatmaps.abs().sum() > 0


def pooled(fused: bool = True) -> Any:
    """timm's vision transformer with an attention pool, as SigLIP's: a learned query asks all patches."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    network: Any = VisionTransformer(
        img_size=10,
        patch_size=5,
        embed_dim=8,
        depth=1,
        num_heads=2,
        num_classes=3,
        global_pool="map",
        class_token=False,
    )
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.3 * torch.randn_like(value))
    return network.double().eval()


@pytest.mark.parametrize("composite", ["attnlrp", "cp_lrp"])
def test_a_learned_query_takes_no_relevance(composite: str) -> None:
    images, explain = photos(2), LRP(composite=composite, stabilizer=1e-10)
    one, other = (explain(pooled(fused), images) for fused in (True, False))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(one.logits, pooled()(images).detach())
    assert one.heatmaps.abs().sum() > 0


def test_through_a_learned_query_relevance_is_conserved() -> None:
    """By CP-LRP, without biases and positions: all of the logit arrives at the pixels."""
    network, images = pooled(), photos(2)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith("bias") or name == "pos_embed":
                value.zero_()
    found = LRP(composite="cp_lrp", stabilizer=1e-14)(network, images, torch.tensor([0, 2]))
    score = found.logits.gather(1, found.targets[:, None])[:, 0]
    torch.testing.assert_close(found.heatmaps.sum((1, 2)), score, rtol=1e-6, atol=1e-9)


def test_a_product_with_constant_weights_hands_all_to_the_values() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.ask, self.keys = nn.Parameter(torch.randn(1, 1, 4)), nn.Parameter(torch.randn(1, 3, 4))

        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(self.ask, self.keys, x.flatten(2))[:, 0]

    images = photos(1)[:, :, :2, :2]
    found = LRP(composite="attnlrp", stabilizer=1e-14)(Constant().double(), images)
    score = found.logits.gather(1, found.targets[:, None])[:, 0]
    torch.testing.assert_close(found.heatmaps.sum((1, 2)), score)


def test_a_mask_made_from_the_pixels_is_refused_for_what_it_is() -> None:
    class Masked(ViT):
        def attend(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).reshape(x.shape[0], 5, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
            y = F.scaled_dot_product_attention(q, k, v, q @ k.transpose(-2, -1))
            return y.transpose(1, 2).reshape(x.shape[0], 5, 8)

    with pytest.raises(ModelError, match="with a mask that is made from the pixels"):
        LRP(composite="attnlrp")(Masked("").double().eval(), photos(1))


def test_the_other_composites_refuse_attention_and_say_which_has_rules() -> None:
    with pytest.raises(ModelError, match=r"'scaled_dot_product_attention'.*composite='attnlrp' has one"):
        LRP()(ViT("").double().eval(), photos(1))
    with pytest.raises(ModelError, match=r"'matmul'.*composite='attnlrp' has one"):
        LRP()(ViT("written").double().eval(), photos(1))


def test_two_signals_take_half_each() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.one, self.two, self.head = nn.Linear(12, 6), nn.Linear(12, 6), nn.Linear(6, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            return self.head(self.one(x) * F.gelu(self.two(x)))

    network = Gated().double()
    for layer in (network.one, network.two):
        nn.init.zeros_(layer.bias)
    images = torch.rand(2, 3, 2, 2, dtype=torch.float64)
    found = LRP(composite="attnlrp", stabilizer=1e-15)(network, images)
    score = found.logits.gather(1, found.targets[:, None])[:, 0]
    torch.testing.assert_close(found.heatmaps.sum((1, 2)), score, rtol=1e-9, atol=1e-12)


def test_two_signals_that_both_are_stretched_take_half_each() -> None:
    a, b = torch.rand(2, 3, 1, 1), torch.rand(2, 1, 4, 4)
    layer: Any = Call("mul", None, None, torch.mul)  # type: ignore[arg-type]
    shares = list(attention.halves(layer, [a, b], torch.ones(2, 3, 4, 4)))
    torch.testing.assert_close(shares, [torch.full_like(a, 8.0), torch.full_like(b, 1.5)])


def test_a_smaller_gate_takes_nothing_and_the_signal_all() -> None:
    signal, gate, relevance = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 1, 1), torch.rand(2, 3, 4, 4)
    layer: Any = None  # the rule reads the shapes alone
    assert attention.halves(layer, [signal, gate], relevance) == [relevance, None]
    assert attention.halves(layer, [gate, signal], relevance) == [None, relevance]


def test_values_take_all_where_the_weights_are_held() -> None:
    torch.manual_seed(2)
    weights, value = torch.randn(3, 4).double().softmax(-1), torch.randn(4, 2).double()
    r, o = torch.randn(3, 2).double(), weights @ value
    layer: Any = Call("product", None, None, torch.matmul)  # type: ignore[arg-type]
    nothing, found = attention.mixed(layer, [weights, value], r, stabilizer=0.01)
    wanted = torch.zeros_like(value)
    for i in range(3):
        for j in range(4):
            for k in range(2):
                wanted[j, k] += weights[i, j] * value[j, k] * r[i, k] / signed(float(o[i, k]), 0.01)
    assert nothing is None
    torch.testing.assert_close(found, wanted)


class Heads(nn.Module):
    """Attention whose weights are mixed over the heads, moved and dropped out before they meet the values."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.qkv, self.head = nn.Conv2d(3, 8, 5, stride=5), nn.Linear(8, 24), nn.Linear(8, 3)
        self.mix, self.drop = nn.Linear(2, 2), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).reshape(x.shape[0], 4, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1)).softmax(-1)
        weights = self.drop(self.mix(weights.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return self.head((weights @ v).transpose(1, 2).flatten(2).mean(1))


def test_cp_lrp_is_gradient_times_input_with_the_weights_held() -> None:
    """On a network that is linear beside its attention's weights; the pixels' relevance is that of the value path."""
    network, images = Heads().double().eval(), photos(2)
    found = LRP(composite="cp_lrp", stabilizer=1e-13)(network, images, torch.tensor([0, 2]))
    pixels = images.clone().requires_grad_()
    x = network.patches(pixels).flatten(2).transpose(1, 2)
    q, k, v = network.qkv(x).reshape(2, 4, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
    weights = network.mix((q @ k.transpose(-2, -1)).softmax(-1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2).detach()
    logits = network.head((weights @ v).transpose(1, 2).flatten(2).mean(1))
    (slope,) = torch.autograd.grad(logits[0, 0] + logits[1, 2], pixels)
    torch.testing.assert_close(found.heatmaps, (slope * pixels).sum(1).detach(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("composite", ["attnlrp", "cp_lrp"])
@pytest.mark.parametrize("way", ["", "added", "written added"])
def test_without_constants_the_map_sums_to_the_logit(composite: str, way: str) -> None:
    """No biases, positions or class token, no stabilizer: all relevance arrives.

    What is conserved is told here exactly: of AttnLRP's softmax rule x * (R - s sum R), a product of the scores and
    their slope, the relevance of a row of scores does not sum to that of the row of weights; its bias term does the
    rest. With the weights held nothing goes through the softmax.
    """
    network = ViT(way).double().eval()
    for name, parameter in network.named_parameters():
        if name.endswith("bias") or name in ("token", "position"):
            nn.init.zeros_(parameter)
    found = LRP(composite=composite, stabilizer=1e-14)(network, photos(2))
    score = found.logits.gather(1, found.targets[:, None])[:, 0]
    off = (found.heatmaps.sum((1, 2)) - score).abs() / score.abs()
    assert (off < 1e-6).all() if composite == "cp_lrp" else (off > 1e-3).all()


@pytest.mark.parametrize("composite", ["attnlrp", "epsilon", "lrp"])
def test_gamma_of_zero_is_epsilon_and_a_layer_type_has_its_own(composite: str) -> None:
    from networks import attending, small

    model, images = (small() if composite == "lrp" else attending(), photos())
    if composite == "epsilon":
        model = small()
    plain = LRP(composite=composite)(model, images).heatmaps
    if composite != "lrp":
        torch.testing.assert_close(
            LRP(composite=composite, gamma_conv=0.0, gamma_linear=0.0)(model, images).heatmaps, plain
        )
    conv = LRP(composite=composite, gamma_conv=0.5)(model, images).heatmaps
    linear = LRP(composite=composite, gamma_linear=0.5)(model, images).heatmaps
    assert not torch.allclose(conv, plain)
    assert not torch.allclose(linear, plain)
    assert not torch.allclose(linear, conv)
    assert repr(LRP(composite=composite, gamma_linear=0.05)).endswith("gamma_linear=0.05)")


@pytest.mark.parametrize("gamma", [-0.1, math.inf, math.nan])
def test_a_gamma_that_is_none(gamma: float) -> None:
    with pytest.raises(InputError, match="gamma is 0 or more"):
        LRP(gamma_linear=gamma)
