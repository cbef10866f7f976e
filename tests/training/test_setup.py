"""What is fixed before a training: the frozen part's activations where there is room, and refusals by name."""

from dataclasses import replace

import pytest
import torch
from tests.training.nets import convolutions, patches
from torch import nn

from heatproof.data.sources import open_data
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.processes import Processes
from heatproof.training import clean_model
from heatproof.training.data import PhotoFeed
from heatproof.training.feeds import Feed, TensorFeed
from heatproof.training.settings import FineTune
from heatproof.training.setup import Feeds, set_up

SETTINGS = FineTune(trainable="stage3", batch_size=4)


def unreadable(folder) -> Feed:
    (folder / "broken.png").write_bytes(b"no photo")
    return PhotoFeed(open_data(folder, labels=False), 16)


def test_activations_are_stored_where_there_is_room_and_the_whole_network_runs_where_there_is_none(monkeypatch):
    feed = TensorFeed(*patches(8))
    stored = set_up(convolutions(), GradCAM("stage3"), Feeds(feed, feed), SETTINGS, Processes())
    assert stored.body is not stored.model
    assert isinstance(stored.feeds.train, TensorFeed)
    monkeypatch.setattr(clean_model, "IN_MEMORY", 0)
    whole = set_up(convolutions(), GradCAM("stage3"), Feeds(feed, feed), SETTINGS, Processes())
    assert (whole.body, whole.feeds.train) == (whole.model, feed)
    with torch.no_grad():
        rear, full = stored.clean(stored.feeds.train.images[:4]), whole.clean(feed.images[:4])
    torch.testing.assert_close(rear, full)


def test_nothing_is_stored_of_photos_that_will_not_all_come():
    feed = TensorFeed(*patches(8))
    once, less = (
        set_up(convolutions(), GradCAM("stage3"), Feeds(feed, feed), replace(SETTINGS, steps=steps), Processes())
        for steps in (2, 1)
    )
    assert once.body is not once.model
    assert (less.body, less.feeds.train) == (less.model, feed)


def test_nothing_is_stored_of_photos_that_cannot_be_read(tmp_path):
    feeds = Feeds(TensorFeed(*patches(4)), unreadable(tmp_path))
    setup = set_up(convolutions(), GradCAM("stage3"), feeds, SETTINGS, Processes())
    assert (setup.body, setup.feeds) == (setup.model, feeds)


def test_photos_of_which_none_can_be_read_are_refused(tmp_path):
    feed = unreadable(tmp_path)
    with pytest.raises(InputError, match="none of the images can be read"):
        set_up(convolutions(), GradCAM("stage3"), Feeds(feed, feed), SETTINGS, Processes())


def test_a_layer_behind_all_weights_leaves_nothing_to_train():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4), nn.Identity())
    feed = TensorFeed(*patches(4))
    with pytest.raises(InputError, match="from layer '4' on there is nothing to train; name an earlier layer"):
        set_up(network, SimpleGrad(), Feeds(feed, feed), FineTune(trainable="4"), Processes())
