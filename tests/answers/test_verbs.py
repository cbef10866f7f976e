"""The verbs from Python answer what the command line answers, and leave nothing behind unless asked."""

import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from PIL import Image
from tests.shapes import unchecked
from torch import nn

import heatproof as hp
from heatproof.cli.verbs import app
from heatproof.data.photos import fit
from networks import small

CALLS: dict[str, Any] = {
    "shift": lambda **more: hp.shift("demo", "demo", epsilon=8 / 255, limit=3, **more),
    "audit": lambda **more: hp.audit("demo", "demo", limit=3, budget=33, **more),
    "compare": lambda **more: hp.compare("demo", "demo", "demo", explainer="gradcam()", limit=3, **more),
    "evaluate": lambda **more: hp.evaluate("demo", "demo", explainer="gradcam()", metric="deletion()", limit=3, **more),
}
LINES = {
    "shift": "shift demo --model demo --epsilon 8/255 --limit 3",
    "audit": "audit demo demo --limit 3 --budget 33",
    "compare": "compare demo demo demo --explainer gradcam --limit 3",
    "evaluate": "evaluate demo demo --explainer gradcam --metric deletion --limit 3",
}


@pytest.mark.parametrize("verb", CALLS)
def test_python_answers_what_the_command_line_answers(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.chdir(tmp_path)
    result = CALLS[verb]()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scratch"]
    assert not list(scratch.iterdir())
    app([*LINES[verb].split(), "--out", str(tmp_path / "told")], standalone_mode=False)
    told = json.loads((tmp_path / "told" / "summary.json").read_text())
    assert result.rows == told["rows"]
    assert result.answer == told["answer"]
    assert result.verdict == told.get("verdict")
    assert result.images.equals(pl.read_parquet(tmp_path / "told" / "images.parquet"))
    assert result.table.height == len(told["rows"])
    assert result.folder is None


def test_a_run_folder_is_made_where_one_is_asked_for(tmp_path: Path) -> None:
    result = CALLS["shift"](out=tmp_path / "run")
    assert result.folder == tmp_path / "run"
    assert {"run.json", "summary.json", "images.parquet", "report.html"} <= {p.name for p in result.folder.iterdir()}
    assert "report.html" in repr(result)
    before = (tmp_path / "run" / "run.json").read_bytes()
    assert CALLS["shift"](out=tmp_path / "run").rows == result.rows  # complete already: read, not made anew
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_objects_say_what_texts_say() -> None:
    model = hp.load("demo")
    given = hp.shift(
        model,
        hp.open_data("demo", classes=model.classes, limit=3),
        attack=[hp.FGSM()],
        epsilon=[8 / 255],
        explainer=hp.GradCAM(layer=model.network.get_submodule("stage7")),
    )
    told = hp.shift("demo", "demo", epsilon=8 / 255, explainer='gradcam(layer="stage7")', limit=3)
    assert given.rows == told.rows


def test_tensors_are_data_as_well() -> None:
    model = hp.load("demo")
    source = hp.open_data("demo", classes=model.classes, limit=4)
    photos = list(source)
    images = torch.stack([fit(photo.image, model.preprocessing) for photo in photos])
    labels = torch.tensor([photo.label for photo in photos])
    told = hp.shift(model, source, epsilon=8 / 255).rows
    given = hp.shift(model, (images, labels), epsilon=8 / 255).rows
    assert [row["top1"] for row in given] == [row["top1"] for row in told]
    assert given[-1]["mod"] == pytest.approx(told[-1]["mod"], rel=1e-6)
    assert hp.shift(model, images, epsilon=8 / 255).rows[-1]["top1"] is None


def test_a_result_shows_itself() -> None:
    result = CALLS["shift"]()
    text = result._repr_html_()
    assert "<th>MOD</th>" in text
    assert f"{result.rows[-1]['mod']:.4g} [{result.rows[-1]['mod_low']:.4g}" in text
    assert result.answer[0] in repr(result)
    frame = result.to_pandas()
    assert frame["mod"].tolist()[-1] == result.rows[-1]["mod"]


def test_a_result_escapes_what_it_was_told() -> None:
    result = hp.Result("shift", {"rows": [{"model": "<b>"}], "answer": ["<script>"]}, pl.DataFrame())
    assert "<script>" not in result._repr_html_()
    assert "<td>&lt;b&gt;</td>" in result._repr_html_()


@pytest.mark.parametrize(
    ("call", "kind", "wanted"),
    [
        (lambda: hp.audit(nn.Conv2d(3, 2, 1), "demo"), hp.ModelError, "Conv2d is a bare network"),  # type: ignore[arg-type]
        (lambda: hp.audit("demo", 7), hp.InputError, "data is a folder's name"),  # type: ignore[arg-type]
        (lambda: hp.audit("demo", torch.zeros(3, 8, 8)), hp.InputError, r"images must be a batch .* got \[3, 8, 8\]"),
        (lambda: hp.audit("demo", torch.rand(2, 3, 8, 8), limit=1), hp.InputError, "limit= is for data by name"),
        (lambda: hp.shift("demo", (torch.rand(2, 3, 8, 8), torch.zeros(3))), hp.InputError, "expected 2, got 3"),
        (lambda: hp.shift("demo", "demo", attack="fgsn()"), hp.SpecError, "there is no attack 'fgsn'"),
        (lambda: hp.shift("demo", "demo", attack=hp.FGSM), hp.SpecError, "attack: expected a text such as"),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_fit_is_named(call: Any, kind: type[Exception], wanted: str) -> None:
    with unchecked(), pytest.raises(kind, match=wanted):
        call()


def test_a_module_of_another_model_is_no_layer() -> None:
    with pytest.raises(hp.LayerError, match="is no layer of demo"):
        hp.shift("demo", "demo", explainer=hp.GradCAM(layer=small().network.get_submodule("last")), limit=2)


def test_overwrite_spares_what_is_read(tmp_path: Path) -> None:
    run = tmp_path / "run"
    hp.shift("demo", "demo", epsilon=0.05, limit=2, out=run)
    (run / "model.safetensors").write_bytes(b"weights")
    photos = run / "photos"
    photos.mkdir()
    Image.new("RGB", (64, 64)).save(photos / "0.png")
    with pytest.raises(hp.RunError, match="overwrite"):
        hp.shift("demo", photos, epsilon=0.05, out=run, overwrite=True)
    assert (run / "model.safetensors").read_bytes() == b"weights"
