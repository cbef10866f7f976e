import pytest
import torch
from tests.shapes import unchecked

from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.metrics.robustness import Infidelity, SensitivityMax
from heatproof.types import Explanation
from networks import photos, small

WEIGHTS = torch.tensor([[1.0, 2.0, 0.0, -1.0], [0.0, 1.0, 3.0, 0.0], [2.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 5.0]])
FIRST = torch.tensor([0])


def linear(images):
    return torch.stack([(images[:, 0] * WEIGHTS.to(images)).sum((1, 2)), torch.zeros(len(images)).to(images)], 1)


def doubled(model, images, targets=None, *, create_graph=False):
    assert targets is not None
    return Explanation(2 * images[:, 0], model(images), targets)


def test_sensitivity_of_a_constant_map_is_zero():
    def constant(model, images, targets=None, *, create_graph=False):
        assert targets is not None
        return Explanation(WEIGHTS.expand(len(images), 4, 4), model(images), targets)

    assert SensitivityMax()(linear, constant, torch.full((2, 1, 4, 4), 0.5)).tolist() == [0.0, 0.0]


def test_sensitivity_by_hand():
    image = torch.full((1, 1, 4, 4), 0.5)
    generator = torch.Generator().manual_seed(3)
    moves = [(2 * torch.rand(1, 4, 4, generator=generator) - 1) * 0.1 for _ in range(4)]
    expected = max(float(move.norm() / image.norm()) for move in moves)
    found = SensitivityMax(radius=0.1, samples=4, seed=3)(linear, doubled, image)
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_infidelity_of_the_exact_weights_is_zero_at_any_scale():
    # of changes whose mean square is 0.1, in single precision
    image = torch.full((1, 1, 4, 4), 0.5)
    for scale in (1.0, 7.0, 0.01):
        assert Infidelity()(linear, image, scale * WEIGHTS[None], FIRST) < 1e-7
    assert Infidelity(scaled=False)(linear, image, WEIGHTS[None], FIRST) < 1e-7


def test_infidelity_by_hand():
    image = torch.full((1, 1, 4, 4), 0.5)
    generator = torch.Generator().manual_seed(2)
    moves = [(2 * torch.rand(1, 4, 4, generator=generator) - 1) * 0.1 for _ in range(3)]
    # a map of twice the weights tells twice the change
    expected = sum(float((move[0] * WEIGHTS).sum()) ** 2 for move in moves) / 3
    found = Infidelity(samples=3, scaled=False, seed=2)(linear, image, 2 * WEIGHTS[None], FIRST)
    torch.testing.assert_close(found, torch.tensor([expected]), rtol=1e-4, atol=0)


def test_scaling_never_hurts():
    images, heatmaps = photos(3), photos(3, seed=4)[:, 0]
    assert (Infidelity()(small(), images, heatmaps) <= Infidelity(scaled=False)(small(), images, heatmaps)).all()


@pytest.mark.parametrize("explainer", [GradCAM(relu=False), SimpleGrad()])
def test_equal_numbers_whatever_the_neighbours_and_the_batch(explainer):
    model, images = small(), photos(3)
    state = torch.get_rng_state()
    found = SensitivityMax(samples=5)(model, explainer, images)
    few = SensitivityMax(samples=5, at_once=1)(model, explainer, images[1:2])
    torch.testing.assert_close(found[1:2], few, rtol=1e-6, atol=1e-9)
    heatmaps = explainer(model, images).heatmaps
    torch.testing.assert_close(
        Infidelity(samples=5)(model, images, heatmaps)[1:2],
        Infidelity(samples=5, at_once=1)(model, images[1:2], heatmaps[1:2]),
        rtol=1e-6,
        atol=1e-12,
    )
    assert torch.equal(torch.get_rng_state(), state)


def test_empty_maps_have_no_value():
    images = torch.full((2, 1, 4, 4), 0.5)
    images[0] = 0.0
    assert SensitivityMax()(linear, doubled, images).isnan().tolist() == [True, False]
    heatmaps = torch.stack([torch.zeros(4, 4), WEIGHTS])
    assert Infidelity()(linear, images, heatmaps).isnan().tolist() == [True, False]


@unchecked()
def test_zero_draws_are_refused():
    with pytest.raises(InputError, match="sensitivity-max needs at least 1 sample, got 0"):
        SensitivityMax(samples=0)
    with pytest.raises(InputError, match="infidelity needs at least 1 sample, got 0"):
        Infidelity(samples=0)
    with pytest.raises(InputError, match="radius must be positive"):
        Infidelity(radius=0)
    with pytest.raises(InputError, match="one heatmap per image"):
        Infidelity()(small(), photos(2), photos(1)[:, 0])
