"""Convolutions computed with what follows them: the same numbers, and only where nothing else sees between."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heatproof.explainers.cam import GradCAM
from heatproof.models import fused as fused_module
from heatproof.models.classifier import Classifier
from heatproof.models.fused import FusedConvolutions

pytestmark = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")),
    reason="this torch has no oneDNN",
)


def norm(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels)
    nn.init.uniform_(layer.weight, -1, 2)
    nn.init.normal_(layer.bias)
    nn.init.normal_(layer.running_mean)  # type: ignore[arg-type]
    nn.init.uniform_(layer.running_var, 0.2, 2)  # type: ignore[arg-type]
    return layer


def passes(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, FusedConvolutions]:
    fused = FusedConvolutions()
    with torch.no_grad():
        first = fused.run(lambda: network.eval()(images))
        second = fused.run(lambda: network(images))
        assert torch.equal(first, network(images))  # the watched pass is an ordinary one
    return first, second, fused


ACTIVATIONS: list[Callable[[], nn.Module]] = [
    nn.ReLU,
    nn.ReLU6,
    nn.SiLU,
    nn.Hardswish,
    lambda: nn.ReLU(inplace=True),
    lambda: nn.Hardtanh(-0.3, 0.4),
    lambda: nn.Hardtanh(-0.3, 0.4, inplace=True),
]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("with_norm", [False, True])
@pytest.mark.parametrize("last", [torch.channels_last, torch.contiguous_format])
def test_the_same_numbers(activation, with_norm, last) -> None:
    torch.manual_seed(0)
    between = [norm(8)] if with_norm else []
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), *between, activation(), nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), norm(8)
    )
    images = torch.randn(3, 3, 17, 15).contiguous(memory_format=last)
    first, second, fused = passes(network, images)
    assert fused.count == 2
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
    # the last batch is often smaller
    with torch.no_grad():
        torch.testing.assert_close(fused.run(lambda: network(images[:1])), first[:1], rtol=1e-4, atol=1e-5)


class Odd(nn.Module):
    """Convolutions of which more than the activation sees the output."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three, self.norm = (
            nn.Conv2d(3, 3, 3, padding=1),
            nn.Conv2d(3, 3, 1),
            nn.Conv2d(3, 3, 1),
            norm(3),
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = self.one(x)
        x = F.relu(seen) - 0.5 * seen
        x = F.relu(self.two(x)) + self.two(x)  # the same weights, once without
        return F.relu(x + self.norm(self.three(x)))


def test_what_others_see_is_left_as_it_is() -> None:
    torch.manual_seed(1)
    first, second, fused = passes(Odd(), torch.randn(2, 3, 9, 9))
    assert fused.count == 1  # the third, and its norm
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


class Changing(nn.Module):
    """Does something else in every other pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Conv2d(3, 3, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        found = self.layer(x)
        return F.relu(found) if self.calls % 2 else found.sigmoid()


def test_a_network_that_changes_its_mind_is_run_as_it_is() -> None:
    network, images, fused = Changing().eval(), torch.randn(2, 3, 9, 9), FusedConvolutions()
    with torch.no_grad():
        fused.run(lambda: network(images))
        found = fused.run(lambda: network(images))  # fails, and is called again
        assert torch.equal(found, F.relu(network.layer(images)))
        assert torch.equal(fused.run(lambda: network(images)), network.layer(images).sigmoid())


def test_gradients_and_training_are_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    images, fused = torch.randn(4, 3, 9, 9, requires_grad=True), FusedConvolutions()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(fused.run(lambda: network.eval()(images)).sum(), images)
        assert gradient.abs().sum() > 0
    assert fused.count == 0
    training = FusedConvolutions()
    with torch.no_grad():
        wanted = [network.train()(images) for _ in range(2)]
        found = [training.run(lambda: network.train()(images)) for _ in range(2)]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["0", "2", "3", "5"])
def test_maps_at_any_layer_are_the_same(layer: str) -> None:
    """Also at a convolution, whose own output is the map, and before one that has gradients."""
    torch.manual_seed(2)
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3), norm(8), nn.ReLU(), nn.Conv2d(8, 8, 3), norm(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    )
    model = Classifier(nn.Sequential(*body, nn.Flatten(), nn.Linear(8, 3)), input_size=16).eval()
    images, fused = torch.rand(4, 3, 16, 16), FusedConvolutions()
    explainer, targets = GradCAM(layer, relu=False), torch.tensor([0, 1, 2, 0])
    wanted = explainer(model, images, targets)
    for _ in range(3):
        found = fused.run(lambda: explainer(model, images, targets))
        torch.testing.assert_close(found.heatmaps, wanted.heatmaps, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-4, atol=1e-5)


def test_half_precision_is_no_further_from_the_truth() -> None:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), norm(16), nn.ReLU(), nn.Conv2d(16, 16, 3), norm(16), nn.ReLU()).eval()
    images, fused = torch.randn(4, 3, 20, 20), FusedConvolutions()
    with torch.no_grad():
        exact = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            plain = fused.run(lambda: network(images)).float()
            found = fused.run(lambda: network(images)).float()
    assert fused.count == 2
    assert (found - exact).abs().mean() < 2 * (plain - exact).abs().mean()


@pytest.mark.parametrize(
    "after", [lambda: [norm(8), norm(8), nn.ReLU()], lambda: [nn.ReLU(), nn.Hardtanh(-0.3, 0.4)]], ids=["norms", "two"]
)
def test_of_two_norms_or_two_activations_the_first_is_computed_with_the_convolution(after) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), *after())
    first, second, fused = passes(network, torch.randn(2, 3, 9, 7))
    assert fused.count == 1
    assert [len(chain.steps) for chain in (fused._plan or {}).values()] == [1]
    torch.testing.assert_close(second, first, atol=1e-5, rtol=1e-4)


class Framing(nn.Module):
    """TensorFlow's padding of a convolution of stride 2, and others."""

    def __init__(self, sides: tuple[int, ...], **how) -> None:
        super().__init__()
        self.sides, self.how = sides, how

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.sides, **self.how)


@pytest.mark.parametrize(
    ("sides", "how", "ours"),
    [
        ((0, 1, 0, 1), {}, True),
        ((2, 0, 1, 3), {"value": 0.0}, True),
        ((0, 0, 0, 0), {}, True),
        ((1, 1, 1, 1), {"value": 1.5}, False),
        ((1, 1, 1, 1), {"mode": "reflect"}, False),
        ((-1, 1, 0, 0), {}, False),
        ((0, 0, 0, 0, 1, 2), {}, False),
        ((1, 2), {}, False),
    ],
)
@pytest.mark.parametrize("last", [torch.channels_last, torch.contiguous_format])
def test_zeros_round_images(sides, how, ours, last, monkeypatch: pytest.MonkeyPatch) -> None:
    framed, calls = fused_module._framed, []
    monkeypatch.setattr(fused_module, "_framed", lambda *given: (calls.append(given), framed(*given))[1])
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Framing(sides, **how), nn.Flatten())
    first, second, fused = passes(network, torch.randn(2, 3, 9, 7).contiguous(memory_format=last))
    assert fused.count == 1
    assert len(calls) == ours
    torch.testing.assert_close(second, first, atol=1e-5, rtol=1e-4)


def test_what_is_convolved_and_taken_in_a_list_is_seen() -> None:
    layer, images = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 9, 9) - 1
    fused = FusedConvolutions()
    with torch.no_grad():
        fused.run(lambda: F.relu(layer(images)))
        # computed with the activation in the plan, and taken without it
        found = fused.run(lambda: torch.cat([layer(images), images[:, :, 2:, 2:].sum(1, keepdim=True)], 1))
        assert fused.count == 1
        wanted = torch.cat([layer(images), images[:, :, 2:, 2:].sum(1, keepdim=True)], 1)
    torch.testing.assert_close(found, wanted)
    assert bool((found < 0).any())
