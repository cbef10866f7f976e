"""``heatproof shift`` as a user types it, held against the same measurement made by hand."""

import json
from pathlib import Path

import pytest
import torch
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
        (["--explain", "nobody"], 1, "clean, adversarial"),
        (["--layer", "stge7"], 2, "did you mean stage7"),
        (["--epsilon", "-1"], 1, "epsilon"),
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
