"""The black-box witness of a repair: where it points, what it is compared by, and that it can be gone on with."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.networks import small
from torch import Tensor, nn

from heatproof.errors import InputError, RunError
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.repairs.witness import Witness, ask_witness, check_hearing, likeness, questions, squares
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


def test_it_is_the_mean_fall_under_squares_written_out() -> None:
    """Against a literal loop over squares of one size at a time."""
    model, images = small(size=16, dtype=torch.float32), feed(2).images
    found = ask_witness(model, TensorFeed(images, torch.full((2,), -1)), (16, 16), Hardware("cpu")).maps
    with torch.no_grad():
        logits = model(images)
    targets = logits.argmax(1)

    def lead(values: Tensor) -> Tensor:
        chosen = values.gather(1, targets[:, None])[:, 0]
        return chosen - (values.sum(1) - chosen) / 3

    from heatproof.images import blurred

    total = torch.zeros(2, 16, 16)
    for side, step in ((4, 3), (6, 5), (8, 4)):
        starts = sorted({*range(0, 16 - side + 1, step), 16 - side})
        falls, times = torch.zeros(2, 16, 16), torch.zeros(16, 16)
        filling = blurred(images, side / 2)
        for top in starts:
            for left in starts:
                changed = images.clone()
                inside = (..., slice(top, top + side), slice(left, left + side))
                changed[inside] = filling[inside]
                with torch.no_grad():
                    falls[inside] += (lead(logits) - lead(model(changed)))[:, None, None]
                times[top : top + side, left : left + side] += 1
        total += falls / times
    fine = total / 3
    coarse = fine.unfold(1, 2, 2).unfold(2, 2, 2).mean((3, 4))
    torch.testing.assert_close(found, coarse, rtol=1e-4, atol=1e-5)


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
    kept.state["done"] = len(photos) + 1
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
    # each size looks at the photo itself once more
    assert sum(asked) == questions(16, 16) + len(squares(16, 16))


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
