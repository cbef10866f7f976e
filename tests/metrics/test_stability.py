"""Likeness of maps under small noise: by hand, by law, and the maps it must tell apart."""

import pytest
import torch

from heatproof.errors import InputError, SpecError
from heatproof.explainers.gradient import SimpleGrad
from heatproof.explainers.random_map import RandomMap
from heatproof.metrics.evaluation import Explained
from heatproof.metrics.robustness import ball_points
from heatproof.metrics.similarity import spearman, topk_intersection
from heatproof.metrics.stability import Likeness, Stability
from heatproof.types import Explanation
from networks import photos, small


def bright(model, images, targets=None, *, create_graph=False):
    """A map that follows the pixels, brighter the brighter the image."""
    logits = model(images)
    return Explanation(images.mean(1) ** 2, logits, logits.argmax(1) if targets is None else targets)


def still(model, images, targets=None, *, create_graph=False):
    """The same map whatever the image is."""
    logits = model(images)
    ramp = torch.arange(100.0).view(1, 10, 10).to(images).expand(len(images), -1, -1)
    return Explanation(ramp, logits, logits.argmax(1) if targets is None else targets)


def explained(explainer, images):
    model = small(dtype=torch.float32)
    heatmaps, _, targets = explainer(model, images)
    return Explained(model, explainer, images, heatmaps, targets)


def found(metric, explainer, images):
    return metric.measure(explained(explainer, images))[0].values[0]


@pytest.fixture
def images():
    return photos().float()


def test_it_is_the_mean_over_the_points_by_hand(images):
    metric = Stability(by="topk_intersection", radius=0.1, samples=3, seed=4)
    case = explained(SimpleGrad(), images)
    each = []
    for moves in ball_points(images, 0.1, 3, 4, 1):
        near = (images + moves[0]).clamp(0, 1)
        each.append(topk_intersection(case.heatmaps, SimpleGrad()(case.model, near, case.targets).heatmaps))
    torch.testing.assert_close(metric.measure(case)[0].values[0], torch.stack(each).mean(0))


@pytest.mark.parametrize(
    ("by", "best"),
    [("spearman", 1.0), ("ssim", 1.0), ("nissim", 0.0), ("topk_intersection", 1.0), ("center_distance", 0.0)],
)
def test_a_map_that_stays_has_the_best_value_and_noise_a_worse_one(images, by: Likeness, best: float):
    metric = Stability(by=by, samples=2)
    torch.testing.assert_close(found(metric, still, images), torch.full((len(images),), best), rtol=0, atol=1e-5)
    noise = found(metric, RandomMap(), images)
    up = metric.columns[0].better == "up"
    assert bool((noise < best - 0.01).all() if up else (noise > best + 0.01).all())


def test_more_noise_is_less_likeness(images):
    near, far = (found(Stability(radius=radius), bright, images) for radius in (0.01, 0.3))
    assert bool((near > far).all())
    assert float(near.min()) > 0.9


def test_an_image_does_not_depend_on_its_neighbours(images):
    together = found(Stability(samples=2), bright, images)
    alone = torch.cat([found(Stability(samples=2), bright, image[None]) for image in images])
    torch.testing.assert_close(together, alone)


def test_an_empty_map_has_no_likeness(images):
    images[0] = 0.0
    values = found(Stability(samples=1), bright, images)
    assert values.isnan().tolist() == [True, *[False] * (len(images) - 1)]


def test_wrong_settings_are_named():
    with pytest.raises(SpecError, match="did you mean spearman"):
        Stability(by="spearmn")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 1 sample"):
        Stability(samples=0)
    with pytest.raises(InputError, match="radius must be positive"):
        Stability(radius=0.0)


def test_a_random_map_follows_from_its_image_alone(images):
    model = small(dtype=torch.float32)
    state = torch.get_rng_state()
    maps = RandomMap()(model, images).heatmaps
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(RandomMap()(model, images[1:2]).heatmaps, maps[1:2])
    assert torch.equal(RandomMap()(small(1, dtype=torch.float32), images).heatmaps, maps), "it asks no weights"
    assert float(spearman(maps[:1], maps[1:2]).abs()) < 0.5
    assert not torch.equal(RandomMap(seed=1)(model, images).heatmaps, maps)
    with pytest.raises(InputError, match="at least 2 cells"):
        RandomMap(cells=1)
