"""Laws that tie the explainers to each other and to closed forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import heatproof as hp
from heatproof import spec
from heatproof.catalog import EXPLAINERS
from heatproof.explainers.scores import SCORES, explained
from heatproof.vision import torchvision
from networks import photos, small

seeds = st.integers(0, 2**16)
quick = settings(max_examples=12, deadline=None)


@given(seed=seeds, layer=st.sampled_from(["stem", "left", "right", "last", "pool"]), target=st.integers(0, 3))
@quick
def test_gradcam_minus_counterfactual_is_the_signed_map(seed: int, layer: str, target: int) -> None:
    model, images, targets = small(seed), photos(2, seed=seed), torch.tensor([target, 3 - target])
    speaks_for = hp.GradCAM(layer)(model, images, targets).heatmaps
    against = hp.GradCAM(layer, counterfactual=True)(model, images, targets).heatmaps
    signed = hp.GradCAM(layer, relu=False)(model, images, targets).heatmaps
    torch.testing.assert_close(speaks_for - against, signed)
    assert (speaks_for * against == 0).all()


@given(seed=seeds, rows=st.integers(2, 7), cols=st.integers(2, 7))
@quick
def test_gradcam_is_cam_over_z_on_pooled_heads(seed: int, rows: int, cols: int) -> None:
    torch.manual_seed(seed)
    convolutions = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
    network = nn.Sequential(convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)).double().eval()
    model = hp.Classifier(network, default_layer="0").double()
    images = torch.rand(2, 3, rows, cols, dtype=torch.float64)
    cam = hp.CAM()(model, images)
    gradcam = hp.GradCAM(relu=False)(model, images, cam.targets)
    torch.testing.assert_close(gradcam.heatmaps, cam.heatmaps / (rows * cols))
    bias = network.get_parameter("3.bias")[cam.targets]
    torch.testing.assert_close(cam.heatmaps.mean((1, 2)) + bias, cam.logits.gather(1, cam.targets[:, None])[:, 0])


def test_cam_where_the_last_convolution_names_the_classes() -> None:
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(weights=None, num_classes=4).eval()
    nn.init.normal_(network.get_parameter("classifier.1.weight"))
    model, images = hp.Classifier(network, input_size=64), torch.rand(2, 3, 64, 64)
    cam = hp.CAM()(model, images)
    torch.testing.assert_close(cam.heatmaps.mean((1, 2)), cam.logits.gather(1, cam.targets[:, None])[:, 0])
    gradcam = hp.GradCAM("classifier.2", relu=False)(model, images)
    torch.testing.assert_close(gradcam.heatmaps, cam.heatmaps / cam.heatmaps[0].numel())


def test_cam_refuses_other_heads() -> None:
    with pytest.raises(hp.ModelError, match=r"use gradcam\(\), which needs no such head"):
        hp.CAM()(hp.Classifier(torchvision.models.alexnet(weights=None).eval()), torch.rand(1, 3, 224, 224))


@given(seed=seeds)
@quick
def test_integrated_gradients_are_complete(seed: int) -> None:
    model, images = small(seed), photos(2, seed=seed)
    for value in model.network.parameters():
        value.data.abs_()  # few ReLUs switch on the path: what is left is the gate's curvature
    explained_ = hp.IntegratedGradients(steps=256, baseline=0.25)(model, images)
    start = model(torch.full_like(images, 0.25))
    rise = (explained_.logits - start).gather(1, explained_.targets[:, None])[:, 0]
    torch.testing.assert_close(explained_.heatmaps.sum((1, 2)), rise.detach(), rtol=1e-2, atol=1e-6)


def test_a_linear_network_is_explained_in_closed_form() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 3)).double()
    model, images = hp.Classifier(network, std=0.5, input_size=4).double(), photos(2, size=4)
    targets = torch.tensor([2, 0])
    weights = network.get_parameter("1.weight")[targets].view(2, 3, 4, 4) / 0.5
    torch.testing.assert_close(hp.SimpleGrad()(model, images, targets).heatmaps, weights.abs().sum(1))
    torch.testing.assert_close(hp.SmoothGrad(samples=3)(model, images, targets).heatmaps, weights.abs().sum(1))
    torch.testing.assert_close(hp.GuidedBackprop()(model, images, targets).heatmaps, weights.sum(1))
    torch.testing.assert_close(
        hp.IntegratedGradients(steps=3)(model, images, targets).heatmaps, (weights * images).sum(1)
    )
    # a patch of one pixel, filled with black: the drop is that pixel's own term
    torch.testing.assert_close(
        hp.Occlusion(patch=1, stride=1, fill=0.0)(model, images, targets).heatmaps, (weights * images).sum(1)
    )


def test_occlusion_averages_over_the_patches_that_cover_a_pixel() -> None:
    """A network that sums its pixels: a patch's drop is its sum, by hand on 4x4 with patches of 2, stride 2."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False)).double()
    network.get_parameter("1.weight").data.fill_(1.0)
    images = torch.arange(16, dtype=torch.float64).view(1, 1, 4, 4) / 16
    model = hp.Classifier(network, input_size=4)
    got = hp.Occlusion(patch=2, stride=2, fill=0.0)(model, images, torch.tensor([0])).heatmaps[0]
    wanted = torch.tensor([[10.0, 18.0], [42.0, 50.0]], dtype=torch.float64).repeat_interleave(2, 0) / 16
    torch.testing.assert_close(got, wanted.repeat_interleave(2, 1))


def test_rise_weighs_masks_by_their_score() -> None:
    """Against a literal loop over the same masks: Petsiuk et al. 2018, eq. 6."""
    model, images, targets = small(), photos(1), torch.tensor([2])
    explainer = hp.RISE(masks=20, cells=3)
    masks = torch.cat(list(explainer._masks(10, 10))).double()
    assert masks.shape == (20, 10, 10)
    assert 0.3 < masks.mean() < 0.7
    wanted = sum(model(images * mask).softmax(1)[0, 2].detach() * mask for mask in masks) / (20 * 0.5)
    torch.testing.assert_close(explainer(model, images, targets).heatmaps[0], wanted)


def test_smoothgrad_is_the_mean_over_its_noise() -> None:
    model, images, targets = small(), photos(2), torch.tensor([1, 2])
    generator = torch.Generator().manual_seed(9)
    wanted = torch.zeros(2, 10, 10, dtype=torch.float64)
    for _ in range(3):
        noisy = (images + torch.randn(3, 10, 10, generator=generator) * 0.2 * model.std).requires_grad_()
        model(noisy).gather(1, targets[:, None]).sum().backward()
        assert noisy.grad is not None
        wanted += noisy.grad.abs().sum(1) / 3
    got = hp.SmoothGrad(samples=3, sigma=0.2, seed=9)(model, images, targets).heatmaps
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("name", sorted(SCORES))
def test_scores(name: str) -> None:
    """Against the words of each score, one image at a time."""
    logits = torch.tensor([[1.0, 3.0, -2.0, 0.5], [0.0, 1.0, 2.0, 3.0]], dtype=torch.float64)
    targets = torch.tensor([1, 0])
    got = explained(logits, targets, name)  # type: ignore[arg-type]
    for row, target, value in zip(logits, targets.tolist(), got, strict=True):
        others = torch.cat([row[:target], row[target + 1 :]])
        wanted = {
            "logit": row[target],
            "contrast": row[target] - others.mean(),
            "softmax_contrast": row[target] - (others.softmax(0) * others).sum(),
            "log_odds": (row.exp()[target] / others.exp().sum()).log(),
            "log_probability": (row.exp() / row.exp().sum())[target].log(),
            "probability": (row.exp() / row.exp().sum())[target],
        }[name]
        torch.testing.assert_close(value, wanted)


def test_contrast_is_blind_to_what_is_added_to_every_logit() -> None:
    model, images = small(), photos()
    shifted = small()
    ways = torch.rand(5, generator=torch.Generator().manual_seed(3)).double()
    shifted.network.get_parameter("head.weight").data.add_(7 * ways)
    for score in ("contrast", "softmax_contrast"):
        a = hp.GradCAM(relu=False, score=score)(model, images, torch.tensor([0, 1, 2])).heatmaps
        b = hp.GradCAM(relu=False, score=score)(shifted, images, torch.tensor([0, 1, 2])).heatmaps
        torch.testing.assert_close(a, b)
    a = hp.GradCAM(relu=False)(model, images, torch.tensor([0, 1, 2])).heatmaps
    b = hp.GradCAM(relu=False)(shifted, images, torch.tensor([0, 1, 2])).heatmaps
    assert (a - b).abs().max() > 0.1


def test_together_equals_one_by_one() -> None:
    model, images = small(), photos()
    texts = ["gradcam", "gradcam(relu=False)", "gradcam('left')", "simple_grad", "simple_grad('default')"]
    texts += ["gradcam(score='contrast')", "smooth_grad(samples=2)", "guided_gradcam"]
    explainers = [spec.build(text, EXPLAINERS) for text in texts]
    targets = torch.tensor([[0, 3], [1, 2], [2, 2]])
    grid = hp.explain_together(model, images, explainers, targets)
    assert torch.equal(grid.targets, targets)
    for explainer, maps in zip(explainers, grid.heatmaps, strict=True):
        for column in range(2):
            alone = explainer(model, images, targets[:, column])
            torch.testing.assert_close(maps[:, column], alone.heatmaps)
            torch.testing.assert_close(grid.logits, alone.logits)


def test_together_takes_one_forward_pass() -> None:
    model, images = small(), photos()
    calls = []
    model.network.get_submodule("stem").register_forward_hook(lambda *_: calls.append(1))
    hp.default_layer(model)
    calls.clear()
    hp.explain_together(model, images, [hp.GradCAM(), hp.GradCAM("left"), hp.SimpleGrad()], top=3)
    assert len(calls) == 1


def test_the_part_before_the_layer_needs_no_graph() -> None:
    model, images = small(), photos()
    seen = []
    model.network.get_submodule("stem").register_forward_hook(lambda m, i, output: seen.append(output.requires_grad))
    model.network.get_submodule("last").register_forward_hook(lambda m, i, output: seen.append(output.requires_grad))
    hp.GradCAM("left")(model, images)
    assert seen[-2:] == [False, True]


def test_an_empty_map_is_zero_and_reported() -> None:
    model, images = small(), photos()
    model.network.get_parameter("last.bias").data.fill_(-1e3)  # nothing comes through the last ReLU
    explanation = hp.GradCAM("last")(model, images)
    assert hp.is_empty(explanation.heatmaps).all()
    for how in ("max", "minmax", "absmax", "sum"):
        assert (hp.normalise(explanation.heatmaps, how) == 0).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["densenet121", "resnet18", "mobilenet_v2", "efficientnet_b0"])
def test_real_architectures_at_their_default_layer(name: str) -> None:
    """Against finite differences of the layer's mean gradient: the head run by hand on the recorded map."""
    torch.manual_seed(0)
    model = hp.Classifier(torchvision.models.get_model(name, weights=None).eval(), input_size=64).double()
    images = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    layer = model.network.get_submodule(hp.default_layer(model))
    explanation = hp.GradCAM(relu=False)(model, images)
    kept = {}

    def replace(module: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        kept["map"] = output.clone()
        return output * kept.get("scale", 1.0)

    handle = layer.register_forward_hook(replace)
    logits = []
    for scale in (1 - 1e-6, 1 + 1e-6):
        kept["scale"] = scale
        logits.append(model(images)[0, explanation.targets[0]])
    handle.remove()
    # d y / d scale = sum A dy/dA; with the 2x2 maps of 64 pixels Grad-CAM's pooled weights differ from it per cell
    pooled = (logits[1] - logits[0]) / 2e-6
    activation = kept["map"].requires_grad_()
    head = layer.register_forward_hook(lambda *_: activation.clone())
    (gradient,) = torch.autograd.grad(model(images)[0, explanation.targets[0]], activation)
    head.remove()
    torch.testing.assert_close((gradient * activation).sum(), pooled, rtol=1e-5, atol=1e-8)
    wanted = (gradient.mean((2, 3), keepdim=True) * activation).sum(1)
    torch.testing.assert_close(explanation.heatmaps, wanted.detach())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_inception_with_its_auxiliary_head_in_training_mode() -> None:
    torch.manual_seed(0)
    network = torchvision.models.inception_v3(weights=None, init_weights=False, aux_logits=True)
    model = hp.Classifier(network, input_size=299)
    assert model.train()(torch.rand(2, 3, 299, 299)).shape == (2, 1000)
    assert hp.GradCAM("Mixed_7c")(model, torch.rand(1, 3, 299, 299)).heatmaps.shape == (1, 8, 8)
    assert model.training
    assert network.AuxLogits is not None
    assert network.AuxLogits.training
