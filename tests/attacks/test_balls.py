"""Projection onto the ball, and what is outside it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.shapes import unchecked

from heatproof.attacks.balls import check_epsilon, check_inside, distance, project, random_start, steepest
from heatproof.errors import InputError

NORMS = ("linf", "l2")


def points(seed, spread):
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(3, 2, 4, 4, generator=generator, dtype=torch.float64)
    return clean, clean + spread * torch.randn(clean.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("norm", NORMS)
@settings(deadline=None)
@given(seed=st.integers(0, 10_000), epsilon=st.floats(0, 1), spread=st.floats(0, 3))
def test_projection_lies_inside_is_idempotent_and_keeps_what_is_inside(norm, seed, epsilon, spread):
    clean, far = points(seed, spread)
    near = project(far, clean, epsilon, norm)
    check_inside(near, clean, epsilon, norm)
    torch.testing.assert_close(project(near, clean, epsilon, norm), near, rtol=0, atol=1e-12)
    assert (distance(near, clean, norm) <= distance(far, clean, norm) + 1e-12).all()


@pytest.mark.parametrize("norm", NORMS)
def test_steepest_raises_a_linear_function_most(norm):
    gradient = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    step = steepest(gradient, norm)
    dual = gradient.flatten(1).norm(p=1 if norm == "linf" else 2, dim=1)
    torch.testing.assert_close((gradient * step).flatten(1).sum(1), dual)
    assert not steepest(torch.zeros_like(gradient), norm).any()


@pytest.mark.parametrize("norm", NORMS)
def test_random_start_is_the_same_displacement_for_every_image_and_seeded(norm):
    clean = torch.full((3, 3, 8, 8), 0.5)
    start = random_start(clean, 0.1, norm, seed=3)
    check_inside(start, clean, 0.1, norm)
    assert (start[0] == start[1]).all()
    assert (start[:1] == random_start(clean[:1], 0.1, norm, seed=3)).all()
    assert (start != random_start(clean, 0.1, norm, seed=4)).any()


def test_grey_levels_and_negative_radii_are_named():
    with pytest.raises(InputError, match=r"8, which looks like grey levels of 0\.\.255; write 8/255"):
        check_epsilon(8)
    for odd in (-0.1, float("nan"), float("inf"), "0.1", True):
        with pytest.raises(InputError, match="epsilon must be a number from 0 to 1"):
            check_epsilon(odd)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="linf, l2"):
        check_epsilon(0.1, "l1")  # pyright: ignore[reportArgumentType]
    check_epsilon(3.0, "l2")


@unchecked()
def test_an_attack_that_left_its_ball_is_stopped():
    clean = torch.full((2, 3, 4, 4), 0.5)
    far = clean.clone()
    far[1, 0, 0, 0] += 0.2
    with pytest.raises(InputError, match=r"left its linf ball: image 1 of the batch is 0\.2 away"):
        check_inside(far, clean, 0.1)
    with pytest.raises(InputError, match=r"left the pixels' range"):
        check_inside(clean + 0.6, clean, 1)
    with pytest.raises(InputError, match="not finite"):
        check_inside(clean * torch.nan, clean, 0.1)
    with pytest.raises(InputError, match="shape"):
        check_inside(far[:1], clean, 0.1)
    check_inside(clean + 0.1, clean, 0.1)
