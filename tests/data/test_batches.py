"""Streams of batches: the same photos in the same order, wherever they begin and however many share them."""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from heatproof.data.batches import Batch, batches, training_batches
from heatproof.data.photos import fit
from heatproof.data.sources import Photo, Source, open_data
from heatproof.errors import InputError

COUNT, BAD = 23, (4, 11)


@pytest.fixture
def source(paint, tmp_path: Path) -> Source:
    """23 photos, two of which cannot be read."""
    for number in range(COUNT):
        path = paint(f"{number // 10}/{number:02}.png", size=(12, 9))
        if number in BAD:
            path.write_bytes(b"")
    return open_data(tmp_path)


class Noise:
    """A source of noise that knows what was read, and breaks where it is told to."""

    def __init__(self, count: int, shape: tuple[int, int] = (6, 6), broken: Iterable[int] = ()) -> None:
        self.ids = [f"noise-{place}" for place in range(count)]
        self.shape, self.broken = shape, set(broken)
        self.read: list[int] = []
        self.skipped: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> Photo:
        self.read.append(position)
        if position in self.broken:
            raise InputError("cannot be read: it is broken")
        image = np.random.default_rng(position).integers(0, 256, (3, *self.shape), dtype=np.uint8)
        return Photo(self.ids[position], torch.from_numpy(image), position)

    def skip(self, image: str, reason: str) -> None:
        self.skipped[image] = reason


def joined(stream: Iterable[Batch]) -> tuple[list[str], Tensor, Tensor]:
    parts = list(stream)
    return (
        [name for part in parts for name in part.ids],
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
    )


def same(ours: Iterable[Batch], theirs: Iterable[Batch]) -> bool:
    return all(
        a.ids == b.ids and torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.fixture(autouse=True)
def no_thread_stays():
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("heatproof")] == []


class TestOnce:
    @pytest.mark.parametrize("workers", [None, 1, 4])
    def test_every_photo_as_fit_makes_it(self, source: Source, workers: int | None) -> None:
        ids, images, labels = joined(batches(source, 8, 5, workers=workers))
        photos = list(source)
        assert ids == [photo.id for photo in photos]
        assert labels.tolist() == [photo.label for photo in photos]
        assert labels.dtype == torch.int64
        assert torch.equal(images, torch.stack([fit(photo.image, 8) for photo in photos]))

    def test_how(self, source: Source) -> None:
        _, images, _ = joined(batches(source, 8, 5, how="squash"))
        assert torch.equal(images[0], fit(source[0].image, 8, "squash"))
        with pytest.raises(InputError, match="got 'stretch'"):
            next(batches(source, 8, 5, how="stretch"))  # type: ignore[arg-type]

    def test_unreadable_photos_leave_a_gap(self, source: Source) -> None:
        stream = batches(source, 8, 5)
        assert len(next(stream).ids) == 4
        # what comes later may be read already, but its turn has not come
        assert [entry["image"] for entry in source.skipped] == [source.ids[4]]
        assert [len(batch.ids) for batch in stream] == [5, 4, 5, 3]
        assert source.skipped == [
            {"image": source.ids[place], "reason": "cannot be read: the file is empty"} for place in BAD
        ]

    def test_nothing_readable_is_no_batch(self) -> None:
        noise = Noise(7, broken=range(7))
        assert list(batches(noise, 6, 2)) == []
        assert len(noise.skipped) == 7
        assert list(batches(Noise(0), 6, 2)) == []

    @pytest.mark.parametrize("start", [0, 1, 7, 22, 23, 40])
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_resumed_and_shared(self, start: int, count: int) -> None:
        noise = Noise(COUNT, broken=BAD)
        expected = [name for place, name in enumerate(noise.ids) if place >= start and place not in BAD]
        found = []
        for index in range(count):
            for batch in batches(noise, 6, 4, start=start, shard=(index, count)):
                for name, image in zip(batch.ids, batch.images, strict=True):
                    place = noise.ids.index(name)
                    assert place % count == index
                    assert torch.equal(image * 255, noise[place].image.float())
                    found.append(name)
        assert sorted(found, key=noise.ids.index) == expected
        assert len(found) == len(set(found))

    def test_memory_is_bounded(self) -> None:
        noise = Noise(500)
        for taken, _ in enumerate(batches(noise, 6, 10, workers=3), start=1):
            assert len(noise.read) <= (taken + 2) * 10 + 1
        assert sorted(noise.read) == list(range(500))

    def test_left_before_the_end(self) -> None:
        noise = Noise(500)
        for _ in batches(noise, 6, 10, workers=3):
            break
        assert len(noise.read) <= 31

    def test_an_error_of_ours_is_not_swallowed(self) -> None:
        class Faulty(Noise):
            def __getitem__(self, position: int) -> Photo:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            list(batches(Faulty(9), 6, 2))

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"batch_size": 0}, "batch size must be at least 1, got 0"),
            ({"shard": (2, 2)}, r"0 <= index < count, got \(2, 2\)"),
            ({"start": -1}, "start must not be negative, got -1"),
            ({"workers": 0}, "at least 1 worker, got 0"),
        ],
    )
    def test_wrong_numbers_are_refused_at_the_door(self, wrong: dict, message: str) -> None:
        with pytest.raises(InputError, match=message):
            batches(Noise(3), 6, **{"batch_size": 2, **wrong})


class TestTraining:
    def test_each_photo_once_in_a_pass(self) -> None:
        noise = Noise(10)
        ids, _, labels = joined(training_batches(noise, 6, 4, steps=15, seed=3))
        assert len(ids) == 60
        passes = [ids[start : start + 10] for start in range(0, 60, 10)]
        assert all(sorted(one) == sorted(noise.ids) for one in passes)
        assert len({tuple(one) for one in passes}) == 6
        assert [noise.ids[label] for label in labels.tolist()] == ids

    @pytest.mark.parametrize("augment", [None, "flip", "crop", "zoom"])
    def test_a_pure_function_of_seed_and_step(self, augment) -> None:
        noise = Noise(10, shape=(9, 7))

        def stream(**changed):
            return training_batches(noise, 6, 4, **{"steps": 12, "seed": 3, "augment": augment, **changed})

        whole = list(stream())
        torch.manual_seed(17)
        assert same(whole, stream(workers=5))
        for start in (1, 5, 11):
            assert same(whole[start:], stream(start=start))
        assert same(whole[:4], stream(steps=4))
        assert list(stream(start=12)) == []
        assert not same(whole, stream(seed=4))

    def test_shards_hold_the_whole_batch(self) -> None:
        def stream(shard: tuple[int, int] = (0, 1)) -> list[Batch]:
            return list(training_batches(Noise(10), 6, 5, steps=6, seed=3, augment="crop", shard=shard))

        even, odd = stream((0, 2)), stream((1, 2))
        for step, batch in enumerate(stream()):
            assert (batch.ids[0::2], batch.ids[1::2]) == (even[step].ids, odd[step].ids)
            assert torch.equal(batch.images[0::2], even[step].images)
            assert torch.equal(batch.images[1::2], odd[step].images)

    def test_more_photos_in_a_batch_than_there_are(self) -> None:
        ids, images, _ = joined(training_batches(Noise(3), 6, 8, steps=2, seed=0))
        assert images.shape == (16, 3, 6, 6)
        assert all(len(set(ids[start : start + 3])) == 3 for start in range(0, 15, 3))

    def test_another_photo_stands_in_for_one_that_cannot_be_read(self) -> None:
        noise = Noise(10, broken=(2, 6))
        ids, images, _ = joined(training_batches(noise, 6, 5, steps=4, seed=1))
        assert set(ids) == {name for place, name in enumerate(noise.ids) if place not in (2, 6)}
        assert len(images) == 20
        assert noise.skipped == dict.fromkeys(("noise-2", "noise-6"), "cannot be read: it is broken")
        assert same(
            training_batches(noise, 6, 5, steps=4, seed=1, start=2), list(training_batches(noise, 6, 5, 4, 1))[2:]
        )
        with pytest.raises(InputError, match=r"none of the 3 photos can be read: noise-.* it is broken"):
            next(training_batches(Noise(3, broken=range(3)), 6, 2, steps=1, seed=0))

    def test_half_are_mirrored(self) -> None:
        noise = Noise(50)
        ids, images, _ = joined(training_batches(noise, 6, 50, steps=8, seed=0, augment="flip"))
        mirrored = 0
        for name, image in zip(ids, images, strict=True):
            stored = noise[noise.ids.index(name)].image / 255
            assert torch.equal(image, stored) or torch.equal(image, stored.flip(-1))
            mirrored += torch.equal(image, stored.flip(-1))
        assert 160 <= mirrored <= 240  # 4 standard deviations about 200 of 400

    @pytest.mark.parametrize(("augment", "least", "mean"), [("crop", 0.08, 0.5), ("zoom", 0.5, 0.7)])
    def test_crops_keep_a_part_of_allowed_area_and_proportions(self, augment: str, least: float, mean: float) -> None:
        # red tells the column and green the row, so the range that is seen tells the box
        rows, cols = torch.meshgrid(torch.arange(200), torch.arange(240), indexing="ij")
        ramp = torch.stack([cols, rows, rows * 0]).to(torch.uint8)

        class Ramp(Noise):
            def __getitem__(self, position: int) -> Photo:
                return Photo(self.ids[position], ramp, 0)

        _, images, _ = joined(training_batches(Ramp(40), 50, 40, steps=4, seed=0, augment=augment))  # type: ignore[arg-type]
        seen = images * 255
        across = (seen[:, 0].amax((1, 2)) - seen[:, 0].amin((1, 2))) * 50 / 49
        down = (seen[:, 1].amax((1, 2)) - seen[:, 1].amin((1, 2))) * 50 / 49
        area, ratio = across * down / (200 * 240), across / down
        assert least - 0.01 < float(area.min()) < least + 0.07
        assert 0.75 < float(area.max()) < 1.02
        assert_close(area.mean(), torch.tensor(mean), atol=0.1, rtol=0)  # uniform up to 1, less what does not fit
        assert 0.72 < float(ratio.min()) < 0.85
        assert 1.2 < float(ratio.max()) < 1.4

    def test_a_strip_is_cropped_to_its_middle(self) -> None:
        _, images, _ = joined(training_batches(Noise(2, shape=(2, 300)), 8, 2, steps=2, seed=0, augment="crop"))
        assert images.shape == (4, 3, 8, 8)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"seed": -1}, "seed must not be negative, got -1"),
            ({"augment": "rotate"}, "augment is one of flip, crop, zoom or None, got 'rotate'"),
            ({"shard": (0, 3)}, "a batch of 2 cannot be shared by 3 processes"),
            ({"source": Noise(0)}, "there is no photo to train on"),
            ({"start": -2}, "start must not be negative"),
        ],
    )
    def test_wrong_numbers_are_refused_at_the_door(self, wrong: dict, message: str) -> None:
        with pytest.raises(InputError, match=message):
            training_batches(**{"source": Noise(3), "size": 6, "batch_size": 2, "steps": 1, "seed": 0, **wrong})


def test_no_global_random_numbers_are_drawn() -> None:
    before = torch.random.get_rng_state()
    list(training_batches(Noise(5), 6, 2, steps=4, seed=0, augment="crop"))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.weights
def test_real_photos_equal_torchvisions_evaluation(shared: Path) -> None:
    from torchvision import transforms

    preset: Any = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()])
    source = open_data(shared / "data/photos/pacs-photo-elephant", limit=12)
    ids, images, _ = joined(batches(source, 224, 5))
    for name, image in zip(ids, images, strict=True):
        with Image.open(shared / "data/photos/pacs-photo-elephant" / name) as stored:
            assert torch.equal(image, preset(stored.convert("RGB")))


def test_a_batch_lies_channel_by_channel(tmp_path: Path) -> None:
    """Whatever order a reader leaves a photo in: another order is another convolution, by its rounding."""
    for name in "ab":
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{name}.png")
    [batch] = batches(open_data(str(tmp_path), labels=False), 8, 2)
    assert batch.images.is_contiguous()
    assert batch.images.dtype == torch.float32
