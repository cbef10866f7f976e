"""Defences without noise: softplus copies, contrasts, sides, aggregates and tangent spaces."""

import pytest
import torch
from torch import nn

from heatproof import catalog, spec
from heatproof.defences.aggregate import Aggregate
from heatproof.defences.contrast import Contrast, OneSided
from heatproof.defences.smoothed import Smoothed
from heatproof.defences.softplus import Softplus
from heatproof.defences.tangent import Tangent, _read
from heatproof.errors import InputError, LayerError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import InputXGradient, IntegratedGradients, SimpleGrad
from heatproof.explainers.guided import GuidedBackprop
from heatproof.explainers.lrp.propagation import LRP
from heatproof.explainers.occlusion import Occlusion
from heatproof.heatmaps import resize
from heatproof.models.classifier import Classifier
from heatproof.models.smooth import smooth
from heatproof.preprocessing import Preprocessing
from networks import photos, small


def test_softplus_explains_the_copy_and_answers_as_the_network_does() -> None:
    model, images = small(), photos()
    found = Softplus(SimpleGrad(), beta=2.0)(model, images)
    wanted = SimpleGrad()(smooth(model, 2.0), images, found.targets)
    torch.testing.assert_close(found.heatmaps, wanted.heatmaps)
    torch.testing.assert_close(found.logits, model(images).detach())
    assert not torch.allclose(found.logits, wanted.logits)
    assert found.targets.tolist() == model(images).argmax(1).tolist()


def test_softplus_tends_to_the_map_itself() -> None:
    model, images = small(), photos()
    own = SimpleGrad()(model, images).heatmaps
    errors = [float((Softplus(SimpleGrad(), beta)(model, images).heatmaps - own).norm()) for beta in (1.0, 10.0, 1e4)]
    assert errors[0] > errors[1] > 20 * errors[2]


def test_softplus_of_lrp_would_do_nothing_and_is_refused() -> None:
    model, images = small(), photos()
    torch.testing.assert_close(LRP()(smooth(model, 1.0), images).heatmaps, LRP()(model, images).heatmaps)
    for text in ("softplus(lrp())", "softplus(smoothed(lrp()))"):
        with pytest.raises(InputError, match=r"LRP walks the network's own graph.* use smoothed\(lrp\(\)\)"):
            spec.build(text, catalog.EXPLAINERS)
    with pytest.raises(InputError, match=r"beta must be positive \(about 1 to 10\), got 0"):
        Softplus(beta=0)


def test_contrast_is_the_score_inside() -> None:
    model, images = small(), photos()
    wanted = GradCAM(score="contrast", relu=False)(model, images).heatmaps
    torch.testing.assert_close(Contrast(GradCAM(relu=False))(model, images).heatmaps, wanted)
    nested = Contrast(Smoothed(GradCAM(), n=3), over="softmax")
    wanted = Smoothed(GradCAM(score="softmax_contrast"), n=3)(model, images).heatmaps
    torch.testing.assert_close(nested(model, images).heatmaps, wanted)
    with pytest.raises(InputError, match=r"CAM\(\) has no field score"):
        spec.build("contrast(cam())", catalog.EXPLAINERS)
    with pytest.raises(InputError, match="over is 'mean' or 'softmax', got 'all'"):
        Contrast(over="all")  # type: ignore[arg-type]


def test_contrast_is_blind_to_what_is_added_to_every_logit() -> None:
    class Shifted(nn.Module):
        def __init__(self, network: nn.Module):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x) + 5 * x.square().sum((1, 2, 3))[:, None]

    model, images = small(), photos()
    shifted = Classifier(Shifted(model.network), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), model.classes, 10).double()
    targets = torch.tensor([0, 1, 2])

    def moved(explainer) -> float:
        one, other = (explainer(net, images, targets).heatmaps for net in (model, shifted))
        return float((one - other).norm() / one.norm())

    assert moved(InputXGradient()) > 1
    assert moved(Contrast(InputXGradient())) < 1e-9


def test_sides_of_a_map() -> None:
    model, images = small(), photos()
    whole = GradCAM(relu=False)(model, images).heatmaps
    positive, negative, size = (
        OneSided(GradCAM(relu=False), side)(model, images).heatmaps for side in ("positive", "negative", "magnitude")
    )
    torch.testing.assert_close(positive, GradCAM()(model, images).heatmaps)
    torch.testing.assert_close(negative, GradCAM(counterfactual=True)(model, images).heatmaps)
    torch.testing.assert_close(positive - negative, whole)
    torch.testing.assert_close(positive + negative, size)
    with pytest.raises(InputError, match="side is one of positive, negative, magnitude, got 'up'"):
        OneSided(side="up")  # type: ignore[arg-type]


def test_aggregate_by_a_replica() -> None:
    model, images = small(), photos()
    coarse, fine = GradCAM()(model, images).heatmaps, SimpleGrad()(model, images).heatmaps
    coarse = resize(coarse, (10, 10))
    wanted = (coarse / coarse.sum((1, 2), keepdim=True) + fine / fine.sum((1, 2), keepdim=True)) / 2
    found = Aggregate()(model, images).heatmaps
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(found.sum((1, 2)), torch.ones(3).double())
    wanted = (coarse / coarse.std((1, 2), False, keepdim=True) + fine / fine.std((1, 2), False, keepdim=True)) / 2
    torch.testing.assert_close(Aggregate(scale="std")(model, images).heatmaps, wanted)
    assert not Aggregate().signed
    assert Aggregate((GradCAM(), LRP())).signed


def test_an_empty_map_adds_nothing_to_an_aggregate() -> None:
    model, images = small(), photos()
    zero = torch.zeros_like(images)  # input times gradient of black is empty
    alone = SimpleGrad()(model, zero).heatmaps
    for scale in ("sum", "std"):
        both = Aggregate((InputXGradient(), SimpleGrad()), scale)(model, zero).heatmaps
        scaled = alone.sum((1, 2), keepdim=True) if scale == "sum" else alone.std((1, 2), False, keepdim=True)
        torch.testing.assert_close(both, alone / scaled / 2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("aggregate((gradcam(),))", "takes two explainers or more, got 1"),
        ("aggregate(gradcam())", "takes two explainers or more in brackets"),
        ("aggregate((gradcam(), 'lrp'))", "aggregate wraps an explainer"),
        ("aggregate(scale='max')", "scale is 'sum' or 'std', got 'max'"),
        ("tangent(gradcam())", r"each channel of each pixel, which GradCAM\(\) does not"),
        ("tangent(k=4, d=4)", r"0 < d < k was expected .* got d=4 and k=4"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        spec.build(text, catalog.EXPLAINERS, "explainer")


def linear(weights: torch.Tensor) -> Classifier:
    """A network whose first logit is the sum of weights times pixels."""
    side = weights.shape[-1]
    network = nn.Sequential(nn.Flatten(), nn.Linear(weights.numel(), 2)).double()
    network[1].weight.data = torch.stack([weights.flatten(), torch.zeros(weights.numel()).double()])
    return Classifier(network, (0.0,) * 3, (1.0,) * 3, ["a", "b"], side).double()


def plane(directions: torch.Tensor, count: int = 12) -> torch.Tensor:
    """Photos on a plane about grey."""
    generator = torch.Generator().manual_seed(3)
    amounts = torch.rand(count, len(directions), generator=generator, dtype=torch.float64) - 0.5
    return 0.5 + torch.einsum("nd,dchw->nchw", amounts, directions) / directions.flatten(1).norm(dim=1).max()


def test_tangent_keeps_what_lies_along_the_photos_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(2, 3, 5, 5, generator=generator).double()
    weights = torch.randn(3, 5, 5, generator=generator).double()
    basis = torch.linalg.qr(directions.flatten(1).T).Q
    wanted = (basis @ (basis.T @ weights.flatten())).view(3, 5, 5).abs().sum(0)
    images = 0.3 + 0.4 * torch.rand(2, 3, 5, 5, generator=generator).double()
    target = torch.tensor([0, 0])
    # of k = 8 points only two directions are found, whatever d allows
    for d in (2, 6):
        found = Tangent(SimpleGrad(), photos=plane(directions), k=8, d=d)(linear(weights), images, target)
        torch.testing.assert_close(found.heatmaps, wanted.expand(2, 5, 5))
    decode = (lambda x: x.flatten(1)[:, :2], lambda z: torch.einsum("nd,dchw->nchw", z, directions))
    found = Tangent(SimpleGrad(), autoencoder=decode)(linear(weights), images, target)
    torch.testing.assert_close(found.heatmaps, wanted.expand(2, 5, 5))


def test_tangent_undoes_a_slope_planted_across_the_photos() -> None:
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(2, 3, 5, 5, generator=generator).double()
    known = plane(directions)
    basis = torch.linalg.qr(directions.flatten(1).T).Q
    weights = torch.randn(75, generator=generator).double()
    planted = torch.randn(75, generator=generator).double() * 10
    planted = planted - basis @ (basis.T @ planted)
    honest, lying = linear(weights.view(3, 5, 5)), linear((weights + planted).view(3, 5, 5))
    # a shift of the bias, and the lying network answers every photo as the honest one does
    own = honest.get_parameter("network.1.bias").data
    lying.get_parameter("network.1.bias").data = own - torch.stack([planted.sum() / 2, planted.new_zeros(())])
    torch.testing.assert_close(lying(known), honest(known))
    target = torch.zeros(12).long()
    for explainer in (SimpleGrad(), InputXGradient(), IntegratedGradients(4), GuidedBackprop()):
        plain = [explainer(model, known, target).heatmaps for model in (honest, lying)]
        assert (plain[0] - plain[1]).norm() > plain[0].norm()
    maps = [Tangent(SimpleGrad(), photos=known, k=8, d=2)(model, known, target).heatmaps for model in (honest, lying)]
    torch.testing.assert_close(maps[0], maps[1])


def test_tangent_needs_photos_that_fit() -> None:
    model, images = small(), photos()
    with pytest.raises(InputError, match=r"tangent needs photos of the kind .* photos='FOLDER'"):
        Tangent()(model, images)
    with pytest.raises(InputError, match="k=32 nearest photos were asked for, and there are 5"):
        Tangent(photos=photos(5))(model, images)
    with pytest.raises(InputError, match=r"photos like the images, \[3, 10, 10\], were expected, got \[3, 8, 8\]"):
        Tangent(photos=photos(40, size=8))(model, images)
    with pytest.raises(InputError, match="give a bare network images"):
        Tangent(photos="demo")(model.network, images)
    with pytest.raises(InputError, match="decode gives 4 numbers where the image has 300"):
        Tangent(autoencoder=(lambda x: x.flatten(1)[:, :4], lambda z: z))(model, images)
    assert repr(Tangent(photos=photos(5))).startswith("Tangent(photos=<5 photos, sha256 ")


def test_tangent_takes_a_data_name() -> None:
    model, images = small(), photos()
    found = Tangent(photos="demo", k=6, d=3, limit=20)(model, images).heatmaps
    assert not torch.allclose(found, SimpleGrad()(model, images).heatmaps)
    assert spec.build("tangent(photos='demo', k=6, d=3, limit=20)", catalog.EXPLAINERS)(model, images).heatmaps.equal(
        found
    )


def test_occlusion_can_be_wrapped_too() -> None:
    model, images = small(), photos()
    found = Smoothed(Occlusion(patch=5), n=2, sigma=0.01)(model, images).heatmaps
    torch.testing.assert_close(found, Occlusion(patch=5)(model, images).heatmaps, rtol=0.2, atol=0.02)


def test_softplus_of_a_wrapped_explainer_at_a_layer_is_the_wrapped_one_on_the_copy() -> None:
    model, images = small(), photos()
    found = Softplus(Contrast(GradCAM()), beta=2.0)(model, images)
    wanted = Contrast(GradCAM())(smooth(model, 2.0), images, found.targets)
    torch.testing.assert_close(found.heatmaps, wanted.heatmaps)


def test_softplus_leaves_it_to_the_explainer_to_say_that_there_is_no_layer() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 4), nn.ReLU(), nn.Linear(4, 2))
    model = Classifier(network, input_size=4, name="flat").eval()
    with pytest.raises(LayerError, match="flat has no layer that puts out a feature map"):
        Softplus(GradCAM())(model, torch.rand(1, 3, 4, 4))


def test_a_tangent_space_of_photos_that_cannot_be_read_is_refused(tmp_path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no photo")
    with pytest.raises(InputError, match=r"none of the photos of .* could be read"):
        _read(str(tmp_path), Preprocessing(16), 5)
