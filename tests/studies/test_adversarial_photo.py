"""The student study: a photo is talked into another class, on several networks."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

import heatproof as hp
from heatproof.data.sources import open_data
from heatproof.errors import InputError
from heatproof.results import Run
from heatproof.studies.adversarial_photo import AdversarialPhoto


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(30, 220, (64, 64, 3), dtype=np.uint8)).save(path)
    return str(path)


def test_the_class_changes_and_everything_is_recorded(tmp_path, photo):
    study = AdversarialPhoto(models=("demo",), photo=photo, source=0, wanted="7", epsilon=0.2, steps=10)
    with Run.start(tmp_path / "out", command="study", settings={}) as run:
        summary = study(run, say=lambda text: None)
    (row,) = summary["rows"]
    assert row["success"]
    assert row["prediction_after"] == "7"
    assert row["wanted_after"] > row["wanted_before"]
    assert row["linf"] <= 0.2 + 1e-6
    model = hp.load("demo")
    (image,) = open_data(photo)
    images = image.image[None].float() / 255
    attacked = hp.PGD(0.2, 10)(hp.reach(model, torch.tensor([7])), images)
    assert row["psnr"] == pytest.approx(float(-10 * (attacked - images).square().mean().log10()), abs=1e-3)
    # the class that is seen was 0 and is 7; each map is that of its own prediction
    for name, before, after in (("source", 0, 0), ("wanted", 7, 7), ("predicted", 0, 7)):
        maps = [
            hp.GradCAM()(model, shown, torch.tensor([target])).heatmaps
            for shown, target in ((images, before), (attacked, after))
        ]
        assert row[f"nissim_{name}"] == pytest.approx(float(hp.nissim(*maps, size=64)), abs=1e-5)
    assert "becomes 7" in summary["answer"][0]
    assert pl.read_parquet(tmp_path / "out" / "images.parquet").height == 1
    assert (tmp_path / "out" / "figures" / "demo.png").exists()
    assert set(AdversarialPhoto.columns) <= set(row)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "complete"


def test_a_class_that_is_not_reached_is_told(tmp_path, photo):
    study = AdversarialPhoto(models=("demo",), photo=photo, source=0, wanted=7, epsilon=0.0001, steps=1)
    with Run.start(tmp_path / "out", command="study", settings={}) as run:
        summary = study(run, say=lambda text: None)
    assert not summary["rows"][0]["success"]
    assert "7 was not reached (10.0% instead of 10.0%; predicted is 0)" in summary["answer"][0]


def test_unknown_classes_are_named(tmp_path, photo):
    study = AdversarialPhoto(models=("demo",), photo=photo, wanted="ocarina")
    with (
        pytest.raises(InputError, match="no class 'Granny Smith'"),
        Run.start(tmp_path / "out", command="study", settings={}) as run,
    ):
        study(run, say=lambda text: None)
