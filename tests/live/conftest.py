"""The packaged network on its scenes, and one whose weights were changed."""

import copy

import pytest
import torch

from heatproof.commands.photos import open_photos
from heatproof.data.sources import Source
from heatproof.live.look import Live
from heatproof.live.server import Server
from heatproof.live.wire import Words
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load


@pytest.fixture(scope="session")
def model() -> Classifier:
    return load("demo")


@pytest.fixture(scope="session")
def other(model: Classifier) -> Classifier:
    """The same network with noise on its weights: it answers, and its maps are others."""
    changed = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in changed.parameters():
            value.add_(0.1 * value.std() * torch.randn(value.shape, generator=generator))
    changed.name = "changed"
    return changed


@pytest.fixture(scope="session")
def source(model: Classifier) -> Source:
    return open_photos(model, "demo", limit=6, labels_needed=False)


@pytest.fixture(scope="session")
def live(model: Classifier, source: Source) -> Live:
    return Live([model], source)


@pytest.fixture(scope="session")
def both(model: Classifier, other: Classifier, source: Source) -> Live:
    return Live([model, other], source)


@pytest.fixture
def server(live: Live, tmp_path):
    served = Server(Words(live), port=0, within=tmp_path, typed="heatproof app demo demo").in_background()
    yield served
    served.close()
