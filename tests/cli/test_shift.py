"""``heatproof shift`` as a user types it, held against the same measurement made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.command_line import heatproof

from heatproof.data.photos import fit
from heatproof.data.sources import open_data
from heatproof.explainers.cam import GradCAM
from heatproof.metrics.similarity import nissim
from heatproof.models.loading import load
from heatproof.results.reading import read_run


def test_shift_measures_what_the_library_measures(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    words = ["--epsilon", "8/255", "--explainer", "gradcam(layer='stage5')", "--limit", "6", "--batch-size", "4"]
    assert heatproof("shift", "demo", "--model", "demo", *words, "--json", "--out", str(out)) == 0
    told = capsys.readouterr()
    summary = json.loads(told.out)
    assert summary == json.loads((out / "summary.json").read_text())
    assert f"open {out / 'report.html'}" in "".join(told.err.splitlines())
    assert read_run(out).status == "complete"

    model = load("demo")
    photos = list(open_data("demo", classes=model.classes, limit=6))
    images = torch.stack([fit(photo.image, 64) for photo in photos])
    labels = torch.tensor([photo.label for photo in photos])
    # FGSM in two lines: one step of epsilon along the sign of the loss's slope
    pixels = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(pixels), labels), pixels)
    adversarial = (images + 8 / 255 * slope.sign()).clamp(0, 1)
    targets = model(images).argmax(1)
    before, after = (GradCAM("stage5")(model, photos, targets).heatmaps for photos in (images, adversarial))
    (row,) = [row for row in summary["rows"] if row["attack"] == "FGSM()"]
    assert row["explainer"] == "GradCAM(layer='stage5')"
    assert row["mod"] == pytest.approx(float(nissim(before, after, size=64).mean()), abs=1e-4)
    assert row["top1"] == (model(adversarial).argmax(1) == labels).double().mean()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--explain", "nobody"], 2, "clean, adversarial"),
        (["--layer", "stge7"], 2, "did you mean stage7"),
        (["--epsilon", "-1"], 2, "epsilon"),
    ],
)
def test_wrong_settings_get_a_sentence(
    words: list[str], status: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = str(tmp_path / "out")
    assert heatproof("shift", "demo", "--model", "demo", "--limit", "2", *words, "--out", out) == status
    told = " ".join(capsys.readouterr().err.split())
    assert message in told
    assert "Traceback" not in told


EMBEDDING = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()).eval()
    network.input_size = 16
    return network
"""


def test_shift_compares_pairs_by_their_likeness(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    draw = np.random.default_rng(0)
    for number in range(4):
        photo = Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        photo.save(tmp_path / f"{number}.png")
    (tmp_path / "net.py").write_text(EMBEDDING)
    (tmp_path / "pairs.csv").write_text("path,reference,same\n0.png,0.png,1\n1.png,2.png,0\n3.png,2.png,no\n")
    words = ["shift", str(tmp_path / "pairs.csv"), "--model", f"{tmp_path / 'net.py'}:build", "--epsilon", "0.05"]
    assert heatproof(*words, "--score", "likeness(threshold=0.999)", "--json", "--out", str(tmp_path / "out")) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["verification"] == [{"model": "build", "threshold": 0.999}]
    clean, attacked = summary["rows"]
    assert clean["top1"] == 1  # a photo is as alike to itself as can be, and no other one is
    assert attacked["explainer"] == "GradCAM(score=Output())"
    assert {row["label"] for row in summary["kinds"]} == {0, 1}
    assert read_run(tmp_path / "out").record["settings"]["verification"] == "Verification(threshold=0.999)"

    assert heatproof(*words, "--score", "likeness(treshold=0.5)", "--out", str(tmp_path / "odd")) == 2
    assert "did you mean threshold" in " ".join(capsys.readouterr().err.split())
    assert heatproof("explain", str(tmp_path / "0.png"), "--model", "demo", "--score", "likeness") == 2
    assert "that of pairs of photos is measured by heatproof shift PAIRS.csv" in " ".join(
        capsys.readouterr().err.split()
    )
