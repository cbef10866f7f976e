"""Every verb takes a defended explainer like any other, on the demo network."""

import json
from pathlib import Path

import polars as pl
import pytest

from command_line import heatproof
from heatproof.answers.scored import scored
from heatproof.commands.explain import at_layers
from heatproof.commands.titles import column_title
from heatproof.defences.aggregate import Aggregate
from heatproof.defences.smoothed import Smoothed
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.models.loading import load

WRAPPED = [
    "smoothed(gradcam(), n=2)",
    "softplus(gradcam())",
    "contrast()",
    "aggregate((gradcam(), gradcam('stage6')))",
    "median_of_noisy(n=6)",
    "tangent(simple_grad(), photos='demo/train', k=4, d=2, limit=8)",
    "sparsified(n=20)",
    "certified_pixels(n=48)",
]


def explained(*texts: str) -> list[str]:
    return [word for text in texts for word in ("--explainer", text)]


def test_explain_writes_intervals_and_certificates(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["explain", "demo", "--model", "demo", "--limit", "2", "--top", "1", *explained(*WRAPPED, "gradcam()")]
    assert heatproof(*words, "--out", str(out)) == 0
    table = pl.read_parquet(out / "images.parquet")
    assert table.height == 2 * (len(WRAPPED) + 1)
    by = {
        name: table.filter(pl.col("explainer").str.starts_with(name)) for name in ("Median", "Sparsi", "Certif", "Grad")
    }
    assert by["Median"]["interval"].is_between(0, 2).all()
    assert (by["Median"]["interval_level"] == 0.95).all()
    assert by["Certif"]["certified"].is_between(0, 1).all()
    assert (by["Certif"]["certified_high"] <= by["Certif"]["certified"]).all()
    assert by["Certif"]["certified_radius"][0] == pytest.approx(0.1012, abs=1e-4)
    assert (by["Sparsi"]["certified_confidence"] == 0.95).all()
    assert by["Sparsi"]["certified_high"].null_count() == 2
    assert by["Grad"]["certified"].null_count() == by["Grad"]["interval"].null_count() == 2
    rows = {row["explainer"]: row for row in json.loads((out / "summary.json").read_text())["rows"]}
    assert rows[by["Certif"]["explainer"][0]]["certified"] == pytest.approx(by["Certif"]["certified"].mean())
    assert (out / "report.html").exists()


def test_without_defences_the_table_is_what_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert heatproof("explain", "demo", "--model", "demo", "--limit", "1", "--out", str(out)) == 0
    assert not {"interval", "certified"} & set(pl.read_parquet(out / "images.parquet").columns)


def test_shift_attacks_the_defended_map_and_measures_the_plain(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["shift", "demo", "--model", "demo", "--limit", "2", *explained("smoothed(gradcam(), n=3)", "gradcam()")]
    words += ["--attack", "pgd(steps=3)", "--epsilon", "0.03", "--penalty", "top_k()", "--draws", "1"]
    assert heatproof(*words, "--out", str(out)) == 0
    table = pl.read_parquet(out / "images.parquet").filter(pl.col("attack") != "clean")
    assert set(table["explainer"]) == {"Smoothed(n=3)", "GradCAM()"}
    assert (table["topk_intersection"] < 1).any()


def test_shift_wants_draws_with_a_penalty_only(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert heatproof("shift", "demo", "--model", "demo", "--draws", "1", "--out", str(tmp_path / "out")) != 0
    assert "are climbed with a penalty" in " ".join(capsys.readouterr().err.split())


def test_evaluate_and_compare_and_audit(tmp_path: Path) -> None:
    wrapped = explained("smoothed(gradcam(), n=2)")
    data = ["demo", "demo", "--limit", "6"]
    assert heatproof("evaluate", *data, *wrapped, "--metric", "aopc(steps=2)", "--out", str(tmp_path / "e")) == 0
    assert "Smoothed(n=2)" in (tmp_path / "e" / "summary.json").read_text()
    assert heatproof("compare", "demo", *data, *wrapped, "--out", str(tmp_path / "c")) == 0
    assert "Smoothed(n=2)" in (tmp_path / "c" / "summary.json").read_text()
    # six photos are too few for a verdict, which is exit 1; all that can be measured is
    assert heatproof("audit", *data, *wrapped, "--out", str(tmp_path / "a")) == 1
    assert "Verdict on demo, Smoothed(n=2), 6 photos: too few to tell" in (tmp_path / "a" / "summary.json").read_text()


def test_fool_climbs_through_the_defended_explainer(tmp_path: Path) -> None:
    words = ["fool", "demo/train", "--model", "demo", "--limit", "40", "--penalty", "location()", "--steps", "4"]
    words += ["--batch-size", "8", "--set", "evaluate_every=2", "--explainer", "smoothed(gradcam(), n=3)"]
    assert heatproof(*words, "--out", str(tmp_path / "a")) == 0
    assert heatproof(*words, "--set", "fresh_noise=true", "--out", str(tmp_path / "b")) == 0
    first, fresh = (json.loads((tmp_path / name / "summary.json").read_text()) for name in "ab")
    assert (
        first["rows"] != fresh["rows"]
        or (tmp_path / "a" / "model.safetensors").read_bytes() != (tmp_path / "b" / "model.safetensors").read_bytes()
    )


def test_fool_through_votes_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["fool", "demo/train", "--model", "demo", "--limit", "40", "--penalty", "location()", "--steps", "2"]
    assert heatproof(*words, "--explainer", "certified_pixels(n=48)", "--out", str(tmp_path / "a")) != 0
    assert "which have no derivative" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("explainer", "says"),
    [
        ("certified_pixels(lrp())", "are signed; say which side: certified_pixels(one_sided(LRP(), side='positive'))"),
        ("certified_pixels(n=9)", "at least"),
        ("smoothed(sigma=0)", "smoothed needs noise"),
        ("smoothed(gradcm())", "did you mean gradcam"),
        ("smoothed(gradcam('layr3'))", "no layer 'layr3'"),
    ],
)
def test_bad_input_gets_a_sentence(explainer: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["explain", "demo", "--model", "demo", "--limit", "1", "--explainer", explainer]
    assert heatproof(*words, "--out", str(tmp_path / "out")) != 0
    told = " ".join(capsys.readouterr().err.split())
    assert says in told
    assert "Traceback" not in told


def test_layer_and_score_reach_what_is_wrapped() -> None:
    wrapped = [Smoothed(GradCAM()), Aggregate((GradCAM(), SimpleGrad()))]
    assert at_layers([wrapped[0]], ["layer3", "layer4"]) == (Smoothed(GradCAM("layer3")), Smoothed(GradCAM("layer4")))
    assert list(scored("contrast", wrapped, []).explainers) == [
        Smoothed(GradCAM(score="contrast")),
        Aggregate((GradCAM(score="contrast"), SimpleGrad(score="contrast"))),
    ]
    title = column_title(Smoothed(GradCAM()), load("demo"))
    assert title.startswith("Smoothed of Grad-CAM\n")
