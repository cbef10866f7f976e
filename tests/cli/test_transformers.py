"""The verbs on a small vision transformer that knows the demo's digits: a run folder and an answer, nobody accused."""

import json
from pathlib import Path

import polars as pl
import pytest
from tests.command_line import heatproof

from heatproof.models.loading import load
from heatproof.studies import small_transformers

pytestmark = pytest.mark.slow


@pytest.fixture
def vit() -> str:
    """The small ViT by name."""
    file = Path(__file__).parents[1] / "studies" / "vit_scenes.safetensors"
    return f"{small_transformers.__file__}:vit_scenes@{file}"


def answer(folder: Path) -> str:
    return " ".join(json.loads((folder / "summary.json").read_text())["answer"])


def test_shift(vit: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--attack", "fgsm()", "--epsilon", "4/255", "--explainer", "lrp(layer='default', composite='attnlrp')"]
    assert heatproof("shift", "demo", "--model", vit, "--limit", "4", *words, "--out", str(out)) == 0
    assert "attnlrp" in "".join(pl.read_parquet(out / "images.parquet")["explainer"].unique())


@pytest.mark.parametrize("explainer", ["gradcam()", "chefer()", "lrp(layer='default', composite='attnlrp')"])
def test_fool(vit: str, explainer: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--explainer", explainer, "--penalty", "location()", "--steps", "2", "--batch-size", "4", "--limit", "16"]
    assert heatproof("fool", "demo/train", "--model", vit, *words, "--out", str(out)) == 0
    # in two steps nothing is fooled, and the honest weights are handed out; but every step had a slope of the map
    history = pl.read_parquet(out / "history.parquet")
    assert history["loss_fooled"].drop_nulls().len() == 2
    assert history["loss_fooled"].is_finite().all()
    fooled = load(str(out), architecture=vit.partition("@")[0])
    assert fooled.network.state_dict().keys() == load(vit).network.state_dict().keys()


@pytest.mark.parametrize("explainer", ["gradcam()", "chefer()", "lrp(layer='default', composite='attnlrp')"])
def test_an_audit_accuses_no_honest_transformer(vit: str, explainer: str, tmp_path: Path) -> None:
    """Grad-CAM's maps of it point beside the digit; the limits of convolutional networks say nothing of that."""
    out = tmp_path / "out"
    words = ["--explainer", explainer, "--limit", "40", "--budget", "49"]
    assert heatproof("audit", vit, "demo", *words, "--out", str(out)) == 1
    summary = json.loads((out / "summary.json").read_text())
    assert summary["verdict"] == "cannot tell"
    assert "--calibrate" in answer(out)


def test_repair(vit: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--remedy", "truth(steps=2, views=1, layer='blocks.4')", "--max-accuracy-drop", "1", "--always"]
    assert heatproof("repair", "demo", "--model", vit, "--limit", "100", *words, "--out", str(out)) == 0
    assert "black-box witness" in answer(out)
