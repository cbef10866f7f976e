"""Weights drawn anew, and weights shaken: on copies, with generators of their own."""

import pytest
import torch
from torch import nn

from heatproof.errors import InputError, LayerError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.metrics.randomisation import Randomisation, alike, blocks_from_the_top, draw_anew
from heatproof.metrics.weight_noise import WeightNoise
from heatproof.types import Explanation
from networks import photos, small


def edges(model, images, targets=None, *, create_graph=False):
    """An explainer that knows nothing of the model: the planted case."""
    assert targets is not None
    return Explanation(images.mean(1), model(images), targets)


def test_a_map_that_ignores_the_model_does_not_change():
    for row in Randomisation()(small(), edges, photos(2)):
        for values in row[1:]:
            torch.testing.assert_close(values, torch.ones(2), rtol=0, atol=1e-6)


def test_a_map_that_reads_the_model_does():
    rows = Randomisation()(small(), SimpleGrad(), photos(3))
    assert rows[-1].spearman_absolute.mean() < 0.7
    assert rows[-1].ssim.mean() < 0.9


def test_blocks_run_from_the_top():
    assert blocks_from_the_top(small(), photos(1)) == ["head", "last", "gate", "right", "left", "stem"]


def test_sequences_are_looked_into_and_norms_are_no_blocks():
    block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()))
    network = nn.Sequential(block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    assert blocks_from_the_top(network, photos(1, dtype=torch.float32)) == ["3", "0.2.0", "0.0"]
    with pytest.raises(InputError, match="no block with weights"):
        blocks_from_the_top(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), photos(1, dtype=torch.float32))


def test_cascading_keeps_what_independent_puts_back():
    whole, seen = small(), []

    def spy(model, images, targets=None, *, create_graph=False):
        changed = [n for n, p in model.named_parameters() if not torch.equal(p, dict(whole.named_parameters())[n])]
        seen.append({name.split(".")[1] for name in changed})
        return edges(model, images, targets)

    Randomisation(blocks=("head", "last"))(whole, spy, photos(1))
    Randomisation("independent", blocks=("head", "last"))(whole, spy, photos(1))
    assert seen == [set(), {"head"}, {"head", "last"}, set(), {"head"}, {"last"}]


def test_the_model_and_the_generator_are_left_as_they_were():
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    first = Randomisation(at_most=2)(model, GradCAM(relu=False), photos(2))
    list(WeightNoise(levels=(0.1,), draws=2).shaken(model))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    again = Randomisation(at_most=2)(model, GradCAM(relu=False), photos(2))
    assert all(torch.equal(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x[1:], y[1:], strict=True))


def test_parameters_without_initialisation_become_noise_of_their_deviation():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(3 * torch.randn(10_000, generator=torch.Generator().manual_seed(0)))

    module = Scaled()
    before = module.scale.detach().clone()
    draw_anew(module, 1)
    assert abs(module.scale.std() - 3) < 0.1
    assert abs(torch.corrcoef(torch.stack([before, module.scale.detach()]))[0, 1]) < 0.05


def test_noise_has_the_deviation_asked_for():
    layer = nn.Linear(200, 100)
    [shaken] = WeightNoise(levels=(0.5,), draws=1).shaken(layer)
    ratio = ((shaken.model.get_parameter("weight") - layer.weight).std() / layer.weight.std()).detach()
    assert abs(float(ratio) - 0.5) < 0.01
    assert (shaken.level, shaken.draw) == (0.5, 0)


def test_two_models_are_shaken_alike_and_level_zero_is_the_model():
    a, b = nn.Linear(50, 50), nn.Linear(50, 50)
    noise = WeightNoise(levels=(0.0, 0.1), draws=2)
    moved = [
        [(s.model.get_parameter("weight") - m.weight).detach() / m.weight.std(correction=0) for s in noise.shaken(m)]
        for m in (a, b)
    ]
    assert len(moved[0]) == 3, "level 0 has one draw"
    assert not moved[0][0].any()
    for x, y in zip(*moved, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-4)


def test_what_was_measured_per_level_draw_and_image():
    found = WeightNoise(levels=(0.0, 0.3), draws=3)(small(), lambda model: model(photos(2))[:, 0])
    assert found.shape == (2, 3, 2)
    assert torch.equal(found[0, 0], found[0, 2])
    assert not torch.equal(found[1, 0], found[1, 2])


def test_bad_settings_are_named():
    with pytest.raises(InputError, match="at least 1 draw, got 0"):
        WeightNoise(draws=0)
    with pytest.raises(InputError, match="levels of 0 or more"):
        WeightNoise(levels=())
    with pytest.raises(InputError, match="cascading or independent"):
        Randomisation("both")  # pyright: ignore[reportArgumentType]
    with pytest.raises(LayerError, match="did you mean head"):
        Randomisation(blocks=("heat",))(small(), GradCAM(), photos(1))


def test_a_layer_that_does_not_run_is_no_block():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()

    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = network, nn.Linear(4, 2)

        def forward(self, x):
            return self.used(x)

    assert blocks_from_the_top(Idle().eval(), torch.rand(1, 3, 8, 8)) == ["used.3", "used.0"]


def test_of_a_map_that_has_no_order_no_likeness_is_known() -> None:
    blank, seen = torch.zeros(1, 12, 12), torch.eye(12)[None]
    assert all(found.isnan().all() for found in alike(blank, blank, (12, 12)))
    assert all(found.isnan().all() for found in alike(blank, seen, (12, 12)))
    # that a map became blank is seen
    *orders, likeness = alike(seen, blank, (12, 12))
    assert all(found.isnan().all() for found in orders)
    assert likeness < 0.5
