"""Further views: made of the photos alone, and the same for the same seed."""

import torch
import torch.nn.functional as F

from heatproof.repairs.views import mosaics, moved, moved_along, views
from heatproof.repairs.witness import Witness
from heatproof.training.feeds import TensorFeed


def feed() -> TensorFeed:
    rows, cols = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    images = torch.stack([rows * 3 + cols * 5, 255 - rows * 7]).to(torch.uint8)[:, None].repeat(1, 3, 1, 1)
    return TensorFeed(images, torch.tensor([0, 1]))


def test_a_view_is_its_photo_mirrored_or_not_and_shifted_by_two_pixels_at_most() -> None:
    photos = feed()
    found = views(photos, 1, seed=3)
    assert found.images.dtype == torch.uint8
    assert found.labels.tolist() == [-1, -1]
    for image, view in zip(photos.images, found.images, strict=True):
        core = view[:, 2:-2, 2:-2]
        places = [
            (flipped, down, right)
            for flipped in (False, True)
            for down in range(5)
            for right in range(5)
            if torch.equal(core, (image.flip(2) if flipped else image)[:, down : down + 12, right : right + 12])
        ]
        assert places


def test_every_second_view_is_mixed_with_another_photo() -> None:
    photos = TensorFeed(torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)]), torch.tensor([0, 1]))
    for seed in range(20):
        plain, mixed = views(photos, 2, seed).images.split(2)
        assert set(plain.unique().tolist()) <= {0.0, 1.0}
        assert (mixed[0] <= 0.5).all()
        assert (mixed[1] >= 0.5).all()


def test_the_seed_decides() -> None:
    one, same, other = (views(feed(), 4, seed).images for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_moved_copy_takes_its_witness_along() -> None:
    """A witness that is the photo itself, a smooth one, is what the moved photo would give."""
    rows, cols = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    hills = torch.stack([torch.exp(-3 * ((rows - y) ** 2 + (cols - x) ** 2)) for y, x in ((0.2, -0.3), (-0.1, 0.4))])
    photos = TensorFeed(hills[:, None].repeat(1, 3, 1, 1), torch.tensor([0, 1]))
    witness = Witness(F.avg_pool2d(hills, 4))
    copies, moves = moved(photos, 8, seed=0)
    maps = moved_along(witness, moves, (32, 32))
    assert copies.labels.tolist() == [0, 1] * 8
    wanted = F.avg_pool2d(copies.images[:, 0], 4)
    stayed = witness.maps.repeat(8, 1, 1)
    away = (stayed - wanted).abs().amax((1, 2))
    assert (away > 0.1).sum() > 8  # most did move
    # at the border what is shifted in is unknown; between cells the map is bilinear
    assert ((maps.maps - wanted)[:, 1:-1, 1:-1].abs().amax((1, 2)) < 0.1).all()


def test_a_mosaic_shows_the_class_that_is_explained_where_its_map_says() -> None:
    """Photos whose grey is their class's, so that each quarter tells which class it shows."""
    predicted = torch.arange(40) % 5
    grey = (predicted * 40).to(torch.uint8)[:, None, None, None].repeat(1, 3, 8, 8)
    made, again = (mosaics(TensorFeed(grey, torch.full((40,), -1)), predicted, 30, seed=1) for _ in range(2))
    assert made is not None
    assert again is not None
    images = made.feed.images
    assert images.dtype == torch.uint8
    shown = images[:, 0, ::4, ::4].long() // 40
    assert torch.equal(F.interpolate(shown[:, None].float(), 8)[:, 0], images[:, 0].float() / 40)
    assert torch.equal(shown.flatten(1), predicted[made.tiles])
    assert torch.equal(made.where.maps, (shown == made.feed.labels[:, None, None]).float())
    assert [len(quarters.unique()) for quarters in shown] == [2] * 15 + [4] * 15
    assert torch.equal(again.feed.images, images)


def test_of_one_class_no_mosaic_is_made() -> None:
    photos = TensorFeed(torch.rand(20, 3, 8, 8), torch.full((20,), -1))
    assert mosaics(photos, torch.zeros(20).long(), 5, seed=0) is None
    assert mosaics(photos, torch.arange(20) % 2, 0, seed=0) is None
