"""AOPC, deletion, insertion and ROAD, by hand on 4x4 images and by law."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from tests.shapes import unchecked

from heatproof.errors import InputError, ModelError, SpecError
from heatproof.metrics import road
from heatproof.metrics.faithfulness import AOPC, Deletion, Insertion, area
from heatproof.metrics.removal import turns
from heatproof.metrics.road import ROAD, impute
from networks import photos, small

FIRST = torch.tensor([0])


def brightness(images):
    """Two logits: the sum of the pixels, and nothing."""
    return torch.stack([images.flatten(1).sum(1), torch.zeros(len(images), dtype=images.dtype)], 1)


@pytest.fixture
def blocks():
    """A 4x4 image of four 2x2 blocks that hold 4, 2, 1 and 0.4 in all, and the map that says so."""
    image = torch.tensor([[1.0, 0.5], [0.25, 0.1]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    return image[None, None], torch.tensor([[[4.0, 2.0], [1.0, 0.4]]])


def test_aopc_by_hand(blocks):
    image, heatmap = blocks
    asked = {"region": 2, "fill": 0.0, "answer": "logit"}
    most = AOPC(order="most", **asked).curves(brightness, image, heatmap, FIRST)
    least = AOPC(order="least", **asked).curves(brightness, image, heatmap, FIRST)
    torch.testing.assert_close(most, torch.tensor([[0.0, 4.0, 6.0, 7.0, 7.4]]))
    torch.testing.assert_close(least, torch.tensor([[0.0, 0.4, 1.4, 3.4, 7.4]]))
    torch.testing.assert_close(AOPC(**asked)(brightness, image, heatmap, FIRST), torch.tensor([24.4 / 5]))
    torch.testing.assert_close(AOPC(steps=2, **asked)(brightness, image, heatmap, FIRST), torch.tensor([10 / 3]))


def test_aopc_of_a_probability_by_hand(blocks):
    image, heatmap = blocks

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    curve = AOPC(region=2, fill=0.0, steps=1).curves(brightness, image, heatmap, FIRST)
    torch.testing.assert_close(curve, torch.tensor([[0.0, sigmoid(7.4) - sigmoid(3.4)]]))


def test_deletion_and_insertion_by_hand(blocks):
    image, heatmap = blocks
    fine = heatmap.repeat_interleave(2, 1).repeat_interleave(2, 2)
    deleted = Deletion(steps=4, answer="logit").curves(brightness, image, fine, FIRST)
    inserted = Insertion(steps=4, fill=0.0, answer="logit").curves(brightness, image, fine, FIRST)
    torch.testing.assert_close(deleted, torch.tensor([[7.4, 3.4, 1.4, 0.4, 0.0]]))
    torch.testing.assert_close(inserted, torch.tensor([[0.0, 4.0, 6.0, 7.0, 7.4]]))
    torch.testing.assert_close(area(inserted), torch.tensor([(2 + 5 + 6.5 + 7.2) / 4]))


def test_insertion_starts_on_a_blurred_image(blocks):
    image, heatmap = blocks
    start = Insertion(steps=1, answer="logit").curves(brightness, image, heatmap, FIRST)[0, 0]
    # Petsiuk et al.: sigma 5 on 11 x 11 pixels
    smooth = gaussian_filter(image.numpy(), 5.0, mode="nearest", radius=5, axes=(2, 3))
    torch.testing.assert_close(start, torch.tensor(smooth.sum()))


def test_imputation_by_hand():
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 1], image[0, 0, 2, 1] = 1.0, 0.6
    gone = torch.zeros(1, 4, 4, dtype=torch.bool)
    gone[0, 0, 0] = gone[0, 2, 2] = True
    imputed = impute(image, gone)
    # at the corner 1/6 of 1/6 + 1/6 + 1/12; inside all weights are there
    torch.testing.assert_close(imputed[0, 0, 0, 0], torch.tensor(0.4), rtol=0, atol=1e-6)
    torch.testing.assert_close(imputed[0, 0, 2, 2], torch.tensor(0.6 / 6), rtol=0, atol=1e-6)
    assert torch.equal(imputed[0, 0][~gone[0]], image[0, 0][~gone[0]])


def test_imputed_pixels_solve_their_equations():
    images = photos(2, 12)
    gone = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.8
    imputed = impute(images, gone)
    weight = torch.tensor([[1.0, 2, 1], [2, 0, 2], [1, 2, 1]], dtype=torch.double)[None, None] / 12
    near = torch.nn.functional.conv2d(imputed.flatten(0, 1)[:, None], weight, padding=1).view_as(imputed)
    total = torch.nn.functional.conv2d(torch.ones(1, 1, 12, 12, dtype=torch.double), weight, padding=1)
    torch.testing.assert_close(
        imputed.permute(0, 2, 3, 1)[gone], (near / total).permute(0, 2, 3, 1)[gone], rtol=0, atol=1e-6
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_random_order_lies_between_most_and_least(seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 1, 8, 8, generator=generator)
    asked = {"region": 2, "fill": 0.0, "answer": "logit", "seed": seed}
    most, random, least = (
        AOPC(order=order, **asked).curves(brightness, images, images[:, 0]) for order in ("most", "random", "least")
    )
    assert (most >= random - 1e-4).all()
    assert (random >= least - 1e-4).all()


@pytest.mark.parametrize("metric", [AOPC(region=5), AOPC(region=5, order="random"), Deletion(7), Insertion(7), ROAD()])
def test_equal_seeds_give_equal_numbers_whatever_the_neighbours(metric):
    model, images = small(), photos(3)
    heatmaps = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    state = torch.get_rng_state()
    found = metric(model, images, heatmaps)
    assert torch.equal(found, metric(model, images, heatmaps))
    alone = metric(model, images[1:2], heatmaps[1:2])
    torch.testing.assert_close(found[1:2], alone, rtol=0, atol=1e-9)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.shape == (3,)


def test_how_many_at_once_changes_nothing():
    model, images = small(), photos(3)
    heatmaps = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    few, many = (AOPC(region=2, at_once=n).curves(model, images, heatmaps) for n in (1, 100))
    torch.testing.assert_close(few, many, rtol=0, atol=1e-12)
    assert few.shape == (3, 26)
    assert AOPC(region=5).curves(model, images, heatmaps).shape == (3, 5), "an image of 4 regions has 4 steps"


def test_the_model_is_left_as_it_was():
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for metric in (AOPC(region=5), ROAD((0.5,))):
        metric(model, photos(2), photos(2)[:, 0])
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_map_without_order_has_no_value_and_spares_the_others():
    model, images = small(), photos(2)
    heatmaps = torch.stack([torch.zeros(10, 10), torch.rand(10, 10, generator=torch.Generator().manual_seed(0))])
    for metric in (AOPC(region=5), Deletion(5), Insertion(5), ROAD((0.3,))):
        found = metric(model, images, heatmaps)
        assert found.isnan().tolist() == [True, False]
    assert not AOPC(region=5, order="random")(model, images, heatmaps).isnan().any()


def test_the_first_of_equal_regions_goes_first():
    assert turns(torch.zeros(1, 2, 2), (4, 4), 2, "least")[0, ::2, ::2].tolist() == [[0, 1], [2, 3]]
    ragged = turns(torch.zeros(1, 2, 2), (5, 5), 2, "most", ragged=True)
    assert ragged.shape == (1, 5, 5)
    assert ragged[0, 4, 4] == 8


@unchecked()
def test_bad_input_is_named():
    model, images = small(), photos(2)
    heatmaps = images[:, 0]
    with pytest.raises(InputError, match=r"regions of 4 x 4 pixels do not tile images of 10 x 10; take 1 or 2 or 5"):
        AOPC(region=4)(model, images, heatmaps)
    with pytest.raises(InputError, match="1 to 10 pixels, got 11"):
        AOPC(region=11)(model, images, heatmaps)
    with pytest.raises(InputError, match="at least 1 step, got 0"):
        AOPC(steps=0)
    with pytest.raises(InputError, match="at least 1 step, got 0"):
        Deletion(steps=0)
    with pytest.raises(InputError, match="between 0 and 1"):
        ROAD(fractions=(0.5, 1.0))
    with pytest.raises(InputError, match="one heatmap per image: expected 2, got 1"):
        Insertion()(model, images, heatmaps[:1])
    with pytest.raises(InputError, match=r"one target per image: expected \[2\], got \[3\]"):
        AOPC(region=5)(model, images, heatmaps, torch.zeros(3, dtype=torch.long))
    with pytest.raises(InputError, match=r"targets must lie in 0\.\.3, got 9$"):
        AOPC(region=5)(model, images, heatmaps, torch.tensor([0, 9]))
    with pytest.raises(InputError, match="NaN or infinite"):
        AOPC(region=5)(model, images, heatmaps * math.nan)
    with pytest.raises(InputError, match="grey value"):
        AOPC(region=5, fill="black")(model, images, heatmaps)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="every pixel"):
        impute(images, torch.ones(2, 10, 10, dtype=torch.bool))
    with pytest.raises(SpecError, match="did you mean most"):
        AOPC(region=5, order="mos")(model, images, heatmaps)  # pyright: ignore[reportArgumentType]
    with pytest.raises(SpecError, match="did you mean probability"):
        AOPC(region=5, answer="probabilty")(model, images, heatmaps)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="at least one image"):
        AOPC(region=5)(model, images[:0], heatmaps[:0])


def test_an_imputation_of_what_is_no_number_stops(monkeypatch):
    monkeypatch.setattr(road, "PATIENCE", 50)
    gone = torch.zeros(1, 6, 6, dtype=torch.bool)
    gone[0, 2:4, 2:4] = True
    with pytest.raises(ModelError, match="the imputation did not settle in 50 steps; are the images finite"):
        impute(torch.full((1, 3, 6, 6), torch.nan), gone)
