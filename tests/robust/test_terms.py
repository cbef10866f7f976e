"""What moves maps, as numbers: closed forms, literal replicas of the sources' lines, derivatives in the weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.networks import photos, small
from tests.training.nets import residual
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.robust.terms import Curved, Decayed, Informative, Misaligned, Thin, drawn, thinness
from heatproof.training.clean_model import CleanModel, Reference
from heatproof.training.feeds import Fed, TensorFeed
from heatproof.training.setup import Feeds, Setup
from heatproof.training.terms import Batch, LabelTerm, Shared, Term
from heatproof.types import Explainer, Explanation


def batch_of(model: nn.Module, images: Tensor, labels: Tensor, explainer: Explainer = SimpleGrad()) -> Batch:
    """A batch as the engine hands it to a term."""
    feed, hardware = TensorFeed(images, labels), Hardware("cpu")
    trained = dict(model.named_parameters())
    setup = Setup(model, model, model, explainer, trained, Feeds(feed, feed), 4, hardware, 8, None)
    fed = Fed(torch.arange(len(images)), images, labels)
    return Batch(Shared(fed, setup, Reference(CleanModel(model, explainer, hardware))))


class Quadratic(nn.Module):
    """y_c = x^T A_c x / 2 + b_c x: its Hessian is A_c, everywhere."""

    def __init__(self, classes: int, pixels: int):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        half = torch.randn(classes, pixels, pixels, generator=generator, dtype=torch.double)
        self.a = nn.Parameter(half + half.transpose(1, 2))
        self.b = nn.Parameter(torch.randn(classes, pixels, generator=generator, dtype=torch.double))

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        return torch.einsum("ni,cij,nj->nc", x, self.a, x) / 2 + x @ self.b.T


LABELS = torch.tensor([1, 0, 2])


def quadratic() -> tuple[Quadratic, Tensor]:
    return Quadratic(4, 12), photos(3, 2)


def test_the_hessian_of_a_quadratic_is_its_matrix() -> None:
    model, images = quadratic()
    batch = batch_of(model, images, LABELS)
    direction = drawn(batch.images, 7, images).flatten(1)
    expected = torch.einsum("nij,nj->ni", model.a[LABELS], direction).square().sum(1)
    assert torch.allclose(Curved(1.0, seed=7)(batch), expected)
    # over many directions the mean is the squared Frobenius norm
    frobenius = model.a[LABELS].square().sum((1, 2))
    mean = torch.stack([Curved(1.0, seed=seed)(batch).detach() for seed in range(300)]).mean(0)
    assert torch.allclose(mean, frobenius, rtol=0.3)


def test_a_share_of_the_photos_stands_for_all() -> None:
    model, images = quadratic()
    batch = batch_of(model, images, LABELS)
    found = Curved(1.0, seed=7, share=0.5)(batch)
    direction = drawn(batch.images, 7, images[:2]).flatten(1)
    expected = torch.einsum("nij,nj->ni", model.a[LABELS[:2]], direction).square().sum(1)
    assert torch.allclose(found[:2], expected * 3 / 2)
    assert found[2] == 0
    (slope,) = torch.autograd.grad(found.sum(), model.a)
    assert slope[LABELS[:2]].abs().amin((0, 1, 2)) > 0
    assert not slope[LABELS[2]].any()


def test_a_network_of_relus_has_no_hessian() -> None:
    class Rectified(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 3).double(), nn.Linear(4, 4).double()

        def forward(self, images: Tensor) -> Tensor:
            return self.last(self.first(images).relu().mean((2, 3)))

    torch.manual_seed(0)
    batch = batch_of(Rectified(), photos(3, 8), LABELS)
    assert torch.equal(Curved(1.0)(batch), torch.zeros(3, dtype=torch.double))


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(300, 4)).double()


def test_a_linear_network_pays_for_nothing_but_its_weights() -> None:
    batch = batch_of(linear(), photos(), LABELS)
    assert torch.allclose(Misaligned(1.0, 1.0, 0.1)(batch), torch.zeros(3, dtype=torch.double), atol=1e-12)
    weight = batch.images.setup.trained["1.weight"]
    assert torch.allclose(Decayed(1.0)(batch), (weight.square().sum() / 2).expand(3))


def test_alignment_is_the_line_of_its_authors() -> None:
    """joshua840/RobustAGA, pl_l2_plus_cosd_classifier.py, with pixels in the place of normalised inputs."""
    model, images = small(), photos()
    batch = batch_of(model, images, LABELS)
    z = (2 * drawn(batch.images, 3, images, uniform=True) - 1) * 0.05
    grads = []
    for x in (images, images + z):
        x = x.clone().requires_grad_()
        y_hat = model(x)
        grads.append(torch.autograd.grad(y_hat[range(3), LABELS].sum(), x)[0].flatten(1))
    cossim = (grads[0] * grads[1]).sum(1) / (grads[0].norm(dim=1) * grads[1].norm(dim=1))
    expected = 2.0 * (grads[0] - grads[1]).norm(dim=1).square() + 0.5 * (1 - cossim) / 2
    found = Misaligned(2.0, 0.5, 0.05, seed=3)(batch)
    assert torch.allclose(found, expected)
    assert found.min() > 0


def test_the_gradient_at_the_photo_is_held_constant() -> None:
    model, images = small(), photos()
    found = Misaligned(1.0, 0.0, 0.05)(batch_of(model, images, LABELS)).sum()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    slopes = torch.autograd.grad(found, weights, allow_unused=True)
    shared = batch_of(model, images, LABELS).images
    noise = (2 * drawn(shared, 0, images, uniform=True) - 1) * 0.05
    here = shared.attribution_at(images).values.detach()
    by_hand = (here - shared.attribution_at(images + noise).values).square().sum()
    for one, other in zip(slopes, torch.autograd.grad(by_hand, weights, allow_unused=True), strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, atol=1e-10)


def test_thickness_is_the_pairs_of_its_authors() -> None:
    """ccha005/R2ET, batch_retrain.py, mode ``tx3``: pairs around rank k, counted from 0."""
    cells = torch.rand(5, 40, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    topk, n = 8, 3
    topk_pair = [(i, topk - 1) for i in range(max(0, topk - n - 1), topk - 1)]
    topk_pair += [(topk - 1, topk + i) for i in range(n)]
    ranked = cells.sort(1, descending=True).values
    expected = sum(ranked[:, below] - ranked[:, above] for above, below in topk_pair)
    assert torch.allclose(thinness(cells, 0.2, 3), torch.as_tensor(expected))
    # as many as lie above, where nothing is said
    assert torch.allclose(thinness(cells, 0.2, None), ranked[:, 8:15].sum(1) - ranked[:, :7].sum(1))
    assert torch.allclose(thinness(cells, 0.02, None), ranked[:, 1] - ranked[:, 0])
    assert torch.allclose(thinness(cells[:, :3], 0.9, None), torch.zeros(5, dtype=torch.double))


def test_thickness_does_not_grow_with_the_gradient() -> None:
    model, images = small(), photos()
    before = Thin(1.0)(batch_of(model, images, LABELS))
    with torch.no_grad():
        model.network.get_submodule("head").weight.mul_(10)  # type: ignore[operator]
    assert torch.allclose(Thin(1.0)(batch_of(model, images, LABELS)), before)
    assert before.max() < 0


def test_information_is_the_largest_eigenvalue_of_the_dense_jacobian() -> None:
    """zifanw/smoothed_geometry: W, then L by the eigendecomposition of diag(p) - p p^T, then eigh of (W L)^T W L."""
    model, images = small(), photos()
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x).sum(0), images)
    w = torch.as_tensor(jacobian).permute(1, 0, 2, 3, 4).flatten(2).transpose(1, 2)
    p = model(images).softmax(1)
    a = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    e, u = torch.linalg.eigh(a)
    left = u @ torch.diag_embed(e.clamp(min=1e-20).sqrt())
    expected = torch.linalg.eigvalsh((w @ left).transpose(1, 2) @ (w @ left))[:, -1]
    assert torch.allclose(Informative(1.0)(batch_of(model, images, LABELS)), expected)
    fewer = Informative(1.0, classes=2)(batch_of(model, images, LABELS))
    assert bool((fewer <= expected).all())
    assert bool((fewer > 0.2 * expected).all())


TERMS: dict[str, Term] = {
    "curved": Curved(1.0),
    "curved, of some": Curved(1.0, share=0.5),
    "misaligned": Misaligned(0.5, 1.0, 0.05),
    "thin": Thin(1.0),
    "informative": Informative(1.0),
    "decayed": Decayed(1.0),
}


@pytest.mark.parametrize("explainer", [SimpleGrad(), GradCAM("last", relu=False)], ids=["simple_grad", "gradcam"])
@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_derivatives_in_the_weights(term: Term, explainer: Explainer) -> None:
    model, images = residual(), photos(2, 6)[:, :1]
    labels, name = torch.tensor([1, 0]), "first.weight"
    weight = model.network.get_parameter(name)
    held = isinstance(term, Misaligned)
    here = batch_of(model, images, labels, explainer).images.attribution.values.detach() if held else None

    def value(changed: Tensor) -> Tensor:
        def forward(self: Any) -> Tensor:
            batch = batch_of(model, images, labels, explainer)
            if here is not None:
                # what is held constant must not move with the finite differences either
                found = batch.images.attribution
                vars(batch.images)["attribution"] = found._replace(values=here)
            return term(batch)

        return with_parameter(model, name, changed, forward)

    assert torch.autograd.gradcheck(value, weight.detach().clone().requires_grad_(), atol=1e-5, rtol=1e-3)


def with_parameter(model: Classifier, name: str, value: Tensor, call: Callable[[Any], Tensor]) -> Tensor:
    """What ``call`` returns while a parameter of the network is another tensor."""
    holder, _, own = name.rpartition(".")
    module = model.network.get_submodule(holder)
    kept = module._parameters.pop(own)
    setattr(module, own, value)
    try:
        return call(None)
    finally:
        delattr(module, own)
        module._parameters[own] = kept


def test_logits_cost_no_further_pass_and_the_model_stays_as_it_was() -> None:
    model, images = small(), photos()
    passes = []
    model.network.register_forward_hook(lambda *_: passes.append(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for term, expected in ((Curved(1.0), 1), (Misaligned(1.0, 1.0, 0.1), 2), (Thin(1.0), 1)):
        batch = batch_of(model, images, LABELS)
        passes.clear()
        term(batch)
        LabelTerm()(batch)
        assert len(passes) == expected, term
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("term", [Curved(1.0), Misaligned(1.0, 1.0, 0.1)])
def test_what_is_drawn_is_the_batchs_own(term: Term) -> None:
    model, images = quadratic()
    one, same = (term(batch_of(model, images, LABELS)) for _ in range(2))
    assert torch.equal(one, same)
    other = batch_of(model, images, LABELS)
    other.images.fed = other.images.fed._replace(positions=torch.tensor([5, 6, 7]))
    assert not torch.equal(term(other), one)


def detached(model: nn.Module, images: Tensor, targets: Any = None, *, create_graph: bool = False) -> Explanation:
    return GradCAM("last")(model, images, targets)


def test_an_explainer_without_derivative_is_told() -> None:
    batch = batch_of(small(), photos(), LABELS, detached)
    with pytest.raises(InputError, match="has no derivative with respect to the trained weights"):
        Misaligned(1.0, 1.0, 0.1)(batch)
