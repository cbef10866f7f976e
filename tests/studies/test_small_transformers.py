"""The small transformers: sizes, names on themselves, and a training on scenes that learns and goes on."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import heatproof as hp
from heatproof.commands.photos import open_photos
from heatproof.data.batches import batches
from heatproof.data.kinds import DEMO_COUNTS
from heatproof.data.scenes import scenes
from heatproof.data.sources import limited
from heatproof.studies import small_transformers


@pytest.mark.parametrize("name", ["vit", "swin", "vit_scenes", "swin_scenes"])
def test_a_factory_is_a_model_by_name(name: str) -> None:
    model = hp.load(f"{small_transformers.__file__}:{name}")
    assert model.input_shape == (32, 32)
    assert model.classes is not None
    assert len(model.classes) == 10
    grid = hp.GradCAM()(model, torch.rand(1, 3, 32, 32)).heatmaps
    assert grid.shape == ((1, 8, 8) if "vit" in name else (1, 4, 4))


def test_scenes_at_half_their_size_keep_their_mean() -> None:
    drawn = scenes(2, seed=0).images
    torch.testing.assert_close(small_transformers.small(drawn).mean((2, 3)), drawn.mean((2, 3)))


@pytest.mark.parametrize("name", ["vit_scenes", "swin_scenes"])
def test_the_demo_comes_to_a_network_of_scenes_whole(name: str) -> None:
    model = hp.load(f"{small_transformers.__file__}:{name}")
    [batch] = batches(limited(open_photos(model, "demo"), 4), model.preprocessing, 4)
    drawn = scenes(DEMO_COUNTS["test"], seed=0).images[[int(name[-4:]) for name in batch.ids]]
    # Pillow rounds to whole grey levels after rows and after columns
    torch.testing.assert_close(batch.images, small_transformers.small(drawn), atol=1.01 / 255, rtol=0)


def test_a_window_lies_around_the_centre_as_far_as_the_grid_allows() -> None:
    corner, middle, end = small_transformers._window(torch.tensor([[0.2, 0.4], [4.1, 2.9], [7.9, 4.0]]), 4)
    assert corner.view(4, 4)[:, 0].tolist() == [0, 8, 16, 24]
    # columns 2 to 5 around 4.1, rows 1 to 4 around 2.9
    assert middle.view(4, 4)[0].tolist() == [10, 11, 12, 13]
    assert end.view(4, 4)[0].tolist() == [20, 21, 22, 23]


@pytest.mark.parametrize("name", ["vit_scenes", "swin_scenes"])
def test_a_network_is_shown_the_window_and_nothing_else(name: str) -> None:
    torch.manual_seed(0)
    network = getattr(small_transformers, name)()
    window = small_transformers._window(torch.tensor([[4.0, 4.0]]), 4)
    images = torch.rand(1, 3, 32, 32)
    outside = images.clone()
    outside[:, :, :8], outside[:, :, :, 24:] = 0, 1
    inside = images.clone()
    inside[:, :, 8, 8] = 1 - inside[:, :, 8, 8]
    with torch.no_grad():
        first, other, moved = (small_transformers._logits(network, each, window) for each in (images, outside, inside))
        assert torch.equal(first, other)
        assert not torch.equal(first, moved)
        # afterwards it sees all again
        assert not torch.equal(
            small_transformers._logits(network, images), small_transformers._logits(network, outside)
        )


def test_all_patches_kept_are_the_image_itself() -> None:
    network, images = small_transformers.vit(), torch.rand(2, 3, 32, 32)
    every = torch.arange(64).expand(2, -1)
    with torch.no_grad():
        whole, kept = small_transformers._logits(network, images), small_transformers._logits(network, images, every)
    torch.testing.assert_close(kept, whole)


def test_distances_from_the_ground_do_not_know_light_from_dark() -> None:
    images = scenes(4, seed=3).images
    plain = small_transformers._plain(images)
    torch.testing.assert_close(small_transformers._plain(1 - images), plain)
    assert plain.amin() >= 0
    torch.testing.assert_close(plain.amax((1, 2, 3)), torch.ones(4))
    # half of the pixels are ground
    assert plain.median() < 0.3


@pytest.mark.slow
def test_a_stopped_training_on_scenes_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    def train(file: Path, stop: str = "never") -> list[str]:
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            if stop in line:
                raise KeyboardInterrupt

        small_transformers.train_on_scenes(small_transformers.vit_scenes, file, steps=8, batch_size=16, say=say)
        return said

    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    said = train(whole)
    assert len(said) == 8
    with pytest.raises(KeyboardInterrupt):
        train(stopped, stop="step 5")
    assert 1 <= len(train(stopped)) < 8
    for key, value in load_file(whole).items():
        assert torch.equal(value, load_file(stopped)[key]), key
    # what is made already is left
    assert train(whole) == []
