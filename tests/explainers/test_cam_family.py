"""Maps of one layer weighed in other ways: each against its formula by hand, and the laws that bind them."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heatproof as hp
from heatproof import spec
from heatproof.catalog import EXPLAINERS
from heatproof.models.layers import record
from networks import photos, small

TARGETS = torch.tensor([0, 1, 2])


@pytest.fixture(scope="module")
def parts() -> tuple[hp.Classifier, Tensor, Tensor, Tensor]:
    """A model, its images, and the activation and gradient at its last layer as torch gives them."""
    model, images = small(), photos()
    logits, recorded = record(model, images, ["last"], create_graph=False)
    chosen = logits.gather(1, TARGETS[:, None]).sum()
    (gradient,) = torch.autograd.grad(chosen, recorded["last"])
    return model, images, recorded["last"].detach(), gradient


def test_xgradcam_layercam_and_hirescam_are_their_formulas(parts: Any) -> None:
    model, images, activation, gradient = parts
    weights = (activation / activation.sum((2, 3), keepdim=True) * gradient).sum((2, 3))
    wanted = {
        hp.XGradCAM(relu=False): torch.einsum("nk,nkij->nij", weights, activation),
        hp.LayerCAM(relu=False): (gradient.clamp(min=0) * activation).sum(1),
        hp.HiResCAM(relu=False): (gradient * activation).sum(1),
    }
    for explainer, maps in wanted.items():
        torch.testing.assert_close(explainer(model, images, TARGETS).heatmaps, maps)
        relu = type(explainer)()(model, images, TARGETS).heatmaps
        torch.testing.assert_close(relu, maps.clamp(min=0))


def test_gradcam_plus_plus_is_the_paper_s_loop(parts: Any) -> None:
    model, images, activation, gradient = parts
    wanted = torch.zeros_like(activation[:, 0])
    for n in range(activation.shape[0]):
        for k in range(activation.shape[1]):
            g, total = gradient[n, k], activation[n, k].sum()
            alpha = torch.where(g != 0, g**2 / (2 * g**2 + total * g**3), 0)
            wanted[n] += (alpha * g.clamp(min=0)).sum() * activation[n, k]
    torch.testing.assert_close(hp.GradCAMPlusPlus(relu=False)(model, images, TARGETS).heatmaps, wanted)


def test_hirescam_sums_to_the_logit_where_the_head_is_linear(parts: Any) -> None:
    model, images, _, _ = parts
    # behind the layer: ReLU, mean, linear; the bias is what the map does not hold
    found = hp.HiResCAM(relu=False)(model, images, TARGETS)
    chosen = found.logits.gather(1, TARGETS[:, None])[:, 0] - model.network.head.bias.detach()[TARGETS]
    torch.testing.assert_close(found.heatmaps.sum((1, 2)), chosen)


def test_eigencam_is_the_first_component_of_numpy_s_svd(parts: Any) -> None:
    model, images, activation, _ = parts
    maps = hp.EigenCAM(relu=False)(model, images, TARGETS).heatmaps
    for found, maps_of in zip(maps, activation, strict=True):
        cells = maps_of.flatten(1).T
        cells = cells - cells.mean(0)
        _, _, right = torch.linalg.svd(cells)
        wanted = (cells @ right[0]).view(found.shape)
        wanted = wanted if wanted.flatten()[wanted.abs().argmax()] > 0 else -wanted
        torch.testing.assert_close(found, wanted)
    other = hp.EigenCAM(relu=False)(model, images, torch.tensor([3, 3, 3])).heatmaps
    torch.testing.assert_close(other, maps, rtol=0, atol=0)  # it does not ask the class


def test_eigencam_has_a_derivative_with_more_channels_than_cells() -> None:
    maps = torch.randn(1, 7, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    read = hp.EigenCAM(relu=False).read
    assert torch.autograd.gradcheck(lambda x: read(x, x), maps)


def test_scorecam_shows_the_image_through_each_map(parts: Any) -> None:
    model, images, activation, _ = parts
    scores = torch.zeros(activation.shape[:2], dtype=torch.float64)
    for n in range(len(images)):
        for k, map_ in enumerate(activation[n]):
            large = F.interpolate(map_[None, None], (10, 10), mode="bilinear", align_corners=False)[0, 0]
            mask = (large - large.min()) / (large.max() - large.min())
            scores[n, k] = model((images[n] * mask)[None])[0, TARGETS[n]].detach()
    wanted = torch.einsum("nk,nkij->nij", scores.softmax(1), activation)
    torch.testing.assert_close(hp.ScoreCAM(relu=False, at_once=3)(model, images, TARGETS).heatmaps, wanted)


def test_ablationcam_takes_each_map_away(parts: Any) -> None:
    model, images, activation, _ = parts

    def head(maps: Tensor) -> Tensor:  # what lies behind the layer, written out
        return model.network.head(F.relu(maps).mean((2, 3))).gather(1, TARGETS[:, None])[:, 0].detach()

    whole = head(activation)
    wanted = torch.zeros_like(activation[:, 0])
    for k in range(activation.shape[1]):
        without = activation.clone()
        without[:, k] = 0
        wanted += ((whole - head(without)) / whole)[:, None, None] * activation[:, k]
    torch.testing.assert_close(hp.AblationCAM(relu=False, at_once=4)(model, images, TARGETS).heatmaps, wanted)
    with pytest.raises(hp.InputError, match=r"not the pixels; occlusion\(\)"):
        hp.AblationCAM("pixels")(model, images, TARGETS)


def handed_down(layer: nn.Module, x: Tensor, relevance: Tensor) -> Tensor:
    """Lee et al.'s step down to ``x``, which is not negative: x * d/dx z+ . (R / z+), only positive weights in z+."""
    layer = copy.deepcopy(layer)
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    weight.data.clamp_(min=0)
    if isinstance(bias, Tensor):
        bias.data.zero_()
    x = x.detach().requires_grad_()
    z = layer(x)
    share = torch.where(z > 0, relevance / torch.where(z > 0, z, 1), 0)
    return x.detach() * torch.autograd.grad(z, x, share)[0]


def test_relevancecam_weighs_by_what_is_handed_down() -> None:
    torch.manual_seed(0)
    first, second, head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1), nn.Linear(8, 4)
    network = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).double()
    # where nothing positive goes into an output, theirs and ours differ
    head.weight.data[:, 0] = head.weight.data[:, 0].abs() + 0.1
    model, images = hp.Classifier(network, input_size=10), photos()
    low = F.relu(first(model.normalised(images))).detach()
    high = F.relu(second(low)).detach()
    start = torch.full((3, 4), -1 / 3).double().scatter(1, TARGETS[:, None], 1.0)
    pooled = handed_down(head, high.mean((2, 3)), start)
    at_high = pooled[:, :, None, None] * high / high.sum((2, 3), keepdim=True).clamp(min=1e-30)
    at_low = handed_down(second, low, at_high)
    for layer, activation, relevance in (("3", high, at_high), ("1", low, at_low)):
        weights = relevance.sum((2, 3))
        assert weights.abs().max() > 0.01
        wanted = torch.einsum("nk,nkij->nij", weights, activation)
        found = hp.RelevanceCAM(layer, relu=False, stabilizer=1e-12)(model, images, TARGETS)
        torch.testing.assert_close(found.heatmaps, wanted, rtol=1e-6, atol=1e-7)
        both = hp.RelevanceCAM(layer, stabilizer=1e-12)(model, images, TARGETS).heatmaps
        torch.testing.assert_close(both, wanted.clamp(min=0), rtol=1e-6, atol=1e-7)


def test_relevancecam_refuses_what_lrp_does_not_know() -> None:
    for settings, told in (
        ({"composite": "lpr"}, "no composite 'lpr'"),
        ({"score": "probability"}, "difference of logits"),
    ):
        with pytest.raises(hp.SpecError, match=told):
            hp.RelevanceCAM(**settings)  # type: ignore[arg-type]


def test_input_x_gradient_of_a_linear_network_is_the_score() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 3, bias=False)).double()
    found = hp.InputXGradient()(hp.Classifier(network, input_size=4), photos(size=4), TARGETS)
    torch.testing.assert_close(found.heatmaps.sum((1, 2)), found.logits.gather(1, TARGETS[:, None])[:, 0])


def test_a_map_that_is_the_same_everywhere_gives_zeros_and_no_nan() -> None:
    model, images = small(), photos()
    for parameter in model.network.get_submodule("last").parameters():
        parameter.data.zero_()
    for explainer in (
        hp.GradCAMPlusPlus(),
        hp.XGradCAM(),
        hp.EigenCAM(),
        hp.ScoreCAM(),
        hp.AblationCAM(),
        hp.RelevanceCAM(),
    ):
        assert (explainer(model, images, TARGETS).heatmaps == 0).all(), explainer


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("grad-cam", hp.GradCAM()),
        ("gradcam++", hp.GradCAMPlusPlus()),
        ("Grad-CAM++(relu=False)", hp.GradCAMPlusPlus(relu=False)),
        ("score-cam(at_once=8)", hp.ScoreCAM(at_once=8)),
        ("gradcamplusplus", hp.GradCAMPlusPlus()),
    ],
)
def test_names_as_papers_write_them_are_read(written: str, meant: Any) -> None:
    assert spec.build(written, EXPLAINERS) == meant
    spec.check(written, EXPLAINERS)


def test_modules_and_class_names_stand_where_names_and_numbers_do() -> None:
    model, images = small(), photos()
    wanted = hp.GradCAM("left")(model, images, torch.tensor([1, 2, 2])).heatmaps
    left = model.network.get_submodule("left")
    for targets in (["bee", "cat", "cat"], [1, "cat", 2], torch.tensor([1, 2, 2])):
        torch.testing.assert_close(hp.GradCAM(layer=left)(model, images, targets).heatmaps, wanted)
    everywhere = hp.SimpleGrad(layer=left)(model, images, "bee").targets
    assert everywhere.tolist() == [1, 1, 1]
    with pytest.raises(hp.InputError, match="has no class 'bea'; did you mean bee"):
        hp.GradCAM()(model, images, "bea")
    with pytest.raises(hp.LayerError, match="this Conv2d is no layer of small"):
        hp.GradCAM(layer=nn.Conv2d(3, 3, 1))(model, images)
    with pytest.raises(hp.InputError, match="a class by name needs a model with class names"):
        hp.GradCAM("last")(model.network, images, "bee")
