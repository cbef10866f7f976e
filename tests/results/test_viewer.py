"""The viewer's files: small, the same each time, and honest about the true resolution."""

import json

import numpy as np
import pytest
from PIL import Image

from heatproof.errors import InputError
from heatproof.results import Run, View, add_view


@pytest.fixture
def run(tmp_path):
    with Run.start(tmp_path / "out", command="explain", settings={}) as started:
        yield started


def entries(run):
    return [json.loads(path.read_text()) for path in (run.folder / "viewer").glob("*.json")]


def test_view_of_a_photo_and_its_maps(run):
    photo = np.random.default_rng(0).integers(0, 255, size=(300, 600, 3), dtype=np.uint8)
    maps = [
        View("GradCAM layer4 · tiger cat", np.array([[1.23456, np.nan]]), signed=True, columns={"epsilon": 0.1}),
        View("SimpleGrad", np.ones((224, 100)), condition="adversarial"),
    ]
    add_view(run, "<img src=x onerror=alert(1)>.png", photo, maps, other_photo=photo)
    add_view(run, "<img src=x onerror=alert(1)>.png", photo, maps, other_photo=photo)
    [entry] = entries(run)
    assert entry["image"] == "<img src=x onerror=alert(1)>.png"
    first, second = entry["maps"]
    assert first["values"] == [[1.235, None]]
    assert (first["condition"], first["epsilon"], first["native"]) == ("clean", 0.1, [1, 2])
    assert (len(second["values"]), len(second["values"][0]), second["native"]) == (56, 50, [224, 100])
    with Image.open(run.folder / "viewer" / entry["photo_adversarial"]) as picture:
        assert picture.size == (224, 112)
    assert len(list((run.folder / "viewer").iterdir())) == 3


def test_blocks_keep_the_mean(run):
    values = np.random.default_rng(0).normal(size=(112, 112)) + 5
    add_view(run, "a", np.zeros((8, 8, 3), np.uint8), [View("m", values)])
    [entry] = entries(run)
    assert np.mean(entry["maps"][0]["values"]) == pytest.approx(values.mean(), rel=1e-3)
    assert entry["photo_adversarial"] is None


def test_wrong_shapes_are_named(run):
    with pytest.raises(InputError, match="of uint8"):
        add_view(run, "a", np.zeros((8, 8, 3)), [])
    with pytest.raises(InputError, match="heatmap"):
        add_view(run, "a", np.zeros((8, 8, 3), np.uint8), [View("m", np.zeros(3))])
