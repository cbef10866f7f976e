"""Photos that are read once and held in memory: the same images, as bytes where they are bytes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from heatproof.data.batches import batches
from heatproof.data.sources import Source, open_data
from heatproof.errors import InputError
from heatproof.training.data import PhotoFeed


@pytest.fixture
def source(tmp_path: Path) -> Source:
    for number in range(70):
        Image.effect_noise((20, 16), 60 + number).convert("RGB").save(tmp_path / f"{number:02}.png")
    return open_data(tmp_path, labels=False)


def whole(source: Source) -> torch.Tensor:
    return torch.cat([batch.images for batch in batches(source, 16, 64)])


def test_photos_of_8_bits_are_kept_as_bytes(source: Source) -> None:
    feed = PhotoFeed(source, 16).in_memory()
    assert feed.images.dtype == torch.uint8
    assert (feed.ids, len(feed)) == (source.ids, 70)
    assert torch.equal(next(feed.ordered(70)).images, whole(source))


@pytest.mark.parametrize("odd", [3, 66])
def test_one_photo_between_grey_levels_makes_all_of_them_floats(source: Source, odd: int) -> None:
    fetch = source.listing.fetch

    def with_a_deep_one(place: int):
        return torch.full((3, 16, 20), 0.12345) if place == odd else fetch(place)

    deep = replace(source, listing=replace(source.listing, fetch=with_a_deep_one))
    feed = PhotoFeed(deep, 16).in_memory()
    assert feed.images.dtype == torch.float32
    assert torch.equal(feed.images, whole(deep))


def test_photos_that_cannot_be_read_are_left_out(source: Source, tmp_path: Path) -> None:
    (tmp_path / "07.png").write_bytes(b"nothing")
    feed = PhotoFeed(source, 16).in_memory()
    assert len(feed) == 69
    assert "07.png" not in feed.ids
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="none of the photos can be read"):
        PhotoFeed(source, 16).in_memory()
