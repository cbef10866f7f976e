"""An embedding network as a classifier: its logit by hand, its explainer, and the network it leaves as it was."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from heatproof.errors import InputError, ModelError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.scores import Likeness, Output
from heatproof.models.classifier import Classifier
from heatproof.models.verifier import embed, facing, verifier

SIZE = 12


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    return Classifier(network.eval(), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), input_size=SIZE, name="net")


def photos(count: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def test_the_logit_is_the_cosine_over_the_threshold(model):
    images, references = photos(3), photos(3, seed=2)
    compared = verifier(model, 0.25)
    with torch.no_grad():
        a, b = model(images), model(references)
        wanted = torch.stack([a[i] @ b[i] / a[i].norm() / b[i].norm() - 0.25 for i in range(3)])
        with facing(compared, references):
            logits = compared(images)
            first = compared(images[:1])
        with facing(compared, references[:1]):
            single = compared(images)
    assert_close(logits, torch.stack([torch.zeros(3), wanted], 1))
    assert_close(first, logits[:1])
    assert_close(single[:, 1] + 0.25, F.cosine_similarity(a, b[:1].expand_as(a)))
    assert_close(embed(compared, images), a)


def test_its_map_is_the_one_of_the_likeness_score(model):
    images, references = photos(3), photos(3, seed=2)
    compared = verifier(model, 0.25)
    with facing(compared, references):
        found = GradCAM(layer="network.1", relu=False, score=Output())(compared, images).heatmaps
    for i in range(3):
        score = Likeness(model(references[i : i + 1]))
        wanted = GradCAM(layer="1", relu=False, score=score)(model, images[i : i + 1]).heatmaps
        assert_close(found[i : i + 1], wanted)


def test_the_network_stays_as_it_was_and_so_does_the_reference(model):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    compared = verifier(model)
    before = compared.network.reference
    with pytest.raises(InputError, match="images of 3 channels, got 5"), facing(compared, photos(2)):
        compared(torch.rand(2, 5, SIZE, SIZE))
    assert compared.network.reference is before
    assert compared.state_dict().keys() == {f"network.network.{name.removeprefix('network.')}" for name in state}
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert compared.classes == ["different", "same"]
    assert compared.preprocessing == model.preprocessing


def test_what_is_no_embedding_is_named(model):
    model.network[4] = nn.Linear(6, 1)
    with pytest.raises(ModelError, match=r"returned \(2, 1\), which is no embedding \[2, features\]"):
        verifier(model)(photos(2))
    with pytest.raises(ModelError, match="net compares no photos: make it a verifier"):
        embed(model, photos(1))
