"""``heatproof defend``: a run folder that loads as it was trained, the same after a kill, and what cannot be."""

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
import typer.main
from PIL import Image
from tests.command_line import heatproof

import heatproof as hp
from heatproof.cli import verbs
from heatproof.models.loading import load
from heatproof.results.reading import read_run
from heatproof.robust.attack import MapAttack
from heatproof.robust.train import RECIPE

QUICK = ["--judged", "2", "--attack-steps", "2", "--set", "evaluate_every=2"]
WORDS = ["defend", "demo", "--model", "demo", "--limit", "60", "--steps", "2", "--max-accuracy-drop", "1", *QUICK]


def test_a_run_folder_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "defended"
    words = [
        *WORDS,
        "--method",
        "alignment(beta=20)",
        "--control",
        "--epsilon",
        "2/255",
        "--epsilon",
        "4/255",
        "--seed",
        "3",
    ]
    assert heatproof(*words, "--out", str(out)) == 0
    assert read_run(out).status == "complete"
    assert "seed=3" in read_run(out).record["settings"]["asked"].split("attack=")[0]
    summary = json.loads((out / "summary.json").read_text())
    assert [(row["network"], round(255 * row["epsilon"])) for row in summary["rows"]] == [
        (name, epsilon) for epsilon in (2, 4) for name in ("given", "plain", "defended")
    ]
    defended = summary["rows"][-1]
    assert defended["method"] == "Alignment(beta=20)"
    assert defended["steps"] == defended["best"] == 2
    assert (defended["overlap_low"], defended["overlap_high"]) == (None, None), "of two photos"
    assert 0 <= defended["overlap"] <= 1
    assert 0 <= defended["accuracy_low"] <= defended["accuracy"] <= defended["accuracy_high"] <= 1
    assert any("those after step 2 of 2" in sentence for sentence in summary["answer"])
    assert any("Softplus of beta 20 took the place of ReLU" in sentence for sentence in summary["answer"])
    images = pl.read_parquet(out / "images.parquet")
    assert images.height == 6 * 2
    assert {"network", "epsilon", "topk_intersection", "spearman", "nissim", "kept", "correct"} <= set(images.columns)
    assert pl.read_parquet(out / "history.parquet")["loss_misaligned"].drop_nulls().len() == 2
    for name in ("report.html", "figures/defended.png", "figures/course.png", "figures/overlap.png"):
        assert (out / name).stat().st_size > 1000
    assert not (out / "scratch").exists()
    # it loads with its softplus, and is attacked, compared and defended like any other
    model, seen = load(str(out)), hp.scenes(4, seed=3).images
    assert model.softplus == 20
    base = load("demo")
    base.network.load_state_dict(model.network.state_dict())
    assert not torch.equal(base(seen), model(seen))
    base.softplus = 20.0
    assert torch.equal(base(seen), model(seen))
    assert heatproof(*words, "--out", str(out)) == 0
    assert "complete already" in capsys.readouterr().err
    compared = ["compare", "demo", str(out), "demo", "--limit", "4", "--explainer", "simple_grad()"]
    assert heatproof(*compared, "--penalty", "top_k()", "--out", str(tmp_path / "compared")) == 0
    again = ["defend", "demo", "--model", str(out), *WORDS[4:], "--method", "plain()", "--explainer", "gradcam()"]
    assert heatproof(*again, "--out", str(tmp_path / "again")) == 0
    assert load(str(tmp_path / "again")).softplus == 20


def test_a_blurred_network_loads_with_its_blur(tmp_path: Path) -> None:
    out = tmp_path / "out"
    method = "adversarial(attack=pgd(epsilon=2/255, steps=1), blur=1)"
    assert heatproof(*WORDS, "--method", method, "--explainer", "gradcam()", "--out", str(out)) == 0
    altered = json.loads((out / "altered.json").read_text())
    assert altered == {"softplus": None, "blur": 1, "layer": "stage3"}
    model, plain = load(str(out)), load("demo")
    plain.network.load_state_dict(model.network.state_dict())
    seen = hp.scenes(4, seed=3).images
    assert not torch.equal(plain(seen), model(seen))
    assert "blurred by 1 cells" in " ".join(json.loads((out / "summary.json").read_text())["answer"])


# one step of an attack through an untrained softplus may find no slope
@pytest.mark.filterwarnings("ignore:the objective's gradient is zero")
def test_outside_the_budget_the_network_is_as_it_was(tmp_path: Path) -> None:
    words = ["defend", "demo", "--model", "demo", "--limit", "60", "--steps", "1", "--lr", "10"]
    words += ["--max-accuracy-drop", "0", "--judged", "2", "--attack-steps", "1", "--explainer", "gradcam()"]
    assert heatproof(*words, "--method", "softplus(0.1)", "--out", str(tmp_path / "out")) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["answer"][0].startswith("No checkpoint of Softplus(beta=0.1) was inside the budget of 0.0%")
    assert not summary["rows"][-1]["changed"]
    made, given = (load(name) for name in (str(tmp_path / "out"), "demo"))
    assert made.softplus is None
    assert all(torch.equal(v, made.network.state_dict()[n]) for n, v in given.network.state_dict().items())


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["--limit", "20"], 2, "at least 50 photos"),
        (["--method", "alignmnt()"], 2, "there is no method 'alignmnt'; did you mean alignment"),
        (["--method", "hessian(beta=None)"], 2, "bends at ReLUs alone"),
        (["--method", "hessian(weight=0)"], 2, "pays for nothing is plain()"),
        (["--method", "hessian(share=0)"], 2, "share must lie in (0, 1], of a batch's photos, got 0"),
        (["--method", "adversarial(blur=1, layer='stage9')"], 2, "there is no layer 'stage9'"),
        (["--method", "adversarial(attack='pgd()')"], 2, "without quotes"),
        (["--method", "pgd()"], 2, "trains nothing; adversarial(attack=...)"),
        (["--explainer", "gradcm()"], 2, "did you mean gradcam"),
        (["--explainer", "certified_pixels(gradcam())"], 1, "derivative"),
        (["--epsilon", "4"], 2, "epsilon"),
        (["--max-accuracy-drop", "2"], 2, "from 0 to 1, got 2"),
        (["--set", "stps=3"], 2, "did you mean steps"),
        (["--set", "trainable=stage77"], 2, "there is no layer 'stage77'"),
    ],
)
def test_a_sentence_for_what_cannot_be(
    words: list[str], status: int, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert heatproof(*WORDS, "--out", str(tmp_path / "out"), *words) == status
    said = " ".join(capsys.readouterr().err.split())
    assert sentence in said
    assert "Traceback" not in said


def test_photos_without_labels_are_told_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for place, image in enumerate(hp.scenes(50, seed=0).images):
        path = tmp_path / "photos" / f"{place}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype("uint8")).save(path)
    words = ["defend", str(tmp_path / "photos"), *WORDS[2:4], *WORDS[6:], "--explainer", "gradcam()"]
    assert heatproof(*words, "--out", str(tmp_path / "out")) == 2
    assert "keep" in " ".join(capsys.readouterr().err.split())
    assert heatproof(*words, "--keep", "outputs", "--out", str(tmp_path / "kept")) == 0


def test_the_flags_defaults_are_the_recipes() -> None:
    command = typer.main.get_command(verbs.app).commands["defend"]  # type: ignore[attr-defined]
    flags = {parameter.name: parameter.default for parameter in command.params}
    for name in ("steps", "lr", "keep", "max_accuracy_drop", "batch_size"):
        assert flags[name] == getattr(RECIPE, name), name


def test_from_python(tmp_path: Path) -> None:
    seen, judged = hp.scenes(60, seed=0), hp.scenes(8, seed=1)
    recipe = hp.FineTune(steps=2, batch_size=16, weight=1.0, max_accuracy_drop=1.0, patience=0)
    given = ("demo", (seen.images, seen.labels))
    more: Any = {"held_out": (judged.images, judged.labels), "attack": MapAttack(steps=1), "judged": 2}
    more |= {"method": "thickness()", "recipe": recipe, "out": tmp_path / "run"}
    result = hp.defend(*given, **more)
    assert result.verb == "defend"
    assert result.model is not None
    assert result.model(seen.images[:2]).shape == (2, 10)
    assert result.images.height == 4
    assert "highest cells stay the highest" in result.answer[0]
    before = (tmp_path / "run/model.safetensors").stat().st_mtime_ns
    again = hp.defend(*given, **more)
    assert (tmp_path / "run/model.safetensors").stat().st_mtime_ns == before  # complete already: read, not made anew
    assert again.answer == result.answer
    assert again.model is not None
    assert torch.equal(again.model(seen.images[:2]), result.model(seen.images[:2]))


@pytest.mark.slow
def test_killed_and_gone_on_with(tmp_path: Path) -> None:
    words = ["defend", "demo", "--model", "demo", "--limit", "120", "--steps", "40", "--max-accuracy-drop", "1"]
    words += ["--method", "alignment()", "--control", "--set", "evaluate_every=5"]
    words += ["--judged", "2", "--attack-steps", "2"]
    assert heatproof(*words, "--out", str(tmp_path / "whole")) == 0
    out = tmp_path / "out"
    command = [sys.executable, "-m", "heatproof", *words, "--out", str(out)]
    for name in ("training.pt", "control.pt"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while process.poll() is None and not (out / "scratch" / name).exists() and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert heatproof(*words, "--out", str(out)) == 0
    one, other = (load(str(tmp_path / name)).network.state_dict() for name in ("whole", "out"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    tables = [pl.read_parquet(tmp_path / name / "images.parquet") for name in ("whole", "out")]
    assert tables[0].equals(tables[1])
