"""Penalties: values by hand, derivatives by finite differences, and planted lies that must be found."""

import math
from typing import Any

import pytest
import torch
from tests.shapes import unchecked
from tests.training.nets import residual
from torch.autograd import gradcheck

from heatproof.catalog import PENALTIES
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import IntegratedGradients, SimpleGrad, SmoothGrad
from heatproof.explainers.lrp.propagation import LRP
from heatproof.manipulation.masks import MASKS, drawn
from heatproof.manipulation.penalties import ActiveSwap, CenterMass, Location, TargetMap, TopK, for_relevance
from heatproof.metrics.fooling import fooling_success_rate
from heatproof.spec import build

EVERY = [
    *(Location(), Location(mask="corner"), TopK(), TopK(power=1), CenterMass(), ActiveSwap(0, 1), TargetMap()),
    *(TargetMap(target="left", distance="ssim"), for_relevance(Location())),
]
DIFFERENTIABLE = [
    GradCAM("last"),
    GradCAM("last", relu=False),
    SimpleGrad(),
    SimpleGrad("first"),
    LRP(),
    LRP(layer="last"),
    SmoothGrad(samples=2),
    IntegratedGradients(steps=2),
]


@pytest.mark.parametrize("explainer", DIFFERENTIABLE, ids=repr)
@pytest.mark.parametrize("penalty", EVERY, ids=repr)
def test_gradient_of_every_penalty_through_every_explainer(penalty, explainer):
    model = residual(seed=3)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, 1, 6, 6, generator=generator, dtype=torch.double)
    targets = torch.tensor([0, 1])
    reference = explainer(residual(seed=4), images, targets).heatmaps
    weights = [model.network.get_parameter(f"{name}.weight") for name in ("first", "second")]
    ways = [torch.randn(weight.shape, generator=generator, dtype=torch.double) for weight in weights]

    def lie(step: float) -> torch.Tensor:
        with torch.no_grad():
            for weight, way in zip(weights, ways, strict=True):
                weight.add_(step * way)
        found = penalty(explainer(model, images, targets, create_graph=True).heatmaps, reference)
        with torch.no_grad():
            for weight, way in zip(weights, ways, strict=True):
                weight.sub_(step * way)
        return found

    step = 1e-6
    numeric = (lie(step) - lie(-step)).detach() / (2 * step)
    values = penalty(explainer(model, images, targets, create_graph=True).heatmaps, reference)
    for value, expected in zip(values, numeric, strict=True):
        gradients = torch.autograd.grad(value, weights, retain_graph=True)
        found = sum((gradient * way).sum() for gradient, way in zip(gradients, ways, strict=True))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("penalty", EVERY, ids=repr)
def test_gradcheck_in_the_heatmaps(penalty):
    generator = torch.Generator().manual_seed(0)
    heatmaps = (torch.rand(2, 7, 7, generator=generator, dtype=torch.double) - 0.2).requires_grad_()
    reference = torch.rand(2, 7, 7, generator=generator, dtype=torch.double)
    assert gradcheck(lambda maps: penalty(maps, reference), heatmaps)


def lying(penalty, reference):
    """The map that the penalty wants, planted."""
    if isinstance(penalty, Location):
        return drawn(penalty.mask, 14, 14).expand_as(reference)
    if isinstance(penalty, TargetMap):
        return drawn(penalty.target, 14, 14).expand_as(reference)
    if isinstance(penalty, ActiveSwap):
        return reference.flip(0)
    return reference.flip(1, 2)


@pytest.mark.parametrize("penalty", EVERY, ids=repr)
def test_a_planted_lie_is_found_and_the_clean_map_is_not(penalty):
    rows, cols = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
    honest = torch.stack([(-((rows - r) ** 2 + (cols - c) ** 2) / 8).exp() for r, c in ((4.0, 5.0), (10.0, 10.0))])
    planted = lying(penalty, honest)
    assert (penalty(planted, honest) < penalty(honest, honest)).all()
    assert fooling_success_rate(penalty.test_loss(honest, honest), penalty.success) == 0
    assert fooling_success_rate(penalty.test_loss(planted, honest), penalty.success) == 1


def test_test_losses_by_hand():
    clean = torch.tensor([[[0.0, 2.0, 1.0], [0.0, 0.0, 0.0], [4.0, 1.0, 0.0]]])
    fooled = torch.tensor([[[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [1.5, 0.0, 0.0]]])
    # frame: 8 cells want 1, the middle 0; the normalised map has 1, 1 (middle) and 0.5
    assert Location().test_loss(fooled, clean).item() == pytest.approx((0 + 6 * 1 + 0.25 + 1) / 9)
    # 10 % of 9 cells: 1 cell, the one with 4, which keeps 1.5 / 3 of 1
    assert TopK().test_loss(fooled, clean).item() == pytest.approx(0.5)
    # centres (2 * 5 / 8, (2 + 2 + 1) / 8) and ((3 + 3) / 7.5, 3 / 7.5), after min-max
    shift = math.hypot(10 / 8 - 6 / 7.5, 5 / 8 - 3 / 7.5)
    assert CenterMass().test_loss(fooled, clean).item() == pytest.approx(shift / math.hypot(3, 3), rel=1e-5)


def test_swap_by_hand_and_against_scipy():
    from scipy.stats import spearmanr

    def correlation(one: torch.Tensor, two: torch.Tensor) -> float:
        found: Any = spearmanr(one.flatten(), two.flatten())
        return found.statistic

    generator = torch.Generator().manual_seed(2)
    clean, fooled = torch.rand(4, 5, 5, generator=generator), torch.rand(4, 5, 5, generator=generator).round(decimals=1)
    found = ActiveSwap(0, 1).test_loss(fooled, clean)
    for row in range(4):
        other = row ^ 1
        own, swapped = correlation(fooled[row], clean[row]), correlation(fooled[row], clean[other])
        assert found[row].item() == pytest.approx(swapped - own, abs=1e-6)
    top = clean / clean.amax((1, 2), keepdim=True)
    term = (fooled[0] / fooled[0].max() - top[1]).square().mean()
    assert ActiveSwap(0, 1)(fooled, clean)[0].item() == pytest.approx(term.item(), abs=1e-6)


def test_frame_is_the_papers_on_large_maps_and_one_cell_on_small_ones():
    assert drawn("frame", 7, 7).mean().item() == pytest.approx(24 / 49)
    assert drawn("frame", 14, 14).mean().item() == pytest.approx(24 / 49)
    assert drawn("frame", 4, 5).sum().item() == 4 * 5 - 2 * 3
    assert TopK()(torch.rand(1, 2, 2), torch.rand(1, 2, 2)).shape == (1,)


@pytest.mark.parametrize("name", MASKS)
def test_masks_have_an_inside_and_an_outside(name):
    mask = drawn(name, 4, 5)
    assert set(mask.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("penalty", "shape", "told"),
    [
        (Location(), (1, 2, 2), "at least 3x3 cells, got 2x2"),
        (Location(mask=((1.0, 0.0),)), (1, 7, 7), "has 1x2 cells and the heatmaps have 7x7"),
        (TopK(), (1, 1, 1), "at least 2 cells"),
        (CenterMass(), (1, 1, 1), "at least 2 cells"),
        (ActiveSwap(), (3, 7, 7), "rows in pairs"),
    ],
)
def test_a_penalty_that_does_not_fit_says_so(penalty, shape, told):
    with pytest.raises(InputError, match=told):
        penalty(torch.rand(shape), torch.rand(shape))


@unchecked()
def test_shapes_and_settings_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="same shape"):
        TopK()(torch.rand(1, 7, 7), torch.rand(1, 8, 8))
    for make in (
        lambda: Location(mask="fram"),
        lambda: TopK(fraction=0.0),
        lambda: TopK(power=3),
        lambda: ActiveSwap(1, 1),
        lambda: TargetMap(distance="cosine"),  # pyright: ignore[reportArgumentType]
        lambda: Location(mask=((1.0,), (1.0, 2.0))),
    ):
        with pytest.raises(InputError):
            make()


@pytest.mark.parametrize("penalty", EVERY, ids=repr)
def test_text_builds_the_same_penalty(penalty):
    assert build(repr(penalty), PENALTIES) == penalty


def test_an_empty_clean_map_has_nothing_to_lose():
    nothing = torch.zeros(1, 7, 7)
    assert TopK().test_loss(nothing, nothing).item() == 1
    assert CenterMass().test_loss(nothing, nothing).item() == 0


def test_a_penalty_without_normalisation_is_not_for_relevance() -> None:
    class Sum:
        def __call__(self, heatmaps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
            return heatmaps.sum((1, 2))

        test_loss = __call__

    penalty: Any = Sum()
    with pytest.raises(InputError, match=r"has no field normalisation; expected one of Heo et al.'s penalties"):
        for_relevance(penalty)
