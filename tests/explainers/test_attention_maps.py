"""Rollout and Chefer's maps against literal replicas, on every way to write attention, and what they refuse."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heatproof as hp
from heatproof.errors import ModelError
from networks import Attending, attending, photos, small

TARGETS = torch.tensor([0, 1, 2])


def by_hand(model: hp.Classifier, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The logits and the attention of both blocks, by the network's own modules and no others."""
    network: Any = model.network
    x = network.stem((images - model.mean) / model.std).flatten(2).transpose(1, 2)
    x = torch.cat([network.token.expand(len(x), -1, -1), x], 1) + network.position
    kept = []
    for qkv, out, feed in zip(network.qkv, network.out, network.feed, strict=True):
        q, k, v = qkv(network.norm(x)).reshape(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        kept.append((q @ k.transpose(-2, -1) * 4**-0.5).softmax(-1))
        x = x + out((kept[-1] @ v).transpose(1, 2).flatten(2))
        x = x + F.gelu(feed(x))
    x = network.last(x)
    return network.head(x.mean(1) if network.way == "mean" else x[:, 0]), kept


@pytest.mark.parametrize("way", ["fused", "written", "mean"])
def test_rollout_is_its_three_lines(way: str) -> None:
    model, images = attending(way=way), photos()
    _, kept = by_hand(model, images)
    rolled = torch.eye(26).double().expand(3, -1, -1)
    for attention in kept:
        rolled = (attention.mean(1) + torch.eye(26)) / 2 @ rolled
    rows = rolled.mean(1) if way == "mean" else rolled[:, 0]
    explanation = hp.AttentionRollout()(model, images, TARGETS)
    torch.testing.assert_close(explanation.heatmaps, rows[:, 1:].detach().unflatten(1, (5, 5)))
    # it asks nothing of the class
    assert torch.equal(explanation.heatmaps, hp.AttentionRollout()(model, images, TARGETS.flip(0)).heatmaps)


@pytest.mark.parametrize("way", ["fused", "written", "mean"])
def test_chefers_map_is_the_recursion_as_published(way: str) -> None:
    """R = I; for each block: cam = mean over heads of (gradient * attention clamped at 0); R = R + cam R."""
    model, images = attending(way=way), photos()
    logits, kept = by_hand(model, images)
    slopes = torch.autograd.grad(logits.gather(1, TARGETS[:, None]).sum(), kept)
    for number in range(3):
        relevance = torch.eye(26, 26).double()
        for gradient, attention in zip(slopes, kept, strict=True):
            cam = attention[number].reshape(-1, 26, 26)
            cam = (gradient[number].reshape(-1, 26, 26) * cam).clamp(min=0).mean(dim=0)
            relevance = relevance + torch.matmul(cam, relevance)
        relevance = relevance - torch.eye(26)
        row = (relevance.mean(0) if way == "mean" else relevance[0])[1:]
        found = hp.Chefer()(model, images, TARGETS).heatmaps[number]
        torch.testing.assert_close(found, row.detach().reshape(5, 5))
    assert not torch.equal(
        hp.Chefer()(model, images, TARGETS).heatmaps, hp.Chefer()(model, images, TARGETS.flip(0)).heatmaps
    )


def test_the_score_is_what_is_asked_for() -> None:
    model, images = attending(), photos()
    found = hp.Chefer(score="contrast")(model, images, TARGETS).heatmaps
    assert not torch.allclose(found, hp.Chefer()(model, images, TARGETS).heatmaps)


class Encoder(nn.Module):
    """Torch's own encoder, which has a fused way of its own without gradients."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem = nn.Conv2d(3, 8, 2, stride=2)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=False)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.stem(x).flatten(2).transpose(1, 2)).mean(1))


def test_attention_inside_torchs_own_encoder_is_found() -> None:
    network, images = Encoder().eval(), photos(dtype=torch.float32)
    kept: list[Tensor] = []

    # the weights that torch itself hands out
    with torch.no_grad():
        x = network.stem(images).flatten(2).transpose(1, 2)
        for layer in network.encoder.layers:
            block: Any = layer
            kept.append(block.self_attn(x, x, x, need_weights=True)[1])
            x = block(x)
    rolled = torch.eye(25)
    for attention in kept:
        rolled = (attention + torch.eye(25)) / 2 @ rolled
    found = hp.AttentionRollout()(network, images).heatmaps
    torch.testing.assert_close(found, rolled.mean(1).unflatten(1, (5, 5)), rtol=1e-4, atol=1e-6)


def library(name: str) -> nn.Module:
    """Networks of torchvision and timm, small enough for a test, with random weights."""
    torch.manual_seed(0)
    if name == "torchvision":
        from heatproof.vision import torchvision

        network = torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=5).eval()
        nn.init.normal_(network.heads[0].weight)  # pyright: ignore[reportArgumentType]
        return network
    import timm

    sizes: dict[str, Any] = {"img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
    given: dict[str, Any] = {
        "vit_tiny_patch16_224": sizes | {"patch_size": 8, "reg_tokens": 2},
        "deit_tiny_distilled_patch16_224": sizes | {"patch_size": 8},
        "beit_base_patch16_224": sizes | {"patch_size": 8},
        "eva02_tiny_patch14_224": sizes | {"patch_size": 8},
        "cait_xxs24_224": sizes | {"patch_size": 8, "depth": 2},
        "xcit_nano_12_p8_224": sizes | {"patch_size": 8},
        "swin_tiny_patch4_window7_224": {"img_size": 32, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2)},
        "pvt_v2_b0": {"num_classes": 5},
    }
    return timm.create_model(name, **given[name]).eval()


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("torchvision", 1),
        ("vit_tiny_patch16_224", 3),
        ("deit_tiny_distilled_patch16_224", 2),
        ("beit_base_patch16_224", 1),
        ("eva02_tiny_patch14_224", 1),
    ],
)
def test_networks_of_the_libraries(name: str, prefix: int) -> None:
    network, images = library(name), photos(2, size=32, dtype=torch.float32)
    for explainer in (hp.AttentionRollout(), hp.Chefer()):
        explanation = explainer(network, images)
        assert explanation.heatmaps.shape == (2, 4, 4)
        torch.testing.assert_close(explanation.logits, network(images).detach(), rtol=1e-4, atol=1e-5)
    # a row of the rollout is shared out among all tokens: what is not on the grid is on the prefix
    rolled = hp.AttentionRollout()(network, images).heatmaps
    share = rolled.flatten(1).sum(1)
    assert (share > 0.2).all()
    assert (share < 1 - 0.02 * prefix).all()


@pytest.mark.parametrize("name", ["cait_xxs24_224", "xcit_nano_12_p8_224", "swin_tiny_patch4_window7_224", "pvt_v2_b0"])
def test_attention_that_is_not_over_all_tokens_is_refused(name: str) -> None:
    for explainer in (hp.AttentionRollout(), hp.Chefer()):
        with pytest.raises(ModelError, match="not over one sequence of all tokens"):
            explainer(library(name), photos(1, size=32, dtype=torch.float32))


def test_a_network_without_attention_is_refused() -> None:
    with pytest.raises(ModelError, match="no attention was found in small"):
        hp.Chefer()(small(), photos())


@pytest.mark.parametrize("way", ["fused", "mean"])
def test_rollout_asks_nothing_of_a_head_of_zeros(way: str) -> None:
    """Which rows are read does not depend on weights: a head that starts at zero reads what a trained one does."""
    model, images = attending(way=way), photos()
    before = hp.AttentionRollout()(model, images).heatmaps
    nn.init.zeros_(model.network.get_submodule("head").weight)  # pyright: ignore[reportArgumentType]
    for create_graph in (False, True):
        found = hp.AttentionRollout()(model, images, create_graph=create_graph).heatmaps
        torch.testing.assert_close(found, before)
    found.sum().backward()  # the graph is whole
    # what asks for the class has nothing to show
    assert hp.Chefer()(model, images).heatmaps.abs().sum() == 0


def test_rollout_of_a_fresh_torchvision_vit() -> None:
    from heatproof.vision import torchvision

    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=5).eval()
    images = photos(2, size=32, dtype=torch.float32)
    found = hp.AttentionRollout()(network, images).heatmaps
    assert float(network.heads[0].weight.detach().abs().sum()) == 0  # pyright: ignore
    nn.init.normal_(network.heads[0].weight)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(found, hp.AttentionRollout()(network, images).heatmaps)
    assert (found.flatten(1).sum(1) > 0.2).all()


class Cut(Attending):
    def attend(self, x: Tensor) -> Tensor:
        return super().attend(x).detach()


class Closed(Attending):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


@pytest.mark.parametrize("kind", [Cut, Closed])
def test_a_cut_gradient_is_said(kind: type[Attending]) -> None:
    with pytest.raises(ModelError, match="does not depend on the attention of 2 of 2 blocks"):
        hp.Chefer()(kind(10).double().eval(), photos())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_what_torch_leaves_out_of_attention_is_said() -> None:
    class Padded(Encoder):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x).flatten(2).transpose(1, 2)
            padding = torch.zeros(x.shape[:2], dtype=torch.bool)
            return self.head(self.encoder(x, src_key_padding_mask=padding).mean(1))

    images = photos(dtype=torch.float32)
    with pytest.raises(ModelError, match="key_padding_mask is not followed"):
        hp.Chefer()(Padded().eval(), images)
    # torch's nested tensors, which it makes of padded tokens, have no shape: layers are found all the same
    assert hp.GradCAM()(Padded().eval(), images).heatmaps.shape == (3, 5, 5)
