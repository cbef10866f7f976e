"""What the ViT and the Swin of scenes know, and where their maps lie.

``vit_scenes.safetensors`` and ``swin_scenes.safetensors`` were trained by ``scripts/train_transformers.py NAME --half``
on scenes of the demo's digits (the UCI data set that ``heatproof.data.scenes`` names, CC BY 4.0) and are this project's
own, in 16 bits. The scenes here have held-out digits, and a seed that chose nothing. docs/methods/transformers.md has
their numbers.
"""

from pathlib import Path

import pytest
import torch

from heatproof.data.scenes import Scenes, scenes
from heatproof.explainers.attention import AttentionRollout, Chefer
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.lrp.propagation import LRP
from heatproof.metrics.localisation import pointing_game
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.studies import small_transformers
from heatproof.types import Explainer, Logits

pytestmark = pytest.mark.slow

SEED, COUNT = 101, 512


def trained(name: str) -> Classifier:
    return load(f"{small_transformers.__file__}:{name}@{Path(__file__).with_name(f'{name}.safetensors')}")


@pytest.fixture(scope="module")
def model() -> Classifier:
    return trained("vit_scenes")


@pytest.fixture(scope="module")
def pairs() -> Scenes:
    return scenes(COUNT, SEED, "test", 2)


def logits(model: Classifier, drawn: Scenes) -> Logits:
    with torch.no_grad():
        return torch.cat([model(part) for part in small_transformers.small(drawn.images).split(256)])


def on_digits(model: Classifier, explainer: Explainer, drawn: Scenes) -> tuple[float, float]:
    """The shares of the maps whose highest cell lies on their own digit, and on the other."""
    images, boxes = small_transformers.small(drawn.images), drawn.boxes.float() / 64
    found = torch.cat([explainer(model, images, drawn.labels[:, digit]).heatmaps for digit in (0, 1)])
    own, other = (pointing_game(found, torch.cat([boxes[:, digit], boxes[:, 1 - digit]])) for digit in (0, 1))
    return float(own.nanmean()), float(other.nanmean())


def few(drawn: Scenes, count: int = 128) -> Scenes:
    return Scenes(*(each[:count] for each in drawn))


@pytest.mark.parametrize(("name", "of_one", "of_two"), [("vit_scenes", 0.87, 0.72), ("swin_scenes", 0.95, 0.85)])
def test_held_out_digits_are_named(name: str, of_one: float, of_two: float, pairs: Scenes) -> None:
    model, one = trained(name), scenes(COUNT, SEED, "test", 1)
    assert (logits(model, one).argmax(1) == one.labels).double().mean() >= of_one
    both = logits(model, pairs).topk(2).indices.sort(1).values == pairs.labels.sort(1).values
    assert both.all(1).double().mean() >= of_two


@pytest.mark.parametrize(
    "explainer", [LRP("default", "attnlrp"), LRP(None, "attnlrp"), LRP("default", "cp_lrp"), Chefer()], ids=repr
)
def test_the_map_of_each_digit_lies_on_it(model: Classifier, pairs: Scenes, explainer: Explainer) -> None:
    own, other = on_digits(model, explainer, few(pairs))
    assert own > 0.9 if explainer != LRP(None, "attnlrp") else own > 0.85
    assert other < 0.08


def test_what_speaks_for_a_class_finds_it_better_than_attention_alone(model: Classifier, pairs: Scenes) -> None:
    chefer, rollout = (on_digits(model, explainer, few(pairs))[0] for explainer in (Chefer(), AttentionRollout()))
    assert chefer > rollout + 0.3


@pytest.mark.parametrize("explainer", [LRP("default", "attnlrp"), LRP(None, "attnlrp"), GradCAM()], ids=repr)
def test_the_maps_of_a_swin_never_lie_on_the_other_digit(pairs: Scenes, explainer: Explainer) -> None:
    """Its grid has 4 x 4 cells, whose middles often lie beside a digit that they touch."""
    own, other = on_digits(trained("swin_scenes"), explainer, few(pairs))
    assert own > 0.72
    assert other < 0.05


@pytest.mark.parametrize("name", ["vit_scenes", "swin_scenes"])
def test_the_published_stabilizer_finds_no_more_digits(name: str) -> None:
    """Why LRP's default is 0.01 for transformers too; on other scenes than those that decided it."""
    model, pairs = trained(name), scenes(64, SEED + 1, "test", 2)
    ours, published = (on_digits(model, LRP(None, "cp_lrp", stabilizer=s), pairs)[0] for s in (0.01, 1e-6))
    assert ours > 0.75
    assert ours >= published - 0.02
