"""The student study: a photo is talked into another class, on several networks."""

import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

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
    assert 0 <= row["nissim_predicted"] <= 1
    assert "becomes 7" in summary["answer"][0]
    assert pl.read_parquet(tmp_path / "out" / "images.parquet").height == 1
    assert (tmp_path / "out" / "figures" / "demo.png").exists()
    assert set(AdversarialPhoto.columns) <= set(row)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "complete"


def test_a_class_that_is_not_reached_is_told(tmp_path, photo):
    study = AdversarialPhoto(models=("demo",), photo=photo, source=0, wanted=7, epsilon=0.0001, steps=1)
    with Run.start(tmp_path / "out", command="study", settings={}) as run:
        summary = study(run, say=lambda text: None)
    assert summary["rows"][0]["success"] or "was not reached" in summary["answer"][0]


def test_unknown_classes_are_named(tmp_path, photo):
    study = AdversarialPhoto(models=("demo",), photo=photo, wanted="ocarina")
    with (
        pytest.raises(InputError, match="no class 'Granny Smith'"),
        Run.start(tmp_path / "out", command="study", settings={}) as run,
    ):
        study(run, say=lambda text: None)
