"""The square that tells against a map: planted, it is found, and what the model says of it is the model's answer."""

import pytest
import torch

from heatproof import Classifier
from heatproof.commands.audit.telling import telling_square
from heatproof.images import blurred


class UpperLeft(torch.nn.Module):
    """Class 1 by the brightness of the upper left quarter of the sides."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(8.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = images[:, :, :8, :8].mean((1, 2, 3)) * self.scale
        return torch.stack([torch.zeros_like(seen), seen - 2], 1)


def planted() -> tuple[Classifier, torch.Tensor, torch.Tensor]:
    """The model, a photo and an honest map of it."""
    model = Classifier(UpperLeft(), mean=(0.0,), std=(1.0,), channels=1, input_size=32)
    photo = torch.zeros(1, 32, 32)
    photo[:, :8, :8] = 1
    honest = torch.zeros(8, 8)
    honest[:2, :2] = 1
    return model, photo, honest


def test_the_square_that_the_model_needs_and_the_map_does_not_show() -> None:
    model, photo, honest = planted()
    told = telling_square(model, photo, honest.flip(0, 1), target=1)
    assert told.cover.sum() == 8 * 8
    assert told.cover[:8, :8].all()
    assert told.shown == 0
    blur = blurred(photo[None], 4.0)[0]
    assert torch.equal(told.covered, torch.where(told.cover.bool(), blur, photo))
    for found, image in ((told.before, photo), (told.after, told.covered)):
        assert found == pytest.approx(float(model(image[None]).softmax(1)[0, 1].detach()))
    assert told.before > 0.99
    assert told.after < told.before - 0.01
    assert told.named == int(model(told.covered[None]).argmax())


def test_a_saturated_answer_is_lost_by_its_lead() -> None:
    """Twice as bright tells twice as much where the probability of both is 1; and then no answer changes."""
    model, photo, honest = planted()
    model.get_parameter("network.scale").data.fill_(400.0)
    told = telling_square(model, photo, honest.flip(0, 1), target=1)
    assert told.cover[:8, :8].all()
    assert told.before == told.after == 1
    assert not told.changes


def test_nothing_tells_against_an_honest_map() -> None:
    model, photo, honest = planted()
    told = telling_square(model, photo, honest, target=1)
    lying = telling_square(model, photo, honest.flip(0, 1), target=1)
    assert told.before - told.after < 0.5 * (lying.before - lying.after)


def test_an_empty_map_shows_nothing() -> None:
    model, photo, _ = planted()
    told = telling_square(model, photo, torch.zeros(4, 4), target=1)
    assert told.shown == 0
    assert told.cover[:8, :8].all()


def test_the_losses_beside_the_map_are_those_that_chose_the_square() -> None:
    model, photo, honest = planted()
    told = telling_square(model, photo, honest.flip(0, 1), target=1)

    def lead(image: torch.Tensor) -> float:
        logits = model(image[None])[0].detach()
        return float(logits[1] - logits[0])

    # read off at the middle of the square, which is the photo's first eighth
    assert told.losses.shape == (16, 16)
    assert float(told.losses[2, 2]) == pytest.approx(lead(photo) - lead(told.covered), abs=1e-5)
    assert told.loss == pytest.approx(float(told.losses[2, 2]))
    assert told.losses.max() == told.losses[:3, :3].min()
    # a square that the model does not look at loses nothing
    assert float(told.losses[-1, -1]) == pytest.approx(0, abs=1e-5)
