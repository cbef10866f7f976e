"""What the clean model said, kept in a file where memory is too small."""

import errno
import os

import pytest
import torch

from heatproof.errors import RunError
from heatproof.training import clean_model
from heatproof.training.clean_model import room

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
