"""Evidence on real weights and photos: an honest explainer passes, one that ignores the model does not."""

import pytest

from heatproof.data.batches import batches
from heatproof.data.sources import open_data
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.explainers.guided import GuidedBackprop
from heatproof.metrics.faithfulness import AOPC
from heatproof.metrics.randomisation import Randomisation
from heatproof.models.loading import load

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def resnet20(shared):
    model = load(f"{shared}/weights/zoo.py:resnet20")
    source = open_data(str(shared / "data/cifar10/test"), classes=model.classes, limit=24)
    return model, next(iter(batches(source, model.preprocessing, 24))).images


def test_gradcam_and_gradient_pass_the_randomisation_test_and_guided_backprop_does_not(resnet20):
    model, images = resnet20
    asked = Randomisation(at_most=4)
    # the head alone, then the last stage as well
    found = {
        type(explainer).__name__: [float(row.spearman_absolute.nanmean()) for row in asked(model, explainer, images)]
        for explainer in (GradCAM(), SimpleGrad(), GuidedBackprop())
    }
    assert abs(found["GradCAM"][0]) < 0.35
    assert abs(found["GradCAM"][-1]) < 0.35
    assert found["SimpleGrad"][0] < 0.65
    assert found["SimpleGrad"][-1] < 0.4
    assert found["GuidedBackprop"][0] > 0.8
    assert found["GuidedBackprop"][-1] > found["SimpleGrad"][-1] + 0.15


def test_gradcam_is_more_faithful_than_chance(resnet20):
    model, images = resnet20
    explanation = GradCAM()(model, images)
    most, random, least = (
        float(AOPC(4, 20, order)(model, images, explanation.heatmaps, explanation.targets).nanmean())
        for order in ("most", "random", "least")
    )
    assert most > random > least
