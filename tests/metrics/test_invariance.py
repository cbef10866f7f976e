"""Input invariance: by law, by hand, and the model left as it was."""

import pytest
import torch
from torch import nn

from heatproof.errors import HeatproofError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import InputXGradient, IntegratedGradients, SimpleGrad
from heatproof.metrics.evaluation import Explained
from heatproof.metrics.invariance import InputInvariance
from heatproof.metrics.similarity import spearman
from networks import photos, small


def found(metric: InputInvariance, explainer, model=None):
    model, images = model or small(dtype=torch.float32), photos().float()
    heatmaps, _, targets = explainer(model, images)
    return metric.measure(Explained(model, explainer, images, heatmaps, targets))[0].values[0]


@pytest.mark.parametrize("explainer", [SimpleGrad(), GradCAM(relu=False)])
@pytest.mark.parametrize("by", ["spearman", "topk_intersection"])
def test_gradients_and_grad_cam_do_not_see_the_pixels_origin(explainer, by) -> None:
    values = found(InputInvariance(by=by), explainer)
    torch.testing.assert_close(values, torch.ones(3), rtol=0, atol=2e-3)


@pytest.mark.parametrize("explainer", [InputXGradient(), IntegratedGradients(steps=8)])
def test_what_is_multiplied_by_the_pixels_does(explainer) -> None:
    assert (found(InputInvariance(), explainer) < 0.98).all()


def test_input_times_gradient_by_hand() -> None:
    model, images = small(dtype=torch.float32), photos().float()
    point = images.clone().requires_grad_()
    chosen = model(images).argmax(1)
    (slope,) = torch.autograd.grad(model(point).gather(1, chosen[:, None]).sum(), point)
    # x' = 0.7 x + 0.3, and the gradient over x' is that over x divided by 0.7
    plain, hazy = (images * slope).sum(1), ((0.7 * images + 0.3) * slope / 0.7).sum(1)
    torch.testing.assert_close(found(InputInvariance(shift=0.3), InputXGradient()), spearman(plain, hazy))


def test_the_model_is_left_as_it_was() -> None:
    model = small(dtype=torch.float32)
    before = model.mean.clone(), model.std.clone(), list(model._buffers)
    found(InputInvariance(), GradCAM(), model)
    assert torch.equal(model.mean, before[0])
    assert torch.equal(model.std, before[1])
    assert list(model._buffers) == before[2]


def test_what_makes_no_sense_is_refused() -> None:
    for wrong in (lambda: InputInvariance(shift=0), lambda: InputInvariance(shift=1), lambda: InputInvariance(by="no")):  # type: ignore[arg-type]
        with pytest.raises(HeatproofError):
            wrong()
    with pytest.raises(HeatproofError, match="Classifier"):
        InputInvariance().check(nn.Flatten(), (8, 8), False)


def test_the_column_says_which_way_is_better() -> None:
    (column,) = InputInvariance(by="nissim").columns
    assert column.name == "invariance_nissim"
    assert column.better == "down"
