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
from heatproof.studies.scene_curriculum import (
    Phase,
    _Course,
    distances,
    ground,
    painted,
    train_on_scenes,
    window,
    with_others,
)
from heatproof.studies.small_transformers import logits_of


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
    corner, middle, end = window(torch.tensor([[0.2, 0.4], [4.1, 2.9], [7.9, 4.0]]), 4)
    assert corner.view(4, 4)[:, 0].tolist() == [0, 8, 16, 24]
    # columns 2 to 5 around 4.1, rows 1 to 4 around 2.9
    assert middle.view(4, 4)[0].tolist() == [10, 11, 12, 13]
    assert end.view(4, 4)[0].tolist() == [20, 21, 22, 23]


@pytest.mark.parametrize("name", ["vit_scenes", "swin_scenes"])
def test_a_network_is_shown_the_window_and_nothing_else(name: str) -> None:
    torch.manual_seed(0)
    network = getattr(small_transformers, name)()
    shown = window(torch.tensor([[4.0, 4.0]]), 4)
    images = torch.rand(1, 3, 32, 32)
    outside = images.clone()
    outside[:, :, :8], outside[:, :, :, 24:] = 0, 1
    inside = images.clone()
    inside[:, :, 8, 8] = 1 - inside[:, :, 8, 8]
    with torch.no_grad():
        first, other, moved = (logits_of(network, each, shown) for each in (images, outside, inside))
        assert torch.equal(first, other)
        assert not torch.equal(first, moved)
        # afterwards it sees all again
        assert not torch.equal(logits_of(network, images), logits_of(network, outside))


def test_all_patches_kept_are_the_image_itself() -> None:
    network, images = small_transformers.vit(), torch.rand(2, 3, 32, 32)
    every = torch.arange(64).expand(2, -1)
    with torch.no_grad():
        whole, kept = logits_of(network, images), logits_of(network, images, every)
    torch.testing.assert_close(kept, whole)


def test_others_are_shown_beside_the_window_and_none_twice() -> None:
    shown = window(torch.tensor([[4.0, 4.0], [0.0, 7.0]]), 6)
    more = with_others(shown, 10, torch.Generator().manual_seed(0))
    assert more.shape == (2, 46)
    for row, of_window in zip(more.tolist(), shown.tolist(), strict=True):
        assert len(set(row)) == 46
        assert set(of_window) < set(row)
    assert set(more[0].tolist()) - set(shown[0].tolist()) != set(more[1].tolist()) - set(shown[1].tolist())
    assert with_others(shown, 28, torch.Generator()).sort(1).values.tolist() == [list(range(64))] * 2


def test_patches_that_are_not_shown_are_painted_with_the_ground() -> None:
    images = scenes(2, seed=3).images[:, :, ::2, ::2]
    shown = window(torch.tensor([[4.0, 4.0], [0.0, 7.0]]), 4)
    new = painted(images, shown)
    assert torch.equal(new[0, :, 8:24, 8:24], images[0, :, 8:24, 8:24])
    assert torch.equal(new[1, :, 16:, :16], images[1, :, 16:, :16])
    assert new[0, :, :8].flatten(1).unique(dim=1).shape == (3, 1)
    assert torch.equal(new[1, :, :16], ground(images)[1].expand(3, 16, 32))


def test_phases_follow_each_other_with_a_learning_rate_of_their_own_or_the_one_before() -> None:
    course = _Course.of([Phase(100, 4, lr=0.1), Phase(300, 5, two=(0.0, 1.0)), Phase(600, 8, lr=0.02)], None)
    assert [course.at(step)[0].side for step in (0, 99, 100, 399, 400, 999)] == [4, 4, 5, 5, 8, 8]
    assert course.at(250)[1] == 0.5
    rates = [course.rate(step) for step in range(1001)]
    # each cycle has its peak at a tenth of its own length, and ends at next to nothing
    assert rates[40] == max(rates) == pytest.approx(0.1)
    assert rates[460] == max(rates[400:]) == pytest.approx(0.02)
    assert max(rates[399], rates[999]) < 1e-4
    # at another length all phases keep their shares
    assert _Course.of(course.phases, 100).ends == [10, 40, 100]


def test_attention_is_fused_again_after_a_step() -> None:
    network = small_transformers.vit()
    logits_of(network, torch.rand(1, 3, 32, 32))
    assert [module.fused_attn for module in network.modules() if hasattr(module, "fused_attn")] == [True] * 6


def test_distances_from_the_ground_do_not_know_light_from_dark() -> None:
    images = scenes(4, seed=3).images
    plain = distances(images)
    torch.testing.assert_close(distances(1 - images), plain)
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

        train_on_scenes(small_transformers.vit_scenes, file, steps=8, batch_size=16, say=say)
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
