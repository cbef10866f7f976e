"""The black-box witness of a repair: where it points, what it is compared by, and that it can be gone on with."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tests.networks import small
from torch import Tensor, nn

from heatproof.errors import InputError, RunError
from heatproof.images import blurred
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.repairs.witness import Witness, ask_witness, check_hearing, grids, likeness, questions
from heatproof.training.feeds import TensorFeed


class Corner(nn.Module):
    """Class 0 hangs on nothing but the upper left quarter, class 1 is always 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, :, :8, :8].std((1, 2, 3)) * 10, torch.zeros(len(x))], 1)


class Kept:
    """A checkpoint in memory, which may be told to be killed after so many saves."""

    def __init__(self, saves: int = 10**6):
        self.state: dict[str, Any] | None = None
        self.saves = saves

    def load(self) -> dict[str, Any] | None:
        return self.state

    def save(self, state: dict[str, Any]) -> None:
        self.state = {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}
        self.saves -= 1
        if not self.saves:
            raise KeyboardInterrupt


def corner() -> Classifier:
    return Classifier(Corner(), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), ["busy", "calm"], 16, name="corner").eval()


def feed(count: int, size: int = 16) -> TensorFeed:
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return TensorFeed(images, torch.full((count,), -1))


def test_it_points_at_what_the_answer_hangs_on() -> None:
    maps = ask_witness(corner(), feed(3), (4, 4), Hardware("cpu")).maps
    assert maps.shape == (3, 4, 4)
    assert (maps[:, :2, :2].mean((1, 2)) > 3 * maps[:, 2:, 2:].mean((1, 2)).abs()).all()
    assert (maps.flatten(1).argmax(1) == 0).all()


def test_it_is_the_regression_over_blurred_photos_written_out() -> None:
    """Against one photo at a time through least squares with the ridge as further rows."""
    model, images = small(size=16, dtype=torch.float32), feed(2).images
    found = ask_witness(model, TensorFeed(images, torch.full((2,), -1)), (8, 8), Hardware("cpu")).maps
    kept = grids()
    for image, map in zip(images, found, strict=True):
        fuzzy = blurred(image[None], 16 / 4)[0]
        with torch.no_grad():
            target = int(model(image[None]).argmax())
        leads = []
        for grid in kept:
            mask = F.interpolate(grid[None, None], size=(16, 16), mode="bilinear", align_corners=False)[0]
            with torch.no_grad():
                logits = model((image * mask + fuzzy * (1 - mask))[None])[0]
            others = torch.cat([logits[:target], logits[target + 1 :]])
            leads.append(float(logits[target] - others.mean()))
        rows = np.concatenate([kept.flatten(1).numpy() - 0.5, np.eye(16)])
        values = np.concatenate([np.array(leads) - np.mean(leads), np.zeros(16)])
        weights = np.linalg.lstsq(rows, values, rcond=None)[0].reshape(1, 1, 4, 4).astype(np.float32)
        fine = F.interpolate(torch.from_numpy(weights), size=(16, 16), mode="bilinear", align_corners=False)[0, 0]
        coarse = fine.unfold(0, 2, 2).unfold(1, 2, 2).mean((2, 3))
        torch.testing.assert_close(map, coarse, rtol=1e-3, atol=1e-4)


def test_it_goes_on_where_it_was_killed() -> None:
    model, photos = small(size=16, dtype=torch.float32), feed(150)
    whole = ask_witness(model, photos, (4, 4), Hardware("cpu")).maps
    kept, seen = Kept(saves=1), []
    with pytest.raises(KeyboardInterrupt):
        ask_witness(model, photos, (4, 4), Hardware("cpu"), kept)
    kept.saves = 100
    again = ask_witness(model, photos, (4, 4), Hardware("cpu"), kept, seen.append).maps
    assert seen == [64, 64, 22]  # the first part was kept
    assert torch.equal(again, whole)
    with pytest.raises(RunError, match="holds no witness of these 3 photos"):
        ask_witness(model, feed(3), (4, 4), Hardware("cpu"), kept)
    assert kept.state is not None
    kept.state["questions"] = 43
    with pytest.raises(RunError, match="holds no witness of these 150 photos"):
        ask_witness(model, photos, (4, 4), Hardware("cpu"), kept)
    kept.state |= {"questions": 48, "done": len(photos) + 1}
    with pytest.raises(RunError, match=f"says {len(photos) + 1} of {len(photos)} photos were asked about; delete it"):
        ask_witness(model, photos, (4, 4), Hardware("cpu"), kept)


@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-5, 5))
def test_likeness_does_not_see_scale_and_offset(seed: int, scale: float, offset: float) -> None:
    a, b = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    same = likeness(a, b)
    torch.testing.assert_close(likeness(a * scale + offset, b), same, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(likeness(-a, b), -same)
    torch.testing.assert_close(likeness(b, b), torch.ones(3, dtype=torch.float64))
    assert (likeness(torch.full_like(a, offset), b).abs() < 1e-3).all()


def test_finer_maps_are_compared_at_the_witness_size() -> None:
    witness = torch.randn(2, 4, 4)
    torch.testing.assert_close(
        likeness(witness.repeat_interleave(3, 1).repeat_interleave(3, 2), witness), torch.ones(2)
    )


def test_likeness_has_a_derivative() -> None:
    maps = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: likeness(m, torch.randn(2, 2, 2, generator=gen(), dtype=m.dtype)), [maps])


def gen() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_questions_are_what_is_asked() -> None:
    asked = []

    class Counting(Corner):
        def forward(self, x: Tensor) -> Tensor:
            asked.append(len(x))
            return super().forward(x)

    model = Classifier(Counting(), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), ["a", "b"], 16).eval()
    ask_witness(model, feed(1), (4, 4), Hardware("cpu"))
    assert sum(asked) == questions()


def test_photos_that_say_nothing_are_refused() -> None:
    speaking = Witness(torch.randn(4, 2, 2))
    check_hearing(speaking, torch.tensor([0, 1, 0, 1]), "it")
    with pytest.raises(InputError, match="it calls all 4 photos the same class"):
        check_hearing(speaking, torch.zeros(4), "it")
    with pytest.raises(InputError, match="nothing in any of the photos changes what it answers"):
        check_hearing(Witness(torch.ones(4, 2, 2)), torch.tensor([0, 1, 0, 1]), "it")


@pytest.fixture(autouse=True)
def _same_generator() -> Iterator[None]:
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)
