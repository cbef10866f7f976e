"""What the clean model said, kept in a file where memory is too small."""

import errno
import os

import pytest
import torch
from tests.training.nets import convolutions, patches

from heatproof.data.sources import open_data
from heatproof.errors import InputError, RunError
from heatproof.explainers.cam import GradCAM
from heatproof.models.hardware import Hardware
from heatproof.training import clean_model
from heatproof.training.clean_model import CleanModel, held_out_outputs, room
from heatproof.training.data import PhotoFeed
from heatproof.training.feeds import TensorFeed

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot allocate ahead")


def test_the_whole_file_is_on_the_disk_before_it_is_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(clean_model, "IN_MEMORY", 1000)
    kept = room((30, 1, 100), tmp_path / "scratch", "maps-fool")
    assert kept is not None
    assert not kept.any()
    told = (tmp_path / "scratch" / "maps-fool.bin").stat()
    assert (told.st_size, told.st_blocks * 512 >= 12_000) == (12_000, True)
    kept += 1
    again = room((30, 1, 100), tmp_path / "scratch", "maps-fool")
    assert again is not None
    assert torch.equal(again, torch.ones(30, 1, 100))  # gone on with


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(clean_model, "IN_MEMORY", 1000)

    def full(handle, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match=r"cannot write .*maps-fool\.bin: No space left .*12,000 bytes wanted"):
        room((30, 1, 100), tmp_path, "maps-fool")
    assert list(tmp_path.iterdir()) == []


def test_a_system_that_cannot_allocate_ahead_maps_the_file_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(clean_model, "IN_MEMORY", 1000)
    monkeypatch.delattr(os, "posix_fallocate")
    kept = room((30, 1, 100), tmp_path, "maps-fool")
    assert kept is not None
    kept += 1
    again = room((30, 1, 100), tmp_path, "maps-fool")
    assert again is not None
    assert torch.equal(again, torch.ones(30, 1, 100))


def test_held_out_maps_that_take_too_much_memory_are_refused(monkeypatch):
    monkeypatch.setattr(clean_model, "IN_MEMORY", 0)
    clean = CleanModel(convolutions(), GradCAM("stage3"), Hardware("cpu"), needs_maps=True, needs_logits=False)
    with pytest.raises(InputError, match="held-out images take too much memory; hold out fewer images"):
        held_out_outputs(clean, TensorFeed(*patches(4)), "held-out", 2, None)


def test_photos_of_which_none_can_be_read_are_refused(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no photo")
    feed = PhotoFeed(open_data(tmp_path, labels=False), 16)
    assert feed.ids == ["broken.png"]
    clean = CleanModel(convolutions(), GradCAM("stage3"), Hardware("cpu"), needs_maps=True, needs_logits=False)
    with pytest.raises(InputError, match="none of the images can be read"):
        held_out_outputs(clean, feed, "held-out", 2, None)
