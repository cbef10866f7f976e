"""``heatproof evaluate`` as a user meets it: tables, sentences, boxes, and what is said of wrong input."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tests.command_line import heatproof

from heatproof.data import demo
from heatproof.results.reading import read_run

QUICK = (
    *("--metric", "aopc(steps=16)", "--metric", "aopc(steps=16, order='random')"),
    *("--metric", "sensitivity_max(samples=2)", "--metric", "stability(by='ssim', samples=2)"),
    *("--metric", "randomisation(at_most=2)"),
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Scenes of the demo as files of a user."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image, _ in demo.photos(count=6):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{name}.png")
    (folder / "broken.png").write_text("no photo")
    return folder


def summary_of(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


def test_explainers_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    assert (
        heatproof("evaluate", "demo", "demo", "--limit", "12", *QUICK, "--metric", "pointing_game()", "--out", str(out))
        == 0
    )
    shown = capsys.readouterr()
    assert read_run(out).status == "complete"
    assert read_run(out).problems == []
    summary = summary_of(out)
    whole = {row["explainer"]: row for row in summary["rows"] if not row.get("randomised")}
    assert set(whole) == {"GradCAM()", "SimpleGrad()", "RandomMap()"}
    honest, noise = whole["GradCAM()"], whole["RandomMap()"]
    # the planted case: noise is less faithful, less steady, and does not point
    assert honest["aopc_low"] > noise["aopc_high"]
    assert honest["sensitivity_max_high"] < noise["sensitivity_max_low"]
    assert honest["stability_ssim_low"] > noise["stability_ssim_high"]
    assert honest["pointing_game"] > noise["pointing_game"] + 0.5
    told = " ".join(summary["answer"])
    assert "RandomMap(): FAILS the randomisation test" in told
    assert "GradCAM(): FAILS" not in told
    assert "RandomMap() (" in told.split("most faithful")[1], "noise stands behind the first"
    across = {row["metric"]: row for row in summary["side_by_side"]}
    assert across["aopc"]["RandomMap()"] == noise["aopc"]
    assert across["spearman_absolute, randomised head"]["RandomMap()"] == pytest.approx(1.0)
    help_ = {entry["column"]: entry["help"] for entry in summary["columns"]}
    assert help_["sensitivity_max"].endswith("in [0, inf), down is better")
    assert help_["aopc"].endswith("in [-1, 1], up is better")
    assert "GradCAM()" in shown.out
    assert "aopc" in shown.out
    assert {path.name for path in (out / "figures").iterdir()} == {"aopc.png", "maps.png", "randomisation.png"}
    page = (out / "report.html").read_text()
    for words in ("Explainers side by side", "What the columns mean", "down is better", "FAILS the randomisation test"):
        assert words in page


def test_a_killed_run_ends_with_the_same_table(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heatproof.commands.evaluate import run

    words = ["evaluate", "demo", str(photos), *QUICK, "--explainer", "gradcam()", "--batch-size", "2", "--out"]
    assert heatproof(*words, str(tmp_path / "straight")) == 0
    done, once = [], run.measure

    def measure(*given: object) -> object:
        if len(done) == 1:
            raise RuntimeError("the power failed")
        done.append(1)
        return once(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(run, "measure", measure)
        with pytest.raises(RuntimeError, match="power"):
            heatproof(*words, str(tmp_path / "cut"))
    assert read_run(tmp_path / "cut").status == "failed"
    assert len(list((tmp_path / "cut" / "parts").glob("*.parquet"))) == 1
    assert heatproof(*words, str(tmp_path / "cut")) == 0
    straight, cut = (pl.read_parquet(tmp_path / name / "images.parquet") for name in ("straight", "cut"))
    assert cut.equals(straight)
    assert summary_of(tmp_path / "cut") == summary_of(tmp_path / "straight")
    assert [entry["image"] for entry in summary_of(tmp_path / "cut")["skipped"]] == ["broken.png"]
    assert "1 skipped" in capsys.readouterr().err


def test_boxes_from_a_file(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [
        {"image": f"{name}.png", "x1": 64 * x1, "y1": 64 * y1, "x2": 64 * x2, "y2": 64 * y2, "width": 64, "height": 64}
        for name, ((x1, y1, x2, y2),) in demo.boxes(count=5).items()
    ]
    pl.DataFrame(rows).write_csv(tmp_path / "boxes.csv")
    words = [
        "evaluate",
        "demo",
        str(photos),
        "--boxes",
        str(tmp_path / "boxes.csv"),
        "--explainer",
        "gradcam()",
        "--json",
    ]
    assert (
        heatproof(*words, "--metric", "pointing_game()", "--metric", "box_iou()", "--out", str(tmp_path / "out")) == 0
    )
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["pointing_game"] == 1.0
    # a rate: what is so of five photos need not be so of all
    assert row["pointing_game_low"] == pytest.approx(0.5655, abs=1e-4)
    assert (row["count"], row["pointing_game_missing"]) == (6, 1)
    assert 0.3 < row["box_iou"] < 0.8


def test_seed_reaches_the_metrics(photos: Path, tmp_path: Path) -> None:
    words = [
        "evaluate",
        "demo",
        str(photos),
        "--explainer",
        "gradcam()",
        "--metric",
        "sensitivity_max(samples=1)",
        "--out",
    ]
    found = []
    for seed in ("0", "1"):
        assert heatproof(*words, str(tmp_path / seed), "--seed", seed) == 0
        found.append(summary_of(tmp_path / seed)["rows"][0]["sensitivity_max"])
    assert found[0] != found[1]
    assert "SensitivityMax(samples=1, seed=1)" in (tmp_path / "1" / "run.json").read_text()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--metric", "aopcs()"], 2, "there is no metric 'aopcs'; did you mean aopc?"),
        (["--metric", "aopc()", "--metric", "aopc(region=16)"], 2, "aopc was asked for twice"),
        (["--explainer", "gradcam", "--explainer", "gradcam()"], 2, "GradCAM() was asked for twice"),
        (["--metric", "pointing_game()"], 2, "no boxes were given: take --boxes FILE"),
        (["--metric", "aopc(region=9)"], 2, "regions of 9 x 9 pixels do not tile images of 64 x 64; take 2 or 4 or 8"),
        (["--metric", "ssim()"], 2, "stability(by='ssim')"),
        (["--metric", "psnr"], 2, "heatproof shift measures it"),
        (["--metric", "stability(by='sim')"], 2, "did you mean ssim"),
        (["--metric", "randomisation(blocks=('stge1',))"], 2, "stge1"),
        (["--explainer", "gradcm"], 2, "did you mean gradcam"),
        (["--boxes", "nowhere.csv"], 2, "no boxes can be read from nowhere.csv"),
        (["--boxes", "BOXES"], 2, "none of the boxes belongs to an image of the data"),
        (["--boxes", "BOXES", "--metric", "aopc()"], 2, "boxes serve pointing_game() and box_iou()"),
        (["--boxes", "PIXELS"], 2, "add its width and height"),
    ],
)
def test_wrong_input_gets_a_sentence(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture, words: list[str], status: int, message: str
) -> None:
    (tmp_path / "boxes.csv").write_text("image,x1,y1,x2,y2\nother.png,0,0,0.5,0.5\n")
    (tmp_path / "pixels.csv").write_text("image,x1,y1,x2,y2\nother.png,10,20,30,40\n")
    files = {"BOXES": str(tmp_path / "boxes.csv"), "PIXELS": str(tmp_path / "pixels.csv")}
    given = [files.get(word, word) for word in words]
    assert heatproof("evaluate", "demo", str(photos), *given, "--out", str(tmp_path / "out")) == status
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_no_photo_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "broken.png").write_bytes(np.zeros(10, np.uint8).tobytes())
    words = ["evaluate", "demo", str(tmp_path / "broken.png"), "--metric", "aopc()", "--out", str(tmp_path / "out")]
    assert heatproof(*words) == 1
    assert "none of the 1 photo " in capsys.readouterr().err


def test_the_list_says_what_metric_takes(capsys: pytest.CaptureFixture) -> None:
    assert heatproof("list", "metrics") == 0
    shown = capsys.readouterr().out
    for name in ("aopc", "randomisation", "stability", "similarities", "psnr", "nissim"):
        assert name in shown
