"""An evaluation into a run folder: columns, curves, sentences, and what is said of empty maps."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from polars.testing import assert_frame_equal
from safetensors.torch import load_file

from heatproof.commands.evaluate.answer import answer, rank
from heatproof.commands.evaluate.figures import draw_curves
from heatproof.commands.evaluate.measure import curve_name
from heatproof.commands.evaluate.run import Evaluate, run_evaluate
from heatproof.commands.evaluate.summary import summary_rows
from heatproof.data.sources import open_data
from heatproof.errors import InputError, LayerError, RunError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.metrics.evaluation import Column
from heatproof.metrics.faithfulness import AOPC, Deletion, Insertion
from heatproof.metrics.localisation import BoxIoU, PointingGame
from heatproof.metrics.randomisation import Randomisation
from heatproof.metrics.road import ROAD
from heatproof.metrics.robustness import Infidelity, SensitivityMax
from heatproof.metrics.stability import Stability
from heatproof.metrics.weight_noise import WeightNoise
from heatproof.processes import Processes
from heatproof.report import words
from heatproof.results.run import Run
from heatproof.results.table import Mean, SummaryRow, summarise
from heatproof.types import Explanation, settings
from networks import small

METRICS = (
    AOPC(5, fill=0.0),
    AOPC(5, order="random", fill=0.0),
    Deletion(4),
    Insertion(4),
    ROAD((0.3,)),
    SensitivityMax(samples=2),
    Stability(samples=2),
    Infidelity(samples=4),
    PointingGame(),
    BoxIoU(),
    Randomisation(at_most=2),
    WeightNoise(levels=(0.0, 0.01, 0.1), draws=2),
)
ASKED = Evaluate((SimpleGrad(),), METRICS, randomised=3, part=2)
BOX = ((0.0, 0.0, 0.5, 1.0),)


@settings
class HalfEmpty:
    """A map of what is bright, and nothing where the image is dark."""

    def __call__(self, model, images, targets=None, *, create_graph=False):
        logits = model(images)
        return Explanation((images.mean(1) - 0.5).relu(), logits, logits.argmax(1) if targets is None else targets)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(5):
        # the last is dark
        values = draw.integers(0, 256 if number < 4 else 100, (10, 10, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")
    return open_data(folder)


@pytest.fixture
def boxes(source):
    return dict.fromkeys(source.ids[:3], BOX)


def measured(folder, source, asked=ASKED, processes=Processes(), **more):
    model = small(dtype=torch.float32)
    with Run.start(folder, process=processes.index, command="evaluate", settings={"asked": asked}) as run:
        return run_evaluate(asked, model, source, run, processes=processes, **more)


def test_every_metric_has_its_column_and_its_interval(tmp_path, source, boxes):
    summary = measured(tmp_path / "run", source, boxes=boxes)
    whole, *conditions = summary["rows"]
    for column in ASKED.columns:
        low, value, high = (whole[f"{column.name}{end}"] for end in ("_low", "", "_high"))
        if column.rate:
            assert low <= value <= high
        else:
            assert (low, high) == (None, None), "five photos are too few for a bootstrap"
            assert value is not None
    assert whole["count"] == 5
    assert whole["pointing_game_missing"] == 2
    blocks, levels = conditions[:2], conditions[2:]
    assert [(row["randomised"], row["count"]) for row in blocks] == [("head", 3), ("last", 3)]
    assert [(row["weight_noise"], row["count"]) for row in levels] == [(0.01, 3), (0.1, 3)]
    assert levels[0]["spearman"] > levels[1]["spearman"], "more noise, less likeness"
    table = pl.read_parquet(tmp_path / "run" / "images.parquet")
    assert table.height == 5 + 2 * 3 + 2 * 3
    curves = load_file(tmp_path / "run" / "curves" / "000000.safetensors")
    assert curves["SimpleGrad()|aopc"].shape == (2, 5)
    names = {path.stem for path in (tmp_path / "run" / "figures").iterdir()}
    assert names == {"aopc", "deletion", "insertion", "road", "randomisation", "weight_noise", "maps"}
    assert any("than chance" in sentence or "from chance" in sentence for sentence in summary["answer"])
    meant = {entry["column"] for entry in summary["columns"]}
    assert {"aopc", "box_iou", "stability_spearman", "ssim (randomised)", "ssim (weight noise)"} <= meant


def test_rows_are_what_the_pieces_give_by_hand(tmp_path, source, boxes):
    measured(tmp_path / "run", source, boxes=boxes, draw=False)
    model = small(dtype=torch.float32)
    images = torch.stack([photo.image for photo in source]).float() / 255
    heatmaps, _, targets = SimpleGrad()(model, images)
    table = pl.read_parquet(tmp_path / "run" / "images.parquet")
    maps = table.filter(pl.col("randomised").is_null() & pl.col("weight_noise").is_null())
    assert maps["image"].to_list() == source.ids
    assert maps["target"].to_list() == targets.tolist()
    expected = {
        "aopc": AOPC(5, fill=0.0)(model, images, heatmaps, targets),
        "road": ROAD((0.3,))(model, images, heatmaps, targets),
        "infidelity": Infidelity(samples=4)(model, images, heatmaps, targets),
        "sensitivity_max": SensitivityMax(samples=2)(model, SimpleGrad(), images, targets),
    }
    for name, values in expected.items():
        torch.testing.assert_close(torch.tensor(maps[name].to_list()), values, rtol=1e-4, atol=1e-5)
    first = Randomisation(at_most=1)(model, SimpleGrad(), images[:3], targets[:3])[0]
    head = table.filter(pl.col("randomised") == "head")
    torch.testing.assert_close(torch.tensor(head["spearman"].to_list()), first.spearman, rtol=1e-4, atol=1e-4)


def test_a_stopped_run_ends_with_the_same_numbers(tmp_path, source, boxes):
    measured(tmp_path / "whole", source, boxes=boxes)
    told = []

    def cut(count):
        told.append(count)
        if sum(told) > 2:  # inside the second part of three
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "cut", source, boxes=boxes, advance=cut)
    record = json.loads((tmp_path / "cut" / "run.json").read_text())
    assert record["status"] == "interrupted"
    told = []
    measured(tmp_path / "cut", source, boxes=boxes, advance=told.append)
    assert told[0] == 2, "what was done is counted at once and not done again"
    assert sum(told) == pytest.approx(5)
    for name in ("images.parquet", "summary.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_two_processes_write_the_rows_of_one(tmp_path, source, boxes, monkeypatch):
    expected = measured(tmp_path / "alone", source, boxes=boxes)
    # each waits for nobody: the second has done its parts before the first merges
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    first = Processes(0, 2)
    with Run.start(tmp_path / "shared", command="evaluate", settings={"asked": ASKED}) as run:
        assert measured(tmp_path / "shared", source, processes=Processes(1, 2), boxes=boxes) == {}
        assert run.parts() == ["000001"]
        shared = run_evaluate(ASKED, small(dtype=torch.float32), source, run, processes=first, boxes=boxes)
    assert shared == expected
    tables = [pl.read_parquet(tmp_path / name / "images.parquet") for name in ("alone", "shared")]
    assert_frame_equal(*tables)


def test_empty_maps_are_counted_and_the_others_kept(tmp_path, source):
    asked = Evaluate((HalfEmpty(),), (AOPC(5), AOPC(5, order="random")), part=2)
    summary = measured(tmp_path / "run", source, asked)
    assert "1 of 5 maps are empty or equal everywhere" in summary["answer"][0]
    assert summary["rows"][0]["aopc_missing"] == 1
    assert summary["rows"][0]["aopc"] is not None


def table_of(**values):
    """Rows of maps by explainer."""
    return pl.DataFrame(
        [
            {"image": str(i), "explainer": name, "aopc": value, "empty": value is None}
            for name, column in values.items()
            for i, value in enumerate(column)
        ]
    )


def test_the_best_by_direction_and_a_tie_is_a_tie():
    draw = np.random.default_rng(0)
    base = draw.normal(0.5, 0.1, 40)
    maps = table_of(good=base + 0.1, same=base + 0.1 + draw.normal(0, 0.05, 40), bad=base - 0.2)
    up = rank(maps, Column("aopc", "up", "", ""), ["bad", "same", "good"])
    assert up.order[2] == "bad"
    assert len(up.tied) == 1
    assert up.behind[1].difference == pytest.approx(0.3, abs=0.02)
    down = rank(maps, Column("aopc", "down", "", ""), ["good", "same", "bad"])
    assert down.order[0] == "bad"
    assert down.tied == []
    assert down.behind[0].low > 0


def test_explainers_without_values_are_not_ranked():
    maps = table_of(good=[0.5, 0.6, 0.7, 0.8] * 2, empty=[None, None, None, 0.1] * 2)
    found = rank(maps, Column("aopc", "up", "", ""), ["good", "empty"])
    assert (found.order, found.unknown) == (["good"], ["empty"])
    assert rank(table_of(a=[0.5] * 5), Column("aopc", "up", "", ""), ["a"]).order == [], "five photos rank nothing"
    nothing = rank(table_of(a=[None, None], b=[None, None]), Column("aopc", "up", "", ""), ["a", "b"])
    assert (nothing.order, nothing.unknown) == ([], ["a", "b"])


def test_what_cannot_be_ranked_is_said():
    asked = Evaluate((GradCAM(), SimpleGrad()), (AOPC(5),))
    maps = table_of(**{"GradCAM()": [0.5, 0.6, 0.7, 0.8] * 2, "SimpleGrad()": [None, None, None, 0.1] * 2})
    told = answer(asked, maps, [])
    assert told[0].startswith("Only GradCAM() (0.65) can be measured by aopc (mean fall of the class's probability")
    assert told[0].endswith("higher is better). SimpleGrad() cannot be told: too few maps have a value.")
    maps = table_of(**{"GradCAM()": [None, None], "SimpleGrad()": [None, 0.5]})
    told = answer(asked, maps, [])
    assert told[0].startswith("Cannot tell which explainer is")
    assert told[0].endswith("too few photos on which every map has a value of aopc.")


@pytest.mark.parametrize(
    ("by_road", "said"),
    [
        ((0.2, 0.4), "By the other metrics: GradCAM() ("),
        ((0.4, 0.2), "The metrics disagree: SimpleGrad() ("),
        ((0.3, 0.3), "are tied"),
    ],
)
def test_metrics_that_point_another_way_are_said_to_and_each_is_explained(by_road, said):
    """Lower is better by both: Grad-CAM is first by deletion, and by road as the case may be."""
    asked = Evaluate((GradCAM(), SimpleGrad()), (Deletion(4), ROAD()))
    noise = np.random.default_rng(0).normal(0, 0.01, (2, 20))
    rows = [
        {"image": str(i), "explainer": name, "empty": False, "deletion": deletion, "road": road + noise[place, i]}
        for place, (name, deletion, road) in enumerate(
            [("GradCAM()", 0.25, by_road[0]), ("SimpleGrad()", 0.5, by_road[1])]
        )
        for i in range(20)
    ]
    first, second, *_ = answer(asked, pl.DataFrame(rows), [])
    assert first.startswith("GradCAM() (0.25) is the most faithful here, by deletion (area under the class's")
    assert said in second
    assert (
        "by road (mean probability of the class as pixels are removed and imputed, most relevant first; lower is"
        in (second)
    )


def test_answers_have_the_digits_of_the_table():
    values = np.random.default_rng(0).normal(0.2, 0.1, 24)
    found = rank(table_of(a=list(values), b=list(values + 1)), Column("aopc", "down", "", ""), ["a", "b"])
    (row,) = summarise(pl.DataFrame({"image": [str(i) for i in range(24)], "aopc": values}), [], ["aopc"])
    low, high = row.means["aopc"].low, row.means["aopc"].high
    assert low is not None
    assert high is not None
    assert words.measured(found.means[0]).split()[0] == words.with_interval(float(values.mean()), low, high)[0]


def test_one_photo_tells_nothing_of_chance():
    maps = pl.DataFrame(
        {"image": ["a"], "explainer": ["GradCAM()"], "empty": [False], "aopc": [0.5], "aopc_random": [0.1]}
    )
    told = answer(Evaluate((GradCAM(),), (AOPC(5),)), maps, [])
    assert "GradCAM(): too few photos to tell whether the map is more faithful than chance." in told


def test_a_condition_that_was_never_drawn_has_no_rows():
    maps = pl.DataFrame({"image": ["a"], "model": ["m"], "explainer": ["GradCAM()"], "empty": [False]})
    rows = summary_rows(Evaluate((GradCAM(),), (Randomisation(),)), maps)
    assert [row.by for row in rows] == [{"model": "m", "explainer": "GradCAM()"}]


def test_curves_that_were_damaged_are_named(tmp_path):
    with Run.start(tmp_path, command="evaluate", settings={}) as run:
        run.write_tensors("curves/000000.safetensors", {curve_name(SimpleGrad(), Deletion(4)): torch.zeros(5)})
        with pytest.raises(RunError, match=r"curves holds no curves .*; delete it and parts, and give"):
            draw_curves(Evaluate((SimpleGrad(),), (Deletion(4),)), run)


def test_maps_are_shown_without_a_number_to_choose_them_by(tmp_path, source):
    measured(tmp_path / "some", source, Evaluate((SimpleGrad(),), (Randomisation(at_most=1),), randomised=1, shown=2))
    assert (tmp_path / "some/figures/maps.png").is_file()
    measured(tmp_path / "none", source, Evaluate((SimpleGrad(),), (AOPC(5),), shown=0))
    assert not (tmp_path / "none/figures/maps.png").exists()


@pytest.mark.parametrize(
    ("ends", "missing", "words"),
    [
        ((0.9, 0.8, 1.0), 0, "FAILS the randomisation test"),
        ((0.1, 0.0, 0.2), 0, "passes the randomisation test"),
        ((0.5, 0.3, 0.7), 0, "cannot tell whether it passes the randomisation test: with everything down to last"),
        ((0.1, 0.0, 0.2), 8, "cannot tell whether it passes the randomisation test: with everything down to last"),
        ((None, None, None), 10, "10 of 10 pairs of maps have no rank correlation"),
    ],
)
def test_the_randomisation_test_passes_fails_or_cannot_tell(ends, missing, words):
    means = {"spearman_absolute": Mean(*ends, missing=missing)}
    row = SummaryRow({"explainer": "GradCAM()", "randomised": "last"}, 10, 10, means)
    maps = pl.DataFrame({"image": ["a"], "explainer": ["GradCAM()"], "empty": [False]})
    (sentence,) = answer(Evaluate(metrics=(Randomisation(),)), maps, [row])
    assert words in sentence


def test_bad_input_is_named_before_anything_is_measured(tmp_path, source):
    with pytest.raises(InputError, match="regions of 8 x 8 pixels do not tile images of 10 x 10"):
        measured(tmp_path / "a", source, Evaluate((GradCAM(),), (AOPC(),)))
    with pytest.raises(InputError, match="none of the boxes belongs to an image"):
        measured(tmp_path / "b", source, boxes={"other.png": BOX})
    with pytest.raises(InputError, match="no boxes were given"):
        measured(tmp_path / "c", source)
    with pytest.raises(InputError, match="neither was asked for"):
        measured(tmp_path / "d", source, Evaluate(metrics=(AOPC(5),)), boxes={source.ids[0]: BOX})
    with pytest.raises(LayerError, match="nowhere"):
        measured(tmp_path / "e", source, Evaluate(metrics=(Randomisation(blocks=("nowhere",)),)))
    with pytest.raises(InputError, match="aopc was asked for twice"):
        Evaluate(metrics=(AOPC(5), AOPC(2)))
    with pytest.raises(InputError, match="randomised spearman was asked for twice"):
        Evaluate(metrics=(Randomisation(), Randomisation(mode="independent")))
    with pytest.raises(InputError, match="at least one explainer"):
        Evaluate(explainers=())
    with pytest.raises(InputError, match="a part has at least 1 photo, got 0"):
        Evaluate(part=0)
