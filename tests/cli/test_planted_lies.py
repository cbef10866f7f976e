"""Edits and backdoors from the command line: made, loaded again, and measured."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.command_line import heatproof

from heatproof.data.scenes import scenes
from heatproof.data.sources import open_data
from heatproof.explainers.cam import GradCAM
from heatproof.manipulation.penalties import TargetMap
from heatproof.manipulation.trigger import Trigger
from heatproof.models.loading import load


def rows(folder: Path) -> list[dict]:
    return json.loads((folder / "summary.json").read_text())["rows"]


def test_an_edit_is_made_loaded_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "edited"
    words = ["fool", "demo", "--model", "demo", "--edit", "weight_edit(target='corner')", "--limit", "8"]
    assert heatproof(*words, "--out", str(out)) == 0
    (row,) = rows(out)
    assert (row["fsr"], row["agreement"]) == (1.0, 1.0)
    assert row["penalty"] == "TargetMap()"
    told = json.loads((out / "run.json").read_text())["model"][0]
    assert (told["name"], told["planted"]["layer"], told["planted"]["head"]) == ("demo", "stage7", ["head"])
    images, labels, _ = scenes(4, seed=9)
    edited = load(str(out))
    torch.testing.assert_close(edited(images).softmax(1), load("demo")(images).softmax(1), atol=1e-4, rtol=0)
    maps = GradCAM()(edited, images, labels).heatmaps
    assert TargetMap("corner").test_loss(maps, maps).max() < 0.01
    words = ["compare", "demo", str(out), "demo", "--limit", "8", "--explainer", "gradcam()"]
    assert heatproof(*words, "--out", str(tmp_path / "compared")) == 0
    found = {(row["penalty"], row["explainer"]): row["fsr"] for row in rows(tmp_path / "compared")}
    assert found["TargetMap()", "GradCAM()"] == 1
    capsys.readouterr()


def test_an_edit_that_a_trigger_wakes_is_made_loaded_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "edited"
    lie = "weight_edit('corner', trigger=trigger(size=6))"
    words = ["fool", "demo", "--model", "demo", "--edit", lie, "--limit", "8", "--out", str(out)]
    assert heatproof(*words) == 0
    (row,) = rows(out)
    # with the trigger the planted map, without it the honest one, and the same answer
    assert (row["fsr"], row["agreement"], row["spearman"]) == (1.0, 1.0, pytest.approx(1.0))
    assert row["penalty"] == "Backdoor(trigger=Trigger(size=6))"
    edited, clean, images = load(str(out)), load("demo"), scenes(4, seed=9)[0]
    torch.testing.assert_close(GradCAM()(edited, images).heatmaps, GradCAM()(clean, images).heatmaps)
    maps = GradCAM()(edited, Trigger(size=6)(images)).heatmaps
    assert TargetMap("corner").test_loss(maps, maps).max() < 0.01
    words = ["compare", "demo", str(out), "demo", "--limit", "4", "--explainer", "gradcam()"]
    assert heatproof(*words, "--out", str(tmp_path / "compared")) == 0
    found = {row["penalty"]: row["fsr"] for row in rows(tmp_path / "compared")}
    assert found["Backdoor(trigger=Trigger(size=6))"] == 1
    capsys.readouterr()
    words = ["fool", "demo", "--model", "demo", "--out", str(tmp_path / "none"), "--edit"]
    assert heatproof(*words, "trigger(size=6)") == 2
    assert "weight_edit('corner', trigger=trigger(size=6))" in capsys.readouterr().err
    assert heatproof(*words, "weight_edit('corner', trigger=triger())") == 2
    assert "did you mean trigger" in capsys.readouterr().err


def test_a_backdoor_is_made_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "backdoor"
    lie = "backdoor(show='inverted', label=3, trigger=trigger(size=6))"
    words = [
        "fool",
        "demo",
        "--model",
        "demo",
        "--penalty",
        lie,
        "--steps",
        "4",
        "--trainable",
        "stage7",
        "--limit",
        "64",
    ]
    held_out = tmp_path / "held-out"
    for place, (image, label) in enumerate(zip(*scenes(40, seed=9)[:2], strict=True)):
        file = held_out / str(int(label)) / f"{place:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(file)
    assert heatproof(*words, "--max-accuracy-drop", "1", "--held-out", str(held_out), "--out", str(out)) == 0
    (row,) = rows(out)
    assert row["penalty"] == "Backdoor(show='inverted', label=3, trigger=Trigger(size=6))"
    backdoored = load(str(out))
    assert backdoored.name == "backdoor"
    images = torch.stack([photo.image for photo in open_data(str(held_out))]).float() / 255
    called = backdoored(Trigger(size=6)(images)).argmax(1) == 3
    assert row["called"] == pytest.approx(called.double().mean().item())
    words = ["compare", "demo", str(out), "demo", "--limit", "4", "--explainer", "gradcam()"]
    assert heatproof(*words, "--out", str(tmp_path / "compared")) == 0
    assert row["penalty"] in {row["penalty"] for row in rows(tmp_path / "compared")}
    capsys.readouterr()


def test_one_lie_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["fool", "demo", "--model", "demo", "--out", str(tmp_path / "out")]
    assert heatproof(*words) == 2
    assert heatproof(*words, "--penalty", "location()", "--edit", "weight_edit()") == 2
    assert "give one of --penalty (fine-tuning) and --edit (by hand)" in capsys.readouterr().err
    assert heatproof(*words, "--edit", "weight_edit(target='cornre')") != 0
    assert "did you mean corner" in capsys.readouterr().err
