"""What every explainer of the catalog promises: a pure function of (model, images, targets)."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from heatproof import catalog
from heatproof.errors import InputError, ModelError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.models.classifier import Classifier
from heatproof.types import Explainer
from networks import attending, photos, small

# cheap settings for the ones that repeat themselves; the contract is the same
CHEAP: dict[str, dict[str, Any]] = {
    "smooth_grad": {"samples": 2},
    "integrated_gradients": {"steps": 2},
    "rise": {"masks": 6},
    "occlusion": {"patch": 5, "stride": 5},
    # random networks have maps that ReLU would empty, and an empty map has no relative error
    "scorecam": {"relu": False, "at_once": 8},
    "ablationcam": {"relu": False, "at_once": 8},
    "relevancecam": {"relu": False},
    "smoothed": {"n": 3, "sigma": 0.05, "explainer": GradCAM(relu=False), "at_once": 4},
    "median_of_noisy": {"n": 6, "sigma": 0.05, "explainer": GradCAM(relu=False)},
    "sparsified": {"n": 12, "sigma": 0.05, "explainer": SimpleGrad(), "keep": 0.5, "flat": 0.1, "confidence": 0.5},
    "certified_pixels": {"n": 12, "sigma": 0.05, "explainer": SimpleGrad(), "tau": 0.5, "alpha": 0.5},
    "contrast": {"explainer": GradCAM(relu=False)},
    "softplus": {"explainer": GradCAM(relu=False)},
    "tangent": {"photos": "demo", "k": 4, "d": 2, "limit": 8},
}
VOTES = {"certified_pixels"}
"""Those that count votes: without a derivative, as they say."""


ATTENTION = {"attention_rollout", "chefer"}
"""Those that read the attention of a transformer, and refuse what has none."""


def network(explainer: Explainer, **given: Any) -> Classifier:
    """A small network of the kind that the explainer explains."""
    reads = isinstance(explainer, tuple(catalog.EXPLAINERS[name] for name in ATTENTION))  # type: ignore[arg-type]
    return attending(**given) if reads else small(**given)


def has_derivative(explainer: Explainer) -> bool:
    return not isinstance(explainer, tuple(catalog.EXPLAINERS[name] for name in VOTES))  # type: ignore[arg-type]


@pytest.fixture(params=sorted(catalog.EXPLAINERS))
def explainer(request: pytest.FixtureRequest) -> Explainer:
    return catalog.EXPLAINERS[request.param](**CHEAP.get(request.param, {}))


def state_of(model: nn.Module) -> dict[str, Any]:
    """All that a call could change."""
    return {
        "parameters": [id(p) for p in model.parameters()],
        "buffers": [id(b) for b in model.buffers()],
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "gradients": [p.grad for p in model.parameters()],
        "needs": [p.requires_grad for p in model.parameters()],
        "training": [m.training for m in model.modules()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), len(m._backward_pre_hooks))
            for m in model.modules()
        ],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "keys": list(model.state_dict()),
        "rng": torch.get_rng_state(),
    }


def assert_same_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    for key in before:
        if key in ("values", "rng"):
            torch.testing.assert_close(after[key], before[key], rtol=0, atol=0)
        elif key == "gradients":
            assert all(a is b for a, b in zip(after[key], before[key], strict=True)), key
        else:
            assert after[key] == before[key], key


def test_shapes_and_meaning(explainer: Explainer) -> None:
    model, images = network(explainer), photos()
    explanation = explainer(model, images)
    assert explanation.heatmaps.ndim == 3
    assert len(explanation.heatmaps) == 3
    assert explanation.heatmaps.isfinite().all()
    torch.testing.assert_close(explanation.logits, model(images).detach())
    assert explanation.targets.tolist() == explanation.logits.argmax(1).tolist()
    if not getattr(explainer, "signed", True):
        assert explanation.heatmaps.min() >= 0


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_model_is_left_as_found(explainer: Explainer, create_graph: bool, training: bool) -> None:
    model, images = network(explainer).train(training), photos()
    model.network.get_submodule("norm").eval()  # a mixture of flags must come back as it was
    model.default_layer = "last"
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    list(model.parameters())[3].requires_grad_(False)
    before = state_of(model)
    pixels = images.clone()
    if create_graph and not has_derivative(explainer):
        with pytest.raises(InputError, match="no derivative"):
            explainer(model, images, torch.tensor([0, 1, 2]), create_graph=True)
    else:
        explainer(model, images, torch.tensor([0, 1, 2]), create_graph=create_graph)
    assert_same_state(before, state_of(model))
    torch.testing.assert_close(images, pixels, rtol=0, atol=0)
    assert images.grad is None
    assert not images.requires_grad


def test_model_is_left_as_found_after_an_exception(explainer: Explainer) -> None:
    model, images = network(explainer).train(), photos()
    model.default_layer = "last"
    before = state_of(model)
    with pytest.raises(InputError, match=r"targets must lie in 0\.\.3"):
        explainer(model, images, torch.tensor([0, 1, 9]))
    head = model.network.get_submodule("head")
    head.register_forward_pre_hook(_stop)
    inside = state_of(model)
    # what the network itself raises is told as its own; LRP, which walks its graph, hands it on
    with pytest.raises((ModelError, ArithmeticError), match="stop"):
        explainer(model, images)
    assert_same_state(inside, state_of(model))
    head._forward_pre_hooks.clear()
    assert_same_state(before, state_of(model))


def _stop(module: nn.Module, args: Any) -> None:
    raise ArithmeticError("stop")


def test_a_map_does_not_depend_on_its_neighbours(explainer: Explainer) -> None:
    model, images = network(explainer), photos(4)
    together = explainer(model, images).heatmaps
    alone = torch.cat([explainer(model, image[None]).heatmaps for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


def test_equal_calls_give_equal_numbers(explainer: Explainer) -> None:
    model, images = network(explainer), photos()
    first = explainer(model, images).heatmaps
    torch.rand(7)
    torch.testing.assert_close(explainer(model, images).heatmaps, first, rtol=0, atol=0)
    if has_derivative(explainer):
        torch.testing.assert_close(explainer(model, images, create_graph=True).heatmaps.detach(), first)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_works_inside_any_gradient_context(explainer: Explainer, context: Any) -> None:
    model, images = network(explainer), photos()
    wanted = explainer(model, images).heatmaps
    with context():
        got = explainer(model, images.clone()).heatmaps
    torch.testing.assert_close(got.clone(), wanted)
    assert not got.requires_grad


def test_frozen_weights_do_not_matter(explainer: Explainer) -> None:
    model, images = network(explainer), photos()
    wanted = explainer(model, images).heatmaps
    torch.testing.assert_close(explainer(model.requires_grad_(False), images).heatmaps, wanted)


def test_channels_last_does_not_matter(explainer: Explainer) -> None:
    model, images = network(explainer), photos()
    wanted = explainer(model, images).heatmaps
    model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    got = explainer(model, images.contiguous(memory_format=torch.channels_last)).heatmaps
    torch.testing.assert_close(got, wanted)


def test_half_precision_stays_close(explainer: Explainer) -> None:
    model, images = network(explainer, dtype=torch.float32), photos(dtype=torch.float32)
    targets = torch.tensor([0, 1, 2])
    wanted = explainer(model, images, targets).heatmaps
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = explainer(model, images, targets).heatmaps
    assert got.dtype == torch.float32
    error = (got - wanted).norm() / wanted.norm()
    assert error < 0.15, error


def test_derivative_in_the_weights_and_pixels(explainer: Explainer) -> None:
    if not has_derivative(explainer):
        with pytest.raises(InputError, match=r"surrogate=True"):
            explainer(network(explainer), photos(), create_graph=True)
        return
    model, images = network(explainer, size=6), photos(1, size=6).requires_grad_()
    parameters = dict(model.network.named_parameters())
    targets = torch.tensor([1])
    projection = torch.randn(1000, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def number(*values: torch.Tensor) -> torch.Tensor:
        changed = copy.deepcopy(model)
        for (name, _), value in zip(parameters.items(), values[1:], strict=True):
            owner, _, leaf = name.rpartition(".")
            module = changed.network.get_submodule(owner)
            del module._parameters[leaf]
            setattr(module, leaf, value)
        heatmaps = explainer(changed, values[0], targets, create_graph=True).heatmaps.flatten()
        # one number instead of the map: gradcheck's cost grows with the outputs
        return (heatmaps * projection[: len(heatmaps)]).sum()

    values = [images, *(p.detach().clone().requires_grad_() for p in parameters.values())]
    assert torch.autograd.gradcheck(number, values, eps=1e-6, atol=1e-6, rtol=1e-4, fast_mode=True)


def test_logits_carry_their_graph_on_request(explainer: Explainer) -> None:
    model, images = network(explainer), photos()
    if not has_derivative(explainer):
        explainer = dataclasses.replace(explainer, surrogate=True)  # type: ignore[type-var]
    logits = explainer(model, images, create_graph=True).logits
    wanted = torch.autograd.grad(model(images).logsumexp(1).sum(), list(model.parameters()))
    got = torch.autograd.grad(logits.logsumexp(1).sum(), list(model.parameters()))
    torch.testing.assert_close(got, wanted)
    assert not explainer(model, images).logits.requires_grad


def test_images_outside_the_range_are_refused(explainer: Explainer) -> None:
    with pytest.raises(InputError, match=r"images must lie in \[0, 1\], got \[-0.5, 1.5\]; normalisation belongs"):
        explainer(network(explainer), torch.tensor([-0.5, 1.5]).double().repeat(1, 3, 10, 5))


def test_repr_is_a_spec(explainer: Explainer) -> None:
    from heatproof import spec

    assert spec.build(repr(explainer), catalog.EXPLAINERS) == explainer
