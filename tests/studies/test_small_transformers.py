"""The small transformers: sizes, names on themselves, and a training on scenes that learns and goes on."""

import math
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
from heatproof.studies.scene_training import cells_loss, covered, train_on_scenes
from heatproof.studies.small_transformers import answers_of, logits_of


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


def test_only_the_patches_that_are_shown_are_seen() -> None:
    torch.manual_seed(0)
    network = small_transformers.vit()
    # the middle 4x4
    shown = (torch.arange(2, 6)[:, None] * 8 + torch.arange(2, 6)).view(1, -1)
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


@pytest.mark.parametrize(("name", "side"), [("vit_scenes", 8), ("swin_scenes", 4)])
def test_a_cell_answers_by_the_head_of_the_whole(name: str, side: int) -> None:
    torch.manual_seed(0)
    network, images = getattr(small_transformers, name)(), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        logits, cells = answers_of(network, images)
        assert cells.shape == (2, side**2, 10)
        torch.testing.assert_close(logits, logits_of(network, images), rtol=0, atol=0)
    if name == "swin_scenes":  # whose head reads the cells' mean
        torch.testing.assert_close(cells.mean(1), logits, rtol=0.02, atol=0.02)


def test_what_covers_a_patch_is_its_share_of_the_box() -> None:
    # patches are 8 pixels of a scene; columns 4 to 20, rows 8 to 16
    found = covered(torch.tensor([[[4, 8, 20, 16], [56, 60, 64, 64]]]), torch.tensor([[3, 7]]))
    assert found.shape == (1, 10, 8, 8)
    assert found[0, 3, 1, :4].tolist() == [0.5, 1.0, 0.5, 0.0]
    assert found[0, 3].sum() == 2
    assert found[0, 7, 7, 7] == found[0, 7].sum() == 0.5
    drawn = scenes(64, seed=3, digits=2)
    areas = (drawn.boxes[..., 2] - drawn.boxes[..., 0]) * (drawn.boxes[..., 3] - drawn.boxes[..., 1]) / 64
    mine = covered(drawn.boxes, drawn.labels).sum((2, 3)).gather(1, drawn.labels)
    torch.testing.assert_close(mine, areas)


def test_the_loss_of_cells_is_least_where_each_says_what_covers_it() -> None:
    covering = torch.zeros(1, 10, 8, 8)
    covering[0, 3, 2:4, 2:4] = 1
    right = torch.zeros(1, 64, 10)
    right[0, :, 3] = 30 * covering[0, 3].flatten()
    # nothing where a digit is, and the entropy of ten alike where none is
    assert float(cells_loss(right, covering)) == pytest.approx(math.log(10), abs=1e-5)
    assert float(cells_loss(torch.zeros(1, 64, 10), covering)) == pytest.approx(2 * math.log(10), abs=1e-5)
    # one coarser cell is these four
    coarse = torch.zeros(1, 16, 10)
    coarse[0, 5, 3] = 30
    assert float(cells_loss(coarse, covering)) == pytest.approx(math.log(10), abs=1e-5)


def test_attention_is_fused_again_after_a_step() -> None:
    network = small_transformers.vit()
    logits_of(network, torch.rand(1, 3, 32, 32))
    assert [module.fused_attn for module in network.modules() if hasattr(module, "fused_attn")] == [True] * 6


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
