"""The command line as a user meets it: files in the run folder, sentences on the screen, exit status."""

import contextlib
import io
import json
import os
import re
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from rich.console import Console
from tests.command_line import heatproof

from heatproof.cli import console, listing
from heatproof.cli.explain import _class
from heatproof.cli.finish import filling
from heatproof.errors import SpecError
from heatproof.processes import Processes
from heatproof.results.reading import read_run
from heatproof.results.run import Run
from networks import small


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two good photos and four bad ones."""
    folder = tmp_path / "photos"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for name, size in (("one.png", (64, 64)), ("two.jpg", (90, 70))):
        Image.fromarray(draw.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(folder / name)
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no image")
    (folder / "cut.jpg").write_bytes((folder / "two.jpg").read_bytes()[:700])
    return folder


def test_explain_makes_a_run_folder(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    words = ["explain", str(photos), "--model", "demo", "--out", str(out), "--layer", "stage5", "--layer", "stage7"]
    assert heatproof(*words, "--heatmaps") == 0
    told = read_run(out)
    assert told.status == "complete"
    assert told.problems == []
    assert told.record["model"][0]["name"] == "demo"
    assert len(told.record["model"][0]["sha256"]) == 64
    images = pl.read_parquet(out / "images.parquet")
    # 2 photos x 2 predicted classes x 3 forms of Grad-CAM x 2 layers
    assert len(images) == 24
    assert {"image", "label", "target", "prediction", "confidence", "model", "explainer", "attack", "epsilon"} <= set(
        images.columns
    )
    assert sorted(p.name for p in (out / "figures").iterdir()) == ["one.png", "two.png"]
    assert len(list((out / "heatmaps").glob("*.safetensors"))) == 6
    assert (out / "report.html").stat().st_size > 10_000
    skipped = {entry["image"]: entry["reason"] for entry in json.loads((out / "summary.json").read_text())["skipped"]}
    assert {name.rsplit("/", 1)[-1] for name in skipped} == {"empty.png", "text.jpg", "cut.jpg"}
    assert "3 skipped, listed in summary.json" in capsys.readouterr().err


def test_the_same_command_again_does_nothing_and_another_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["explain", str(photos / "one.png"), "--model", "demo", "--out", str(tmp_path / "out")]
    assert heatproof(*words) == 0
    before = (tmp_path / "out" / "images.parquet").stat().st_mtime_ns
    assert heatproof(*words) == 0
    assert "complete already" in capsys.readouterr().err
    assert (tmp_path / "out" / "images.parquet").stat().st_mtime_ns == before
    assert heatproof(*words, "--top", "1") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert heatproof(*words, "--top", "1", "--overwrite") == 0


def test_an_interrupted_run_goes_on(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heatproof.commands import explain

    drawn, once = [], explain.draw_grid

    def draw(path: Path, *words: object, **named: object) -> object:
        if drawn == ["one.png"]:
            drawn.append("stop")
            raise KeyboardInterrupt
        drawn.append(path.name)
        return once(path, *words, **named)  # type: ignore[arg-type]

    words = ["explain", str(photos), "--model", "demo", "--batch-size", "1", "--out"]
    monkeypatch.setattr(explain, "draw_grid", draw)
    assert heatproof(*words, str(tmp_path / "out")) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert read_run(tmp_path / "out").status == "interrupted"
    assert heatproof(*words, str(tmp_path / "out")) == 0
    assert drawn == ["one.png", "stop", "two.png"]  # what was whole is not made again
    assert heatproof(*words, str(tmp_path / "straight")) == 0
    resumed, straight = (pl.read_parquet(tmp_path / name / "images.parquet") for name in ("out", "straight"))
    assert resumed.equals(straight)


def test_json_is_the_summary(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["explain", str(photos / "one.png"), "--model", "demo", "--out", str(tmp_path / "out"), "--json"]
    assert heatproof(*words, "--explainer", "gradcam(relu=False)", "--explainer", "smooth_grad(samples=2)") == 0
    summary = json.loads(capsys.readouterr().out)
    assert [row["explainer"] for row in summary["rows"]] == ["GradCAM(relu=False)", "SmoothGrad(samples=2)"]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["explain", "nowhere.png", "--model", "demo"], 2, "there is no nowhere.png"),
        (["explain", "PHOTOS", "--model", "dmo"], 2, "there is no model 'dmo'; did you mean demo?"),
        (["explain", "PHOTOS", "--model", "demo", "--layer", "stge7"], 2, "did you mean stage7"),
        (["explain", "PHOTOS", "--model", "demo", "--explainer", "gradcm"], 2, "did you mean gradcam"),
        (["explain", "PHOTOS", "--model", "demo", "--target", "12"], 2, "there is no class 12"),
        (["explain", "PHOTOS", "--model", "demo", "--device", "cuda:7"], 2, "device 'cuda:7' cannot be used"),
        (["explain", "PHOTOS", "--model", "demo", "--precision", "fp3"], 2, "precision is fp32 or bf16, got 'fp3'"),
        (["explain", "PHOTOS/text.jpg", "--model", "demo"], 1, "none of the 1 photo "),
        (["explain", "PHOTOS", "--model", "demo", "--nonsense"], 2, "No such option"),
        (["study", "nothing"], 2, "there is no study 'nothing'"),
        (["study", "gradcam-layers", "--set", "modls=demo"], 2, "did you mean models"),
        (["study", "defended-explainers", "--preset", "dmo"], 2, "has no preset 'dmo'; did you mean demo"),
        (["explain", "PHOTOS", "--model", "demo", "--resize", "9x9x9"], 2, "or ROWSxCOLS such as 96x320, got '9x9x9'"),
    ],
)
def test_wrong_input_gets_a_sentence(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture, words: list[str], status: int, message: str
) -> None:
    words = [word.replace("PHOTOS", str(photos)) for word in words]
    assert heatproof(*words, "--out", str(tmp_path / "out")) == status
    told = capsys.readouterr().err
    assert message in " ".join(told.split())
    assert "Traceback" not in told


def test_an_empty_folder_and_a_foreign_folder(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    assert heatproof("explain", str(tmp_path / "empty"), "--model", "demo", "--out", str(tmp_path / "out")) == 2
    assert "no photo" in capsys.readouterr().err
    # the photos' own folder holds files that are no run: nothing there is touched
    assert heatproof("explain", str(photos), "--model", "demo", "--out", str(photos), "--overwrite") == 2
    assert len(list(photos.iterdir())) == 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert heatproof("explain", str(photos), "--model", "demo", "--out", str(locked / "out")) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_list(capsys: pytest.CaptureFixture) -> None:
    assert heatproof("list") == 0
    told = capsys.readouterr().out
    assert "gradcam " in told
    # as it is read, without the marks of docstrings
    assert not re.findall(r"`|\\\W", told)
    assert "pointing_game on the photos that have a box" in told
    assert heatproof("list", "layers", "demo") == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        "stage7       Sequential             96x8x8         39 px  <- default: last feature map before pooling" in lines
    )
    assert heatproof("list", "explainrs") == 2
    assert "did you mean explainers" in capsys.readouterr().err
    assert heatproof("list", "layers") == 2
    assert "list layers needs a model" in capsys.readouterr().err


def test_module_and_script_are_the_same_program() -> None:
    told = subprocess.run([sys.executable, "-m", "heatproof", "--help"], capture_output=True, text=True, check=True)
    assert "Can this network's heatmaps be trusted?" in told.stdout
    assert told.stderr == ""


def test_study_of_layers(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    words = ["--set", "models=demo", "--set", f"photo={photos / 'one.png'}", "--set", "classes=3", "--set", "classes=8"]
    assert heatproof("study", "gradcam-layers", *words, "--out", str(out)) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert "equals CAM / 64 up to" in summary["answer"][0]
    assert float(summary["answer"][0].split("up to ")[1].split()[0]) < 1e-5
    assert len(summary["rows"]) == 2 * 2 * 3
    before = (out / "summary.json").stat().st_mtime_ns
    assert heatproof("study", "gradcam-layers", *words, "--out", str(out)) == 0
    assert "complete already" in capsys.readouterr().err
    assert (out / "summary.json").stat().st_mtime_ns == before


@pytest.mark.weights
def test_explain_real_weights(shared: Path, tmp_path: Path) -> None:
    words = ["--model", f"squeezenet1_1@{shared}/weights/squeezenet1_1.pth", "--target", "bull mastiff"]
    assert heatproof("explain", str(shared / "data/photos/both.png"), *words, "--out", str(tmp_path / "out")) == 0
    images = pl.read_parquet(tmp_path / "out" / "images.parquet")
    row = images.filter(pl.col("explainer") == "GradCAM()").row(0, named=True)
    assert (row["prediction"], row["target"]) == (242, 243)
    assert row["probability"] == pytest.approx(0.133, abs=0.002)
    # the dog sits in the upper half
    assert row["center_row"] < 0.5


def test_a_command_works_outside_the_main_thread(capsys: pytest.CaptureFixture) -> None:
    """There no signal can be caught."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(heatproof, "list", "attacks").result() == 0
    assert "fgsm" in capsys.readouterr().out


def test_a_reader_that_has_gone_is_no_fault() -> None:
    """As ``head`` and ``less`` go."""
    command = [sys.executable, "-m", "heatproof", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        told = running.stderr.read()
    assert (running.returncode, told) == (1, b"")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "out/run.json"), "No space left on device: out/run.json"),
        (OSError("the disk is gone"), "the disk is gone"),
    ],
)
def test_a_fault_of_the_system_is_one_sentence(
    error: OSError, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("heatproof.cli.verbs.app", fail)
    assert heatproof("list") == 1
    assert capsys.readouterr().err == f"heatproof: {said}\n"


def test_an_interrupt_before_there_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("heatproof.cli._run", interrupted)
    assert heatproof("list") == 130


def test_names_of_torchvisions_networks_without_its_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = listing.torchvision_names()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(listing, "find_spec", lambda name: None)
    assert listing.torchvision_names() == told


def test_a_class_that_was_not_given_in_full_is_said(capsys: pytest.CaptureFixture) -> None:
    model = small()
    assert [_class(model, wanted) for wanted in ("bee", "1", " do")] == [1, 1, 3]
    assert capsys.readouterr().err == "--target do: dog (3)\n"


def test_several_processes_agree_on_a_folder() -> None:
    with (
        pytest.raises(SpecError, match="several processes must agree on one folder: give --out"),
        filling(None, "shift", {}, 0, False, Processes(0, 2)),
    ):
        pass


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "_remarks", lambda: Console(file=screen, force_terminal=True, width=100))
    with console.progress("shifting", 4) as advance:
        advance(1)
        advance(2, "fooled 0.5")
    shown = screen.getvalue()
    assert "shifting (fooled 0.5)" in shown
    assert "3 of 4" in shown


def test_what_is_not_of_a_class_is_lowered(tmp_path: Path) -> None:
    words = ["shift", "demo", "--model", "demo", "--limit", "2", "--epsilon", "0.05", "--score", "output(1)"]
    assert heatproof(*words, "--explainer", "gradcam(relu=False)", "--out", str(tmp_path / "out")) == 0
    told = json.loads((tmp_path / "out/summary.json").read_text())
    assert told["answer"][0] == "Attacks lower Output(index=1), not the probability of a class."


def test_thresholds_are_made_or_read(capsys: pytest.CaptureFixture) -> None:
    words = ["--calibrate", "demo", "--thresholds", "thresholds.json"]
    assert heatproof("audit", "demo", "demo", *words) == 2
    assert "--calibrate makes thresholds and --thresholds reads them" in " ".join(capsys.readouterr().err.split())


def test_a_complete_edit_is_not_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["fool", "demo", "--model", "demo", "--edit", "weight_edit(target='corner')", "--limit", "2"]
    assert heatproof(*words, "--out", str(tmp_path / "out")) == 0
    assert "held_out" not in read_run(tmp_path / "out").record["settings"]
    before = (tmp_path / "out/model.safetensors").stat().st_mtime_ns
    assert heatproof(*words, "--out", str(tmp_path / "out")) == 0
    assert "complete already" in capsys.readouterr().err
    assert (tmp_path / "out/model.safetensors").stat().st_mtime_ns == before


def test_without_a_name_a_run_has_a_folder_of_its_own(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert heatproof("explain", str(photos / "one.png"), "--model", "demo", "--top", "1") == 0
    said = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("into "))
    assert read_run(tmp_path / said.removeprefix("into ")).status == "complete"


def test_of_several_processes_the_first_says_that_they_were_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    # process 0 is there
    monkeypatch.setattr(Processes, "sum", lambda self, tensor: tensor + 1)
    for index, said in ((1, ""), (0, f"interrupted; the same command goes on from what {tmp_path} holds\n")):
        held = Run.start(tmp_path, command="shift", settings={}) if index else contextlib.nullcontext()
        with (
            contextlib.suppress(KeyboardInterrupt),
            held,
            filling(tmp_path, "shift", {}, 0, False, Processes(index, 2)),
        ):
            raise KeyboardInterrupt
        assert capsys.readouterr().err == said
        assert read_run(tmp_path).status == "interrupted"
