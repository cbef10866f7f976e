"""Quantus as a witness for AOPC, deletion, insertion and ROAD; captum for sensitivity and infidelity."""

import numpy as np
import pytest
import torch
from torch import nn

from heatproof.explainers.gradient import SimpleGrad
from heatproof.metrics.faithfulness import AOPC, Deletion, Insertion
from heatproof.metrics.road import ROAD, impute
from heatproof.metrics.robustness import Infidelity, SensitivityMax

pytestmark = pytest.mark.peers
SIDE = 16


@pytest.fixture
def scene():
    """A small network on grey images (Quantus ranks colour values, not pixels, one by one), photos, maps, classes."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(96, 5),
    ).eval()
    with torch.no_grad():
        network[-1].get_parameter("weight").mul_(60)
    images = 0.1 + 0.8 * torch.rand(4, 1, SIDE, SIDE)
    return network, images, torch.rand(4, SIDE, SIDE), torch.tensor([0, 1, 2, 4])


def asked_of_quantus(metric, scene, **more):
    network, images, heatmaps, targets = scene
    return metric(
        model=network,
        x_batch=images.numpy(),
        y_batch=targets.numpy(),
        a_batch=heatmaps[:, None].numpy(),
        device="cpu",
        softmax=True,
        **more,
    )


@pytest.fixture
def quantus():
    # it warns about itself, matplotlib and its own divisions
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip("quantus")


QUIET = {"normalise": False, "abs": False, "disable_warnings": True, "display_progressbar": False}


@pytest.mark.parametrize(("order", "theirs"), [("most", "morf"), ("least", "lerf")])
@pytest.mark.parametrize("region", [2, 4])
def test_aopc_curves_are_those_of_quantus(quantus, scene, order, theirs, region):
    network, images, heatmaps, targets = scene
    metric = quantus.RegionPerturbation(
        patch_size=region, order=theirs, regions_evaluation=10, perturb_baseline=0.3, **QUIET
    )
    expected = torch.tensor(np.array(asked_of_quantus(metric, scene)))
    found = AOPC(region=region, steps=10, order=order, fill=0.3).curves(network, images, heatmaps, targets)
    torch.testing.assert_close(found[:, 1:].double(), expected.double(), rtol=0, atol=1e-4)
    assert found.std() > 0.01, "the curves say something"


def test_deletion_is_pixel_flipping(quantus, scene):
    network, images, heatmaps, targets = scene
    metric = quantus.PixelFlipping(features_in_step=16, perturb_baseline=0.0, **QUIET)
    expected = torch.tensor(np.array(asked_of_quantus(metric, scene)))
    found = Deletion(steps=SIDE).curves(network, images, heatmaps, targets)
    torch.testing.assert_close(found[:, 1:].double(), expected.double(), rtol=0, atol=1e-4)


def test_insertion_is_pixel_flipping_backwards(quantus, scene):
    network, images, heatmaps, targets = scene
    # what comes last onto the grey image is what leaves the photo first
    backwards = (network, images, 1 - heatmaps, targets)
    metric = quantus.PixelFlipping(features_in_step=16, perturb_baseline=0.5, **QUIET)
    expected = torch.tensor(np.array(asked_of_quantus(metric, backwards))).flip(1)
    found = Insertion(steps=SIDE, fill=0.5).curves(network, images, heatmaps, targets)
    torch.testing.assert_close(found[:, :-1].double(), expected.double(), rtol=0, atol=1e-4)


def test_imputation_is_that_of_quantus(quantus, scene):
    from quantus.functions.perturb_func import noisy_linear_imputation

    _, images, heatmaps, _ = scene
    for share in (0.1, 0.5, 0.9):
        gone = heatmaps > 1 - share
        expected = [
            noisy_linear_imputation(image.numpy(), np.flatnonzero(mask.numpy()), noise=0.0)  # type: ignore[arg-type]
            for image, mask in zip(images, gone, strict=True)
        ]
        torch.testing.assert_close(impute(images, gone), torch.tensor(np.array(expected)), rtol=0, atol=1e-5)


def test_road_is_that_of_quantus(quantus, scene):
    network, images, heatmaps, targets = scene
    targets = network(images).argmax(1)
    metric = quantus.ROAD(percentages=[10, 30, 50, 70, 90], noise=0.0, **QUIET)
    expected = asked_of_quantus(metric, (network, images, heatmaps, targets))
    found = ROAD((0.1, 0.3, 0.5, 0.7, 0.9), noise=0.0, answer="correct").curves(network, images, heatmaps, targets)
    torch.testing.assert_close(found.mean(0).tolist(), [float(value) for value in expected.values()], rtol=0, atol=1e-4)


def uniform_like_ours(radius, seed, shape, count):
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([(2 * torch.rand(shape, generator=generator) - 1) * radius for _ in range(count)])


def test_sensitivity_is_that_of_captum(scene):
    metrics = pytest.importorskip("captum.metrics")
    network, images, _, targets = scene
    moves = uniform_like_ours(0.05, 0, images.shape[1:], 8)

    def explain(inputs, target):
        return (SimpleGrad()(network, inputs if torch.is_tensor(inputs) else inputs[0], target).heatmaps,)

    def perturb(inputs):
        # captum hands over a tuple here and a tensor there
        return ((inputs if torch.is_tensor(inputs) else inputs[0]) + moves.repeat(4, 1, 1, 1),)

    expected = metrics.sensitivity_max(explain, (images,), perturb_func=perturb, n_perturb_samples=8, target=targets)
    found = SensitivityMax(radius=0.05, samples=8)(network, SimpleGrad(), images, targets)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("scaled", [True, False])
def test_infidelity_is_that_of_captum(scene, scaled):
    metrics = pytest.importorskip("captum.metrics")
    network, images, heatmaps, targets = scene
    moves = uniform_like_ours(0.1, 0, images.shape[1:], 20)

    def perturb(inputs):
        each = moves.repeat(4, 1, 1, 1)
        return each, inputs - each

    expected = metrics.infidelity(
        network, perturb, images, heatmaps[:, None], target=targets, n_perturb_samples=20, normalize=scaled
    )
    found = Infidelity(samples=20, scaled=scaled)(network, images, heatmaps, targets)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-4)
