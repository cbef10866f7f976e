"""A network whose answer has no derivative for one photo, and one that has no answer for it: never a map of NaN."""

import pytest
import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof import spec
from heatproof.catalog import EXPLAINERS
from heatproof.models.finite import check_finite, unchecked
from heatproof.types import Explainer

PHOTOS = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.4
BRIGHT = 1
"""The photo that the networks stumble over."""


class Rooted(nn.Sequential):
    """Adds the root of how dark a photo is at its brightest: of 0, where that is cut off, it has no derivative."""

    def forward(self, input: Tensor) -> Tensor:
        brightest = input.amax((1, 2, 3))
        return super().forward(input) + ((0.5 - brightest) * (brightest < 0.5)).pow(2).sqrt()[:, None]


class Divided(nn.Sequential):
    """Divides by what is 0 for one photo."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) / (input.amax((1, 2, 3)) < 0.5).to(input)[:, None]


def model(kind: type[nn.Sequential]) -> hp.Classifier:
    torch.manual_seed(0)
    body = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)
    return hp.Classifier(kind(*body).eval(), input_size=16, default_layer="1")


def photos() -> Tensor:
    images = PHOTOS.clone()
    images[BRIGHT] += 0.55
    return images


@pytest.mark.parametrize("name", EXPLAINERS)
@pytest.mark.parametrize("kind", [Rooted, Divided])
def test_a_map_is_finite_or_refused(name: str, kind: type[nn.Sequential]) -> None:
    short = {"rise": "rise(masks=64)", "tangent": "tangent(photos='demo', k=3, d=2, limit=8)"}
    try:
        explainer = spec.build(short.get(name, f"{name}()"), EXPLAINERS)
        found = explainer(model(kind), photos(), torch.tensor([0, 1, 2]))
    except hp.HeatproofError:
        return
    assert found.heatmaps.isfinite().all()
    assert kind is Rooted, "of an answer that is no number there is no map"


@pytest.mark.parametrize(
    ("explainer", "kind", "what"),
    [
        (hp.SimpleGrad(), Rooted, "the score's gradient is"),
        (hp.GradCAM(), Divided, "what the network answers is"),
        (hp.Occlusion(), Divided, "what the network answers is"),
    ],
)
def test_the_photo_is_named(explainer: Explainer, kind: type[nn.Sequential], what: str) -> None:
    with pytest.raises(
        hp.ModelError, match=rf"{what} NaN or infinite for 1 of 3 images \(the first is number {BRIGHT} "
    ):
        explainer(model(kind), photos())
    fine = explainer(model(kind), PHOTOS).heatmaps
    assert fine.isfinite().all()


def test_a_training_judges_weights_that_have_exploded() -> None:
    with unchecked():
        assert not hp.SimpleGrad()(model(Divided), photos()).logits.isfinite().all()
    with pytest.raises(hp.ModelError):
        hp.SimpleGrad()(model(Divided), photos())


def test_finite_numbers_may_have_an_infinite_sum() -> None:
    check_finite(torch.full((2, 3), 3e38))


def test_python_refuses_in_the_same_sentence() -> None:
    with pytest.raises(hp.ModelError, match="NaN or infinite for 1 of 3 images"):
        hp.explain(model(Rooted), photos(), explainer=hp.SimpleGrad())
