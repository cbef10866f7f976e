"""The verbs from Python answer what the command line answers, and leave nothing behind unless asked."""

import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from PIL import Image
from tests.shapes import unchecked
from torch import nn

import heatproof as hp
from heatproof import catalog
from heatproof.answers.filling import progress
from heatproof.answers.given import as_source, built, fooled_as_told
from heatproof.answers.pace import Pace
from heatproof.answers.scored import scored
from heatproof.cli.verbs import app
from heatproof.commands.effort import Effort
from heatproof.data.photos import fit
from heatproof.errors import Remark
from heatproof.models.readings import OverMask
from networks import small

CALLS: dict[str, Any] = {
    "shift": lambda **more: hp.shift("demo", "demo", epsilon=8 / 255, limit=3, **more),
    "audit": lambda **more: hp.audit("demo", "demo", limit=3, budget=37, **more),
    "compare": lambda **more: hp.compare("demo", "demo", "demo", explainer="gradcam()", limit=3, **more),
    "evaluate": lambda **more: hp.evaluate("demo", "demo", explainer="gradcam()", metric="deletion()", limit=3, **more),
}
LINES = {
    "shift": "shift demo --model demo --epsilon 8/255 --limit 3",
    "audit": "audit demo demo --limit 3 --budget 37",
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


@pytest.mark.parametrize("verb", CALLS)
def test_a_run_folder_is_made_where_one_is_asked_for(verb: str, tmp_path: Path) -> None:
    result = CALLS[verb](out=tmp_path / "run")
    assert result.folder == tmp_path / "run"
    assert {"run.json", "summary.json", "images.parquet", "report.html"} <= {p.name for p in result.folder.iterdir()}
    assert "report.html" in repr(result)
    before = (tmp_path / "run" / "run.json").read_bytes()
    (tmp_path / "run" / "report.html").unlink()
    again = CALLS[verb](out=tmp_path / "run")
    assert (again.rows, again.answer) == (result.rows, result.answer)  # complete already: read, not made anew
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    assert (tmp_path / "run" / "report.html").is_file()
    assert f'<a href="{tmp_path}/run/report.html">' in result._repr_html_()


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
    assert "<th>mean move (MOD)</th>" in text
    assert result.rows[-1]["mod_low"] is None, "so few photos have no interval"
    assert f"<td>{result.rows[-1]['mod']:.4g}</td>" in text
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


def test_a_list_of_photos_is_data_as_well(tmp_path: Path) -> None:
    names = [tmp_path / f"{number}.png" for number in range(2)]
    for number, name in enumerate(names):
        Image.new("RGB", (64, 64), (90 * number, 40, 200)).save(name)
    assert as_source(names, hp.load("demo")).ids == as_source(tmp_path, hp.load("demo")).ids


def test_a_penalty_is_what_an_attack_is_for() -> None:
    more: Any = {"epsilon": 0.05, "explainer": "gradcam(relu=False)", "limit": 2}
    found = hp.shift("demo", "demo", attack="pgd(steps=2)", penalty="location()", **more)
    other = hp.shift("demo", "demo", attack="pgd(steps=2)", **more)
    assert found.rows[0]["mod"] == other.rows[0]["mod"]
    assert found.rows[-1]["mod"] != other.rows[-1]["mod"]


def test_without_pandas_there_is_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(hp.InputError, match=r"pandas is not installed; result.table is the same"):
        hp.Result("shift", {"rows": [{"model": "a"}], "answer": []}, pl.DataFrame()).to_pandas()


@pytest.mark.parametrize("asked", ["fool(", "GradCAM()", "Fool(penalty=3)", "fool(penalty=GradCAM)"])
def test_a_fooling_that_does_not_say_what_was_asked_is_refused(asked: str, tmp_path: Path) -> None:
    settings = {"asked": asked}
    record = {"format": 1, "command": "fool", "settings": settings, "seed": 0, "status": "complete"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(hp.RunError, match=r"run\.json does not say what was asked of the fooling"):
        fooled_as_told(str(tmp_path), small())


def test_how_far_it_is_stands_on_a_terminal_once_a_second(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("heatproof.answers.filling.Pace", lambda total: Pace(total, clock=lambda: now))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress("shifting", 8) as advance:
        for now, count in ((1.0, 1), (2.0, 1), (2.5, 2)):  # noqa: B007 (the clock reads it)
            advance(count)
    # not at once, and not twice in a second; each took a second
    told = "shifting: 2 of 8, about 6 s left"
    assert told in capsys.readouterr().err


LONGER: dict[str, tuple[str, Callable[..., Any]]] = {
    "auditing": (r"[\d,]+ passes \(37 for each photo\)", lambda **more: hp.audit("demo", "demo", budget=37, **more)),
    "attacking": (r"[\d,]+ passes", lambda **more: hp.shift("demo", "demo", epsilon=8 / 255, **more)),
    "comparing": (r"[\d,]+ passes", lambda **more: hp.compare("demo", "demo", "demo", explainer="gradcam()", **more)),
    "evaluating": (
        r"[\d,]+ passes",
        lambda **more: hp.evaluate("demo", "demo", explainer="gradcam()", metric="deletion()", **more),
    ),
    "explaining": (r"[\d,]+ passes", lambda **more: hp.explain("demo", "demo", **more)),
}


@pytest.mark.parametrize("title", LONGER)
def test_long_work_says_beforehand_how_long(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    passes, call = LONGER[title]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("heatproof.answers.filling.LONG", 0.0)
    call(limit=10, out=tmp_path / "long")
    said = capsys.readouterr().err
    assert re.match(rf"{title}: about .*, {passes}\n", said), said
    # what is there already is read
    call(limit=10, out=tmp_path / "long")
    assert "passes" not in capsys.readouterr().err


@pytest.mark.parametrize(("seen", "long"), [(True, 1e9), (False, 0.0)])
def test_short_work_says_nothing_and_nothing_is_said_where_nobody_looks(
    seen: bool, long: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[bool] = []

    def effort() -> Effort:
        asked.append(True)
        return Effort(60.0, 2880)

    monkeypatch.setattr("sys.stderr.isatty", lambda: seen)
    monkeypatch.setattr("heatproof.answers.filling.LONG", long)
    with progress("shifting", 8, effort=effort):
        pass
    assert capsys.readouterr().err == ""
    assert bool(asked) is seen
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("heatproof.answers.filling.LONG", 10)
    with progress("shifting", 8, effort=effort):
        pass
    assert capsys.readouterr().err == "shifting: about 60 s, 2,880 passes\n"


def test_a_mask_in_a_file_fits_one_way_in_which_photos_come(tmp_path: Path) -> None:
    Image.new("L", (10, 10), 255).save(tmp_path / "mask.png")
    with pytest.raises(hp.InputError, match="photos come to these 2 models in different ways, and the mask"):
        scored(OverMask(str(tmp_path / "mask.png")), [hp.GradCAM()], [small(), small(size=12)])


def test_budgets_are_read_as_the_shell_reads_them() -> None:
    found = hp.shift("demo", "demo", epsilon=["8/255", 0.01], limit=2)
    assert set(found.images["epsilon"].round(4)) == {0.0, round(8 / 255, 4), 0.01}
    with pytest.raises(hp.InputError, match="names no budget"):
        hp.shift("demo", "demo", epsilon=[], limit=2)
    with pytest.raises(hp.HeatproofError, match="'much' is no value"):
        hp.shift("demo", "demo", epsilon="much", limit=2)


def test_what_is_no_network_and_no_count_of_photos_is_told() -> None:
    with pytest.raises(hp.InputError, match=r"got 'demo'; hp.load\(NAME\) makes one"):
        hp.GradCAM()("demo", torch.rand(1, 3, 64, 64))  # type: ignore[arg-type]
    with pytest.raises(hp.InputError, match="limit must be a whole number, at least 1 photo, got '12'"):
        hp.shift("demo", "demo", limit="12")  # type: ignore[arg-type]


def test_an_attack_s_own_budget_is_the_one_that_is_measured() -> None:
    images, labels, _ = hp.scenes(4, seed=0)
    with pytest.warns(Remark, match="their own epsilon, 8/255"):
        rows = hp.shift("demo", (images, labels), attack=hp.FGSM(epsilon=8 / 255)).rows
    assert [row["epsilon"] for row in rows] == [0.0, 8 / 255]
    with pytest.raises(
        hp.InputError, match=r"PGD\(\) has epsilon 8/255 of its own, and epsilon 4/255 is asked for beside it"
    ):
        hp.shift("demo", (images, labels), attack=hp.PGD(epsilon=8 / 255), epsilon="4/255")


def test_boxes_of_scenes_are_the_shares_that_they_cover() -> None:
    images, labels, boxes = hp.scenes(4, seed=0)
    calls: dict[str, Any] = {"metric": "pointing_game()", "explainer": "gradcam()"}
    drawn = hp.evaluate("demo", (images, labels), boxes=boxes, **calls)
    shares = {str(place): tuple((box / 64).tolist()) for place, box in enumerate(boxes[:, 0])}
    for way in (shares, boxes[:, 0].numpy(), boxes / 64, {key: (box,) for key, box in shares.items()}):
        assert hp.evaluate("demo", (images, labels), boxes=way, **calls).rows == drawn.rows
    maps = hp.explain("demo", images).heatmaps
    cells = [divmod(int(heatmap.argmax()), heatmap.shape[1]) for heatmap in maps]
    size = 64 / maps.shape[1]
    inside = [
        bool(x1 <= (col + 0.5) * size <= x2 and y1 <= (row + 0.5) * size <= y2)
        for (row, col), (x1, y1, x2, y2) in zip(cells, boxes[:, 0].tolist(), strict=True)
    ]
    assert drawn.images["pointing_game"].to_list() == [float(one) for one in inside]


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (torch.zeros(3, 4), r"of the 2 images, got the shape \[3, 4\]"),
        (
            [[0, 0, 70, 10], [0, 0, 1, 1]],
            r"the box \(0.0, 0.0, 70.0, 10.0\) of image 0 lies outside its 64 x 64 pixels",
        ),
        ({"0": (0.5, 0, 0.2, 1)}, "image 0: a box is"),
        ({"0": "left"}, "the boxes of 0: .* numbers, were expected, got str"),
    ],
)
def test_boxes_that_are_none_are_named(boxes: Any, words: str) -> None:
    images, labels, _ = hp.scenes(2, seed=0)
    with pytest.raises(hp.InputError, match=words):
        hp.evaluate("demo", (images, labels), metric="pointing_game()", boxes=boxes)
    with pytest.raises(hp.InputError, match="no boxes were given"):
        hp.evaluate("demo", (images, labels), metric="pointing_game()")


@pytest.mark.parametrize("name", catalog.METRICS)
def test_every_metric_can_be_asked_for_from_python(name: str) -> None:
    assert len(built(name, catalog.METRICS, "metric")) == 1


def test_a_folder_does_not_answer_for_other_photos(tmp_path: Path) -> None:
    images, labels, _ = hp.scenes(6, seed=0)
    asked: dict[str, Any] = {"epsilon": 0.05, "out": tmp_path / "shift"}
    first = hp.shift("demo", (images[:3], labels[:3]), **asked)
    assert hp.shift("demo", (images[:3], labels[:3]), **asked).rows == first.rows
    with pytest.raises(hp.RunError, match=r"holds the answer for other photos \(3 of tensors; now 3 are given\)"):
        hp.shift("demo", (images[3:], labels[3:]), **asked)


def test_a_first_look_takes_sixty_photos_unless_a_limit_says() -> None:
    looked = hp.shift("demo", "demo", epsilon=8 / 255, quick=True)
    assert {row["count"] for row in looked.rows} == {60}
    for verb in ("shift", "compare", "evaluate"):
        assert {row["count"] for row in CALLS[verb](quick=True).rows} == {3}
    with pytest.raises(hp.InputError, match="limit= is for data by name, and so is quick=True"):
        hp.shift("demo", torch.rand(2, 3, 64, 64), quick=True)


def test_a_first_look_of_an_audit_asks_least() -> None:
    quick, told = CALLS["audit"](), hp.audit("demo", "demo", limit=3, quick=True)
    assert told.rows == quick.rows
    with pytest.raises(hp.InputError, match="give one of quick and budget"):
        hp.audit("demo", "demo", limit=3, quick=True, budget=40)


@pytest.mark.parametrize("epsilon", ["nan", float("nan"), "-1/255", "inf"])
def test_an_epsilon_that_is_no_number_is_said_to_be_none(epsilon: Any) -> None:
    with pytest.raises(
        hp.HeatproofError, match=r"epsilon must be a number from 0 to 1, in pixel units of \[0, 1\], got"
    ):
        hp.shift("demo", "demo", epsilon=epsilon, limit=1)
