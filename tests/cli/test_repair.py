"""``heatproof repair``: a run folder that loads, the same after a kill, and a sentence for what cannot be."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from PIL import Image
from tests.command_line import heatproof

import heatproof as hp
from heatproof.models.loading import load
from heatproof.results.reading import read_run

QUICK = "truth(layer='stage7', steps=4, views=1)"
WORDS = [
    "repair",
    "demo",
    "--model",
    "demo",
    "--limit",
    "60",
    "--remedy",
    QUICK,
    "--max-accuracy-drop",
    "1",
    "--always",
]


def test_a_run_folder_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "repaired"
    assert heatproof(*WORDS, "--out", str(out)) == 0
    run = read_run(out)
    assert run.status == "complete"
    summary = json.loads((out / "summary.json").read_text())
    [row] = summary["rows"]
    assert row["remedy"] == "Truth(layer='stage7', steps=4, views=1)"
    assert row["steps"] == 4
    assert row["layer"] == "stage7"
    assert row["likeness_after"] >= row["likeness_before"]
    assert any("black-box witness" in sentence for sentence in summary["answer"])
    images = pl.read_parquet(out / "images.parquet")
    assert images.height == 6
    assert {"likeness_before", "likeness_after", "kept", "agrees", "correct_before"} <= set(images.columns)
    assert pl.read_parquet(out / "history.parquet")["loss_pulled"].drop_nulls().len() == 4
    for name in ("report.html", "figures/repaired.png", "figures/course.png"):
        assert (out / name).stat().st_size > 1000
    assert not (out / "scratch").exists()
    repaired, given = load(str(out)), load("demo")
    moved = {
        name
        for name, value in repaired.network.state_dict().items()
        if not torch.equal(value, given.network.state_dict()[name])
    }
    assert moved
    assert all(name.startswith(("stage7", "head", "classifier", "fc")) for name in moved), moved
    # done is done, and a repaired network is compared and repaired like any other
    assert heatproof(*WORDS, "--out", str(out)) == 0
    assert "complete already" in capsys.readouterr().err
    compared = ["compare", "demo", str(out), "demo", "--limit", "8", "--explainer", "gradcam()"]
    assert heatproof(*compared, "--penalty", "location()", "--out", str(tmp_path / "compared")) == 0


def test_an_honest_network_is_handed_out_as_it_came(tmp_path: Path) -> None:
    words = [word for word in WORDS if word != "--always"]
    assert heatproof(*words, "--out", str(tmp_path / "out")) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    [row] = summary["rows"]
    assert not row["lie"]
    assert row["handed_out"] == "as it came"
    assert any(sentence.startswith("Nothing was found") for sentence in summary["answer"])
    made, given = (load(name).network.state_dict() for name in (str(tmp_path / "out"), "demo"))
    assert all(torch.equal(value, given[name]) for name, value in made.items())


def test_rebn_trains_nothing(tmp_path: Path) -> None:
    words = ["repair", "demo", "--model", "demo", "--limit", "60", "--remedy", "rebn()", "--max-accuracy-drop", "1"]
    assert heatproof(*words, "--out", str(tmp_path / "out")) == 0
    [row] = json.loads((tmp_path / "out" / "summary.json").read_text())["rows"]
    assert row["steps"] == 0
    assert not (tmp_path / "out" / "history.parquet").exists()
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["--limit", "20"], 2, "at least 50 photos"),
        (["--remedy", "thruth()"], 2, "there is no remedy 'thruth'; did you mean truth"),
        (["--remedy", "truth(layer='stage77')", "--limit", "60"], 2, "there is no layer 'stage77'"),
        (["--remedy", "truth(weight=-1)"], 2, "expected weight > 0"),
        (["--explainer", "gradcm()"], 2, "did you mean gradcam"),
        (["--max-accuracy-drop", "2", "--limit", "60", "--remedy", "finetune(steps=1)"], 2, "from 0 to 1, got 2"),
    ],
)
def test_a_sentence_for_what_cannot_be(
    words: list[str], status: int, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert heatproof("repair", "demo", "--model", "demo", "--out", str(tmp_path / "out"), *words) == status
    said = " ".join(capsys.readouterr().err.split())
    assert sentence in said
    assert "Traceback" not in said


def test_photos_of_which_the_model_knows_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "grey"
    folder.mkdir()
    for number in range(60):
        Image.new("RGB", (64, 64), (128, 128, 128)).save(folder / f"{number}.png")
    assert heatproof("repair", str(folder), "--model", "demo", "--out", str(tmp_path / "out")) == 1
    assert "photos the same class, so they are not of the kind that it knows" in " ".join(
        capsys.readouterr().err.split()
    )


def test_from_python(tmp_path: Path) -> None:
    seen, judged = hp.scenes(60, seed=0), hp.scenes(8, seed=1)
    more: Any = {"remedy": QUICK, "max_accuracy_drop": 1.0, "always": True, "out": tmp_path / "run"}
    result = hp.repair("demo", (seen.images, seen.labels), held_out=(judged.images, judged.labels), **more)
    assert result.verb == "repair"
    assert result.model is not None
    assert result.model(seen.images[:2]).shape == (2, 10)
    assert result.images.height == 8
    assert "Nothing was found" in result.answer[0]
    assert "likeness" in result.answer[1]
    before = (tmp_path / "run/model.safetensors").stat().st_mtime_ns
    again = hp.repair("demo", (seen.images, seen.labels), held_out=(judged.images, judged.labels), **more)
    assert (tmp_path / "run/model.safetensors").stat().st_mtime_ns == before  # complete already: read, not made anew
    assert again.answer == result.answer
    assert again.model is not None
    assert torch.equal(again.model(seen.images[:2]), result.model(seen.images[:2]))


@pytest.mark.slow
def test_a_killed_repair_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """SIGKILL at several moments; the weights are those of a run that nobody killed, to the last bit."""
    remedy = "truth(layer='stage7', steps=40, views=1)"
    words = ["repair", "demo", "--model", "demo", "--limit", "150", "--remedy", remedy, "--max-accuracy-drop", "1"]
    command = [sys.executable, "-m", "heatproof", *words, "--always", "--out"]
    subprocess.run([*command, str(tmp_path / "straight")], check=True, capture_output=True)
    killed = 0
    for wanted in ("witness.pt", "training.pt"):
        running = subprocess.Popen([*command, str(tmp_path / "killed")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while running.poll() is None and not (tmp_path / "killed" / "scratch" / wanted).exists():
            time.sleep(0.01)
        if running.poll() is None:
            os.kill(running.pid, signal.SIGKILL)
            killed += 1
        running.communicate()
    assert killed == 2
    subprocess.run([*command, str(tmp_path / "killed")], check=True, capture_output=True)
    one, other = (load(str(tmp_path / name)).network.state_dict() for name in ("straight", "killed"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    tables = [pl.read_parquet(tmp_path / name / "images.parquet").drop("model") for name in ("straight", "killed")]
    assert tables[0].equals(tables[1])
