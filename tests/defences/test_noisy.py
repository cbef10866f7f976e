"""Noise defences against replicas, SmoothGrad, closed forms and planted faults."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import binom

from heatproof import catalog, spec
from heatproof.defences.median import MedianOfNoisy, lowest_rank
from heatproof.defences.smoothed import Smoothed
from heatproof.errors import HeatproofError, InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad, SmoothGrad
from heatproof.models.layers import at_named_layer, check_layer
from heatproof.types import Explanation, redrawn, settings
from networks import photos, small


@settings
class FirstChannel:
    """Says the first channel itself, so that what noise does to a map is known."""

    signed = True

    def __call__(self, model, images, targets=None, *, create_graph=False):
        return Explanation(images[:, 0] * 1, torch.zeros(len(images), 2), torch.zeros(len(images)).long())


@dataclasses.dataclass(frozen=True)
class Keeping:
    """An explainer that keeps what it is asked about."""

    kept: list

    def __call__(self, model, images, targets=None, *, create_graph=False):
        self.kept.append(images)
        return SimpleGrad()(model, images, targets, create_graph=create_graph)


def test_smoothed_simple_grad_is_smoothgrad_where_nothing_is_cut() -> None:
    model = small()
    model.std.fill_(1.0)  # SmoothGrad's noise is on normalised inputs
    images = 0.4 + 0.2 * photos()
    wanted = SmoothGrad(samples=7, sigma=0.03, seed=3)(model, images)
    got = Smoothed(SimpleGrad(), n=7, sigma=0.03, seed=3, at_once=8)(model, images)
    torch.testing.assert_close(got.heatmaps, wanted.heatmaps, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("defence", [Smoothed(n=9), MedianOfNoisy(n=9)], ids=repr)
def test_how_many_at_once_does_not_matter(defence) -> None:
    model, images = small(), photos()
    maps = [dataclasses.replace(defence, at_once=size)(model, images).heatmaps for size in (1, 7, 64)]
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(maps[0], maps[2], rtol=1e-9, atol=1e-12)


def test_noise_has_the_size_asked_for_and_stays_in_range() -> None:
    model, images = small(size=40), torch.full((1, 3, 40, 40), 0.5).double()
    for noise, reach, spread in (("uniform", 0.2, 0.2 / 3**0.5), ("gaussian", 0.5, 0.2)):
        kept: list[torch.Tensor] = []
        Smoothed(Keeping(kept), n=10, sigma=0.2, noise=noise, at_once=3)(model, images)  # type: ignore[arg-type]
        assert [len(part) for part in kept] == [3, 3, 3, 1]
        moved = torch.cat(kept) - 0.5
        assert moved.abs().max() <= reach + 1e-7
        assert float(moved.std()) == pytest.approx(spread, rel=0.03)
    kept = []
    Smoothed(Keeping(kept), n=10, sigma=2.0)(model, images)
    assert (kept[0].min(), kept[0].max()) == (0, 1)


def test_fewer_photos_at_once_than_images_bound_the_copies() -> None:
    kept: list[torch.Tensor] = []
    Smoothed(Keeping(kept), n=3, at_once=2)(small(), photos(4))
    assert [len(part) for part in kept] == [4, 4, 4]


@pytest.mark.parametrize("alpha", [0.5, 0.1, 0.05, 0.001])
def test_ranks_hold_the_median_and_the_next_do_not(alpha: float) -> None:
    for n in range(1, 60):
        low = lowest_rank(n, alpha)
        if low:
            assert 2 * binom.cdf(low - 1, n, 0.5) <= alpha
        assert 2 * binom.cdf(low, n, 0.5) > alpha


def test_median_and_interval_by_a_replica() -> None:
    model, images = small(), photos()
    defence = MedianOfNoisy(SimpleGrad(), n=11, sigma=0.05, alpha=0.1, seed=2)
    generator = torch.Generator().manual_seed(2)
    noise = [torch.randn(images.shape[1:], generator=generator) * 0.05 for _ in range(11)]
    targets = model(images).argmax(1)
    maps = np.stack([SimpleGrad()(model, (images + one).clamp(0, 1), targets).heatmaps.numpy() for one in noise])
    ordered = np.sort(maps, axis=0)
    # 90% of 11: P(B <= 2) = 0.033 <= 0.05 < P(B <= 3), so the third and the ninth
    found = defence(model, images)
    np.testing.assert_allclose(found.heatmaps, ordered[2:9].mean(0), rtol=1e-6)
    assert found.interval is not None
    np.testing.assert_allclose(found.interval.lower, ordered[2], rtol=1e-6)
    np.testing.assert_allclose(found.interval.upper, ordered[8], rtol=1e-6)
    assert found.interval.level == 0.9
    heatmaps, *_ = found
    assert heatmaps is found.heatmaps
    assert found.certificate is None
    assert Smoothed()(model, images).interval is None


@pytest.mark.parametrize("alpha", [0.3, 0.05])
def test_intervals_hold_a_known_median_as_often_as_they_say(alpha: float) -> None:
    images = torch.full((1, 3, 60, 60), 0.5)
    found = MedianOfNoisy(FirstChannel(), n=21, sigma=0.05, alpha=alpha)(small(dtype=torch.float32, size=60), images)
    assert found.interval is not None
    held = ((found.interval.lower <= 0.5) & (found.interval.upper >= 0.5)).float().mean()
    exact = 1 - 2 * binom.cdf(lowest_rank(21, alpha) - 1, 21, 0.5)
    assert float(held) == pytest.approx(exact, abs=0.03)
    assert exact >= 1 - alpha


def test_specs_nest_and_layers_are_found_inside() -> None:
    text = "smoothed(explainer=gradcam(layer='left', relu=False), n=4, noise='uniform')"
    built = spec.build(text, catalog.EXPLAINERS, "explainer")
    assert built == Smoothed(GradCAM("left", relu=False), n=4, noise="uniform")
    assert built.signed
    assert repr(built) == "Smoothed(explainer=GradCAM(layer='left', relu=False), n=4, noise='uniform')"
    twice = spec.build("aggregate((smoothed(gradcam()), simple_grad()))", catalog.EXPLAINERS)
    assert spec.build(repr(twice), catalog.EXPLAINERS) == twice
    model = small()
    with pytest.raises(HeatproofError, match="no layer 'lfet'"):
        check_layer(model, Smoothed(GradCAM("lfet")))
    assert at_named_layer(model, Smoothed(GradCAM(model.network.get_submodule("left")))) == Smoothed(GradCAM("left"))
    with pytest.raises(HeatproofError, match=r"'gradcm'; did you mean gradcam"):
        spec.build("smoothed(gradcm())", catalog.EXPLAINERS, "explainer")


def test_redrawn_draws_anew_at_every_depth() -> None:
    nested = Smoothed(SmoothGrad(seed=4), seed=1)
    drawn = redrawn(nested, 5)
    assert drawn.seed != 1
    assert drawn.explainer.seed != 4  # type: ignore[attr-defined]
    assert redrawn(nested, 5) == drawn != redrawn(nested, 6)
    assert redrawn(nested, 0) == nested
    assert redrawn(GradCAM(), 5) == GradCAM()

    def plain(model, images, targets=None, *, create_graph=False) -> Explanation:
        return GradCAM()(model, images, targets, create_graph=create_graph)

    assert redrawn(plain, 5) is plain
    model, images = small(), photos()
    assert not torch.equal(drawn(model, images).heatmaps, nested(model, images).heatmaps)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("smoothed(sigma=0)", r"needs noise: sigma, in pixel units of \[0, 1\], must be above 0 .*, got 0; without"),
        ("smoothed(n=0)", "at least 1 noisy copy, got n=0"),
        ("smoothed(noise='white')", "noise is 'gaussian' or 'uniform', got 'white'"),
        ("smoothed('gradcam')", r"smoothed wraps an explainer, as in smoothed\(gradcam\(\)\); got 'gradcam'"),
        ("smoothed(3)", "wraps an explainer"),
        ("smoothed(at_once=0)", "at least 1 image"),
        ("median_of_noisy(n=5)", r"smallest and the largest of 5 noisy maps .* needs n=6 or more"),
        ("median_of_noisy(n=10, alpha=0.001)", "needs n=11 or more"),
        ("median_of_noisy(alpha=0)", r"alpha must lie in \(0, 1\), got 0"),
        ("median_of_noisy(sigma=-1)", "needs noise"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        spec.build(text, catalog.EXPLAINERS, "explainer")
