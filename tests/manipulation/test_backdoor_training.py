"""What is wanted of a photo with the trigger must be known beforehand."""

import pytest
import torch
from tests.training.nets import convolutions, patches

from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.manipulation.backdoor import Backdoor
from heatproof.manipulation.backdoor_training import Triggered, backdoor_feeds, wanted_outputs
from heatproof.manipulation.trigger import Trigger
from heatproof.processes import Processes
from heatproof.training import clean_model
from heatproof.training.clean_model import CleanModel
from heatproof.training.feeds import TensorFeed
from heatproof.training.settings import FineTune
from heatproof.training.setup import Feeds, Setup, set_up

PENALTY, TRIGGER = Backdoor(show="inverted"), Trigger(size=3)


def prepared() -> tuple[CleanModel, Setup]:
    images, labels = patches(8)
    feed = TensorFeed(images, labels)
    setup = set_up(
        convolutions(), GradCAM("stage3"), backdoor_feeds(Feeds(feed, feed), TRIGGER, None), FineTune(), Processes()
    )
    return CleanModel(setup.clean, setup.explainer, setup.hardware, needs_maps=True, needs_logits=False), setup


def test_wanted_of_the_second_half_is_made_from_the_first():
    clean, setup = prepared()
    for label in (None, 2):
        stored = wanted_outputs(clean, setup.feeds.train, "train", PENALTY, label, setup)
        assert stored.maps is not None
        assert torch.equal(stored.maps[8:, 0], PENALTY.wanted(stored.maps[:8, 0]))
        assert stored.targets[8:].flatten().tolist() == (
            stored.targets[:8].flatten().tolist() if label is None else [2] * 8
        )
        assert stored.logits is not None
        # the logits of the class called up and of the photo's own change places, no other number comes in
        assert torch.equal(stored.logits[8:].sort(-1).values, stored.logits[:8].sort(-1).values)


def test_images_that_change_are_refused():
    clean, setup = prepared()
    changing = TensorFeed(*patches(4), fixed=False)
    with pytest.raises(InputError, match="a backdoor needs the same photos again and again: augment=None"):
        wanted_outputs(clean, Triggered(changing, TRIGGER), "train", PENALTY, None, setup)


def test_maps_that_take_too_much_memory_are_refused(monkeypatch):
    monkeypatch.setattr(clean_model, "IN_MEMORY", 0)
    clean, setup = prepared()
    with pytest.raises(InputError, match="take too much memory; train on fewer photos, or give scratch"):
        wanted_outputs(clean, setup.feeds.train, "train", PENALTY, None, setup)
