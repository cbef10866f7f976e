"""The softplus copy: every form of ReLU, equal to softplus by hand, nothing of the model changed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from heatproof.errors import ModelError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.explainers.guided import GuidedBackprop
from heatproof.models.classifier import Classifier
from heatproof.models.layers import record
from heatproof.models.smooth import smooth, softened


def in_place(x):
    x = x * 1
    x.relu_()
    return x


def through_functional(x):
    x = x * 1
    F.relu(x, inplace=True)
    return x


FORMS = {
    "module": nn.ReLU(),
    "module in place": lambda x: nn.ReLU(inplace=True)(x * 1),
    "F.relu": F.relu,
    "F.relu in place": through_functional,
    "torch.relu": torch.relu,
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": in_place,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_of_relu_is_softplus_inside_and_relu_outside(form):
    x = torch.linspace(-1, 1, 9, dtype=torch.float64, requires_grad=True)
    with softened(10):
        soft = form(x)
    torch.testing.assert_close(soft, (1 + (10 * x).exp()).log() / 10)
    assert torch.autograd.gradgradcheck(_within(form), x)
    torch.testing.assert_close(form(x), x.clamp(min=0))


def _within(form):
    def function(x):
        with softened(3):
            return form(x)

    return function


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (nn.ReLU6(), lambda x: F.softplus(x, 10) - F.softplus(x - 6, 10)),
        (F.relu6, lambda x: F.softplus(x, 10) - F.softplus(x - 6, 10)),
        (nn.LeakyReLU(0.2), lambda x: 0.2 * x + 0.8 * F.softplus(x, 10)),
        (lambda x: nn.Hardtanh(inplace=True)(x * 1), lambda x: -1 + F.softplus(x + 1, 10) - F.softplus(x - 1, 10)),
    ],
)
def test_relatives_of_relu(form, expected):
    x = torch.linspace(-8, 8, 33, dtype=torch.float64)
    with softened(10):
        torch.testing.assert_close(form(x), expected(x))


def network():
    torch.manual_seed(0)
    return Classifier(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
        ),
        input_size=12,
    ).eval()


def test_the_copy_shares_the_weights_and_tends_to_the_model():
    images = torch.rand(2, 3, 12, 12)
    model = network()
    model(images)
    with torch.no_grad():
        outputs = model(images)
    soft = smooth(model, 10)
    assert all(a is b for a, b in zip(soft.parameters(), model.parameters(), strict=True))
    gaps = [float((smooth(model, beta)(images) - outputs).detach().abs().max()) for beta in (1, 10, 100, 10_000)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-4
    assert torch.equal(model(images), outputs)
    assert "forward" not in vars(model)


def test_explainers_find_the_layers_of_the_copy_and_get_a_second_derivative():
    images = torch.rand(2, 3, 12, 12).requires_grad_()
    model = network()
    model(images)
    _, recorded = record(smooth(model, 5), images, ["1"], create_graph=False)
    assert float(recorded["1"].detach().min()) > 0
    GradCAM("3")(smooth(model, 5), images.detach())
    for network_, bends in ((model, False), (smooth(model, 5), True)):
        heatmaps = SimpleGrad()(network_, images, torch.tensor([0, 1]), create_graph=True).heatmaps
        (slope,) = torch.autograd.grad(heatmaps.square().sum(), images, allow_unused=True, materialize_grads=True)
        assert bool(slope.any()) == bends


def test_guided_backprop_of_the_copy_is_guided_and_tends_to_that_of_the_model():
    """An attack that climbs the copy's map moves the model's; unguided, the copy's was another explainer's map."""
    images, targets = torch.rand(2, 3, 12, 12), torch.tensor([0, 1])
    model = network()
    model(images)
    wanted = GuidedBackprop()(model, images, targets).heatmaps
    assert not torch.allclose(wanted, _signed_gradient(model, images, targets), atol=1e-3)
    gaps = [
        float((GuidedBackprop()(smooth(model, beta), images, targets).heatmaps - wanted).abs().max())
        for beta in (10, 100, 1e5)
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-4
    soft = GuidedBackprop()(smooth(model, 5), images.requires_grad_(), targets, create_graph=True).heatmaps
    (slope,) = torch.autograd.grad(soft.square().sum(), images)
    assert slope.any()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_softened_relu_passes_only_positive_gradients_where_it_is_guided(form):
    """Two in a row and weights of both signs: literal, softplus' slope is a sigmoid."""

    class Two(nn.Module):
        def forward(self, x):
            return -form(form(x.flatten(1)[:, :4] - 0.5) @ first) @ second

    first, second = torch.randn(4, 5), torch.randn(5, 2)
    images = torch.rand(1, 1, 2, 2)
    x = images.flatten(1) - 0.5
    hidden = F.softplus(x, 5) @ first
    above = -second[:, 1].clamp(max=0) * torch.sigmoid(5 * hidden)
    below = (above @ first.T).clamp(min=0) * torch.sigmoid(5 * x)
    found = GuidedBackprop()(smooth(Two().eval(), 5), images, torch.tensor([1])).heatmaps
    torch.testing.assert_close(found.flatten(1), below)


def _signed_gradient(model, images, targets):
    point = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(point).gather(1, targets[:, None]).sum(), point)
    return slope.sum(1)


def test_an_odd_beta_is_refused():
    with pytest.raises(ModelError, match="beta must be positive"):
        smooth(network(), 0)
