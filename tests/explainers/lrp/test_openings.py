"""Attention that hides in one call: opened it is the same function, and its rule is that of attention written out."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heatproof.errors import ModelError
from heatproof.explainers.lrp import openings
from heatproof.explainers.lrp.composites import COMPOSITES, Composite
from heatproof.explainers.lrp.propagation import LRP
from heatproof.explainers.lrp.rules import pass_on
from heatproof.vision import torchvision
from networks import photos

TOKENS, WIDTH, HEADS = 4, 8, 2


class Patches(nn.Module):
    """Four patches, one attention, a head over their mean."""

    def __init__(self, way: str = "module", **settings: Any):
        super().__init__()
        torch.manual_seed(4)
        self.way = way
        self.patches = nn.Conv2d(3, WIDTH, 5, stride=5)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, **{"batch_first": True, **settings})
        for name, values in self.attention.named_parameters():
            if name == "in_proj_bias":
                nn.init.normal_(values)
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(self.layer, 2, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 3, bias=False)
        self.register_buffer("mask", torch.ones(TOKENS, TOKENS).triu(1).bool())

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.attend(x).mean(1))

    def attend(self, x: Tensor) -> Tensor:
        given = self.attention
        if self.way == "module":
            return given(x, x, x, need_weights=False)[0]
        if self.way == "masked":
            return given(x, x, x, attn_mask=self.mask)[0]
        if self.way == "tokens first":
            y = x.transpose(0, 1)
            return given(y, y, y)[0].transpose(0, 1)
        if self.way == "others":
            return given(x, x.flip(1), x * x.new_tensor(0.5))[0]
        if self.way == "padded":
            return given(x, x, x, key_padding_mask=self.get_buffer("mask")[:1].expand(x.shape[0], -1))[0]
        if self.way in ("layer", "encoder"):
            return getattr(self, self.way)(x)
        y = x.transpose(0, 1)
        if self.way == "function":
            settings = (WIDTH, HEADS, given.in_proj_weight, given.in_proj_bias, None, None, False, 0.0)
            out = given.out_proj
            return F.multi_head_attention_forward(y, y, y, *settings, out.weight, out.bias)[0].transpose(0, 1)
        return self.written(x)

    def written(self, x: Tensor) -> Tensor:
        """Out of linear layers, matrix products and a softmax."""
        given, cells = self.attention, WIDTH // HEADS
        assert given.in_proj_weight is not None
        weights = [given.in_proj_weight[at * WIDTH : (at + 1) * WIDTH] for at in range(3)]
        biases = [given.in_proj_bias[at * WIDTH : (at + 1) * WIDTH] for at in range(3)]
        parts = [F.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True)]
        q, k, v = (part.reshape(x.shape[0], TOKENS, HEADS, cells).transpose(1, 2) for part in parts)
        scores = q @ k.transpose(-2, -1) * cells**-0.5
        if "mask" in self.way:
            scores = scores + torch.zeros(TOKENS, TOKENS, dtype=x.dtype).masked_fill(
                self.get_buffer("mask"), -torch.inf
            )
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape[0], TOKENS, WIDTH)
        return F.linear(y, given.out_proj.weight, given.out_proj.bias)


def maps(network: nn.Module, **settings: Any) -> Tensor:
    # in the order of the graph's own check: logits that differ from the network's are a ModelError
    return LRP(composite="attnlrp", **settings)(network.double().eval(), photos(2), torch.tensor([1, 2])).heatmaps


@pytest.mark.parametrize(
    ("way", "wanted"), [("module", "written"), ("function", "written"), ("masked", "written mask")]
)
def test_multi_head_attention_is_what_is_written_out(way: str, wanted: str) -> None:
    found = maps(Patches(way))
    torch.testing.assert_close(found, maps(Patches(wanted)), rtol=1e-10, atol=1e-12)
    assert found.abs().sum() > 0


@pytest.mark.parametrize(
    ("way", "settings"),
    [
        ("tokens first", {"batch_first": False}),
        ("others", {}),
        ("others", {"kdim": WIDTH, "vdim": WIDTH, "bias": False}),
        ("layer", {}),
        ("encoder", {}),
    ],
)
def test_other_forms_are_walked_through_with_the_networks_own_logits(way: str, settings: dict[str, Any]) -> None:
    assert maps(Patches(way, **settings)).abs().sum() > 0


def test_separate_projections_are_opened() -> None:
    class Cross(Patches):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(WIDTH, HEADS, kdim=3, vdim=3, batch_first=True)

        def attend(self, x: Tensor) -> Tensor:
            return self.attention(x, x[:, :, :3], x[:, :, :3])[0]

    assert maps(Cross()).abs().sum() > 0


def test_relevance_is_kept_through_an_opened_attention_without_biases() -> None:
    network = Patches(bias=False).double().eval()
    assert network.patches.bias is not None
    nn.init.zeros_(network.patches.bias)
    images = photos(2)
    found = LRP(composite="attnlrp", stabilizer=1e-14)(network, images)
    # the softmax holds its own bias back: what is lost is exactly its part, and nothing where queries are zero
    still = Patches(bias=False).double().eval()
    assert still.attention.in_proj_weight is not None
    nn.init.zeros_(still.patches.bias)  # type: ignore[arg-type]
    still.attention.in_proj_weight.data[:WIDTH] = 0
    kept = LRP(composite="attnlrp", stabilizer=1e-14)(still, images)
    score = kept.logits.gather(1, kept.targets[:, None])[:, 0]
    # all scores are zero, and half of the product's relevance is the weights', which a constant softmax keeps
    torch.testing.assert_close(kept.heatmaps.sum((1, 2)), score / 2, rtol=1e-6, atol=1e-9)
    assert found.heatmaps.isfinite().all()


def test_the_opened_map_is_differentiable_in_weights_and_pixels() -> None:
    network = Patches().double().eval()
    images = photos(1).requires_grad_()

    def heatmaps(*values: Tensor) -> Tensor:
        return LRP(composite="attnlrp")(network, values[0], torch.tensor([1]), create_graph=True).heatmaps

    values = [images, *network.patches.parameters(), *network.attention.parameters(), *network.head.parameters()]
    assert torch.autograd.gradcheck(heatmaps, values, atol=1e-6, rtol=1e-4, fast_mode=True)


def test_weights_are_read_when_the_map_is_made() -> None:
    network = Patches()
    before = maps(network)
    with torch.no_grad():
        assert network.attention.in_proj_weight is not None
        network.attention.in_proj_weight.mul_(1.5)
    assert not torch.allclose(maps(network), before)
    torch.testing.assert_close(maps(network), maps(_like(network, "written")))


def _like(network: Patches, way: str) -> Patches:
    other = Patches(way).double()
    other.load_state_dict(network.state_dict())
    return other


def test_masks_of_padded_keys_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match="key_padding_mask"):
        maps(Patches("padded"))


def test_the_default_composite_says_which_one_has_rules() -> None:
    with pytest.raises(ModelError, match="composite='attnlrp' has one"):
        LRP()(Patches().double().eval(), photos(1))


def test_a_composite_that_names_the_module_keeps_it_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(stabilizer: float) -> Composite:
        return (((nn.TransformerEncoderLayer,), pass_on), *COMPOSITES["attnlrp"](stabilizer))

    monkeypatch.setitem(COMPOSITES, "mine", mine)
    images, targets = photos(2), torch.tensor([1, 2])
    network = Patches("layer").double().eval()
    passed, walked = (LRP(composite=name)(network, images, targets).heatmaps for name in ("mine", "attnlrp"))
    assert not torch.allclose(passed, walked)


SWIN = torchvision.models.swin_transformer


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("shift", [[0, 0], [1, 1], [2, 0]])
@pytest.mark.parametrize("size", [(6, 6), (5, 7), (3, 6)])
def test_shifted_windows_are_torchvisions(version: int, shift: list[int], size: tuple[int, int]) -> None:
    torch.manual_seed(5)
    kind = SWIN.ShiftedWindowAttention if version == 1 else SWIN.ShiftedWindowAttentionV2
    module = kind(8, [3, 3], shift, 2).double().eval()
    nn.init.normal_(module.qkv.bias)
    x = torch.randn(2, *size, 8).double()
    given = (module.qkv.weight, module.proj.weight, module.get_relative_position_bias(), [3, 3], 2)
    more: dict[str, Any] = {"shift_size": shift, "qkv_bias": module.qkv.bias, "proj_bias": module.proj.bias}
    if version == 2:
        more["logit_scale"] = module.logit_scale
    found = openings.shifted_windows(x, *given, **more)
    torch.testing.assert_close(found, module(x))


@pytest.mark.parametrize("version", [1, 2])
def test_a_small_swin_is_explained_and_differentiable(version: int) -> None:
    torch.manual_seed(6)
    block = SWIN.SwinTransformerBlock if version == 1 else SWIN.SwinTransformerBlockV2
    merging = SWIN.PatchMerging if version == 1 else SWIN.PatchMergingV2
    network = SWIN.SwinTransformer(
        [2, 2], 4, [2, 1], [2, 2], [2, 2], num_classes=3, block=block, downsample_layer=merging
    )
    network = network.double().eval()
    images = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def heatmaps(*values: Tensor) -> Tensor:
        return LRP(composite="attnlrp")(network, values[0], torch.tensor([1]), create_graph=True).heatmaps

    assert heatmaps(images).abs().sum() > 0
    weights = [network.get_parameter(name) for name in ("features.3.0.attn.qkv.weight", "head.weight")]
    assert torch.autograd.gradcheck(heatmaps, [images.requires_grad_(), *weights], atol=1e-6, rtol=1e-4, fast_mode=True)


def test_pieces_are_joined_again() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(3, 4, 3, bias=False), nn.Linear(4, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            x = torch.cat(torch.split(x, 1, dim=1), dim=2)
            return self.head(torch.cat(x.split(x.shape[2] // 4, 2), 1).mean((2, 3)))

    images = photos(2)
    found = LRP(composite="epsilon", stabilizer=1e-14)(Joined().double().eval(), images)
    score = found.logits.gather(1, found.targets[:, None])[:, 0]
    torch.testing.assert_close(found.heatmaps.sum((1, 2)), score, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("first", [True, False])
def test_an_opened_encoder_layer_is_torchs_own(first: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True, norm_first=first).eval()
    for values in layer.parameters():
        nn.init.normal_(values, std=0.3)
    x = torch.randn(2, TOKENS, WIDTH)
    torch.testing.assert_close(openings._encoder_layer(layer, x), layer(x))


def test_keys_beside_the_tokens_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"keys and values beside those of the tokens \(bias_k, add_zero_attn\)"):
        maps(Patches(add_bias_kv=True))


def test_a_mask_of_its_own_for_each_head_is_torchs() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(WIDTH, HEADS).eval()
    x, mask = torch.randn(TOKENS, 3, WIDTH), torch.rand(3 * HEADS, TOKENS, TOKENS) > 0.7
    mask[..., 0] = False  # a token that may see none has no mean
    weights = (attention.in_proj_weight, attention.in_proj_bias, None, None, False, 0.0)
    settings = (WIDTH, HEADS, *weights, attention.out_proj.weight, attention.out_proj.bias)
    found, _ = openings.multi_head_attention(x, x, x, *settings, attn_mask=mask)
    wanted, _ = F.multi_head_attention_forward(x, x, x, *settings, attn_mask=mask, training=False)
    torch.testing.assert_close(found, wanted)
