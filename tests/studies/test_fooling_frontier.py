"""What a lie costs: the frontier is chosen on some photos and judged on others."""

import polars as pl
import pytest
from PIL import Image
from tests.training.nets import convolutions

from heatproof.data.scenes import scenes
from heatproof.errors import InputError
from heatproof.manipulation.penalties import ActiveSwap
from heatproof.results.run import Run
from heatproof.studies.fooling_frontier import FoolingFrontier, _sentence, frontier, swap_sources


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Scenes of the demo in class folders."""
    folder = tmp_path_factory.mktemp("place")
    for part, count, seed in (("train", 24, 1), ("test", 40, 2)):
        images, labels = scenes(count, seed=seed)[:2]
        for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            file = folder / part / str(label) / f"{i:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(file)
    return folder


def test_the_chosen_checkpoint_is_judged_on_other_photos(place, tmp_path):
    asked = FoolingFrontier(
        models=("demo",),
        penalties=("location",),
        data=(str(place / "train"),),
        test=str(place / "test"),
        trainable="stage7",
        steps=30,
        batch_size=4,
        budget=1.0,
        views=2,
    )
    told: list[str] = []
    with Run.start(tmp_path / "out", command="study", settings={"asked": asked}) as run:
        summary = asked(run, say=told.append)
    watched, others = summary["rows"][:3], summary["rows"][3:]
    assert [row["inside"] for row in watched] == [1, 2, 3]
    assert [row["photos"] for row in others] == ["others"]
    cell = pl.read_parquet(tmp_path / "out" / "cells" / "demo-location" / "history.parquet")
    judged = pl.read_parquet(tmp_path / "out" / "compared" / "demo-location" / "images.parquet")
    assert judged.height == 20
    # every second step is looked at, and told
    assert cell["fsr"].drop_nulls().len() == 16
    assert sum("location: step" in line for line in told) == 15
    assert (tmp_path / "out" / "figures" / "frontier-demo.png").exists()
    assert "on other photos" in summary["answer"][-1]
    # stopped before its last word, the study finds its cells done
    record = tmp_path / "out" / "run.json"
    record.write_text(record.read_text().replace('"complete"', '"interrupted"'))
    done = [*(tmp_path / "out" / "cells").rglob("*.safetensors"), *(tmp_path / "out" / "compared").rglob("*.parquet")]
    before = [path.stat().st_mtime_ns for path in done]
    with Run.start(tmp_path / "out", command="study", settings={"asked": asked}) as run:
        assert asked(run, say=lambda line: None) == summary
    assert [path.stat().st_mtime_ns for path in done] == before


def test_a_swap_is_planted_in_photos_of_both_classes_and_its_accuracy_judged_on_others(place, tmp_path, monkeypatch):
    """Two-class images are made of the shared folder's photos; those that judge the accuracy show neither class."""
    images = scenes(16, seed=3)[0]
    for number, image in enumerate(images):
        part = f"data/imagenette2-160/{'train' if number % 2 else 'val'}/n03417042"
        for folder in ("data/photos/pacs-photo-elephant", part):
            file = tmp_path / folder / f"{number:02d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(file)
    monkeypatch.setenv("HEATPROOF_SHARED", str(tmp_path))
    asked = FoolingFrontier(
        models=("demo",),
        penalties=("active_swap",),
        data=(str(place / "train"),),
        test=str(place / "test"),
        trainable="stage7",
        steps=3,
        batch_size=8,
        budget=1.0,
        views=1,
        first=0,
        second=3,
        pairs=8,
    )
    told: list[str] = []
    with Run.start(tmp_path / "out", command="study", settings={"asked": asked}) as run:
        summary = asked(run, say=told.append)
    watched, others = summary["rows"][:3], summary["rows"][3:]
    assert all(row["fsr_first"] is not None and row["fsr_second"] is not None for row in watched)
    assert [(row["fsr"], row["photos"]) for row in others] == [(None, "others")]
    assert others[0]["top1_clean"] > 0.9
    assert "FSR" not in summary["answer"][-1]
    assert sum("active_swap: step" in line for line in told) == 3  # each of three steps is looked at


def test_the_frontier_takes_the_highest_rate_inside_each_budget() -> None:
    class Looked:
        clean = {"accuracy": 0.80}  # noqa: RUF012
        looks = [  # noqa: RUF012
            {"step": 1, "accuracy": 0.80, "fsr": 0.1, "empty": 0.0},
            {"step": 2, "accuracy": 0.785, "fsr": 0.6, "empty": 0.0},
            {"step": 3, "accuracy": 0.77, "fsr": 0.9, "empty": 0.0},
            {"step": 4, "accuracy": 0.70, "fsr": 1.0, "empty": 0.0},
        ]

    rows = frontier("net", "location", Looked())  # type: ignore[arg-type]
    assert [row["fsr"] for row in rows] == [0.1, 0.6, 0.9]
    assert [round(row["top1_lost"], 3) for row in rows] == [0.0, 0.015, 0.03]


def test_a_fooling_that_is_none_is_told_before_anything_is_loaded(tmp_path):
    with Run.start(tmp_path / "out", command="study", settings={}) as run, pytest.raises(InputError, match="top_k"):
        FoolingFrontier(models=("nowhere",), penalties=("topk",))(run)


def test_a_frontier_of_no_model_is_refused(tmp_path):
    with Run.start(tmp_path / "out", command="study", settings={}) as run, pytest.raises(InputError, match="a model"):
        FoolingFrontier(models=())(run)


def test_of_a_swap_the_weaker_class_counts_and_both_are_said() -> None:
    class Looked:
        clean = {"accuracy": 0.80}  # noqa: RUF012
        looks = [  # noqa: RUF012
            {"step": 1, "accuracy": 0.80, "fsr": 0.5, "fsr_first": 0.9, "fsr_second": 0.1, "empty": 0.0},
            {"step": 2, "accuracy": 0.80, "fsr": 0.4, "fsr_first": 0.4, "fsr_second": 0.4, "empty": 0.0},
        ]

    row = frontier("net", "active_swap", Looked())[0]  # type: ignore[arg-type]
    assert (row["step"], row["fsr_first"], row["fsr_second"]) == (2, 0.4, 0.4)
    told = _sentence(row)
    assert told == (
        "net, active_swap: FSR 40.0% inside 1 points (40.0% and 40.0% of the two classes), top-1 0.0 points lower at "
        "step 2."
    )


def test_the_swap_is_of_the_models_two_classes(tmp_path, monkeypatch) -> None:
    """Three of four photos of the first class to train on, the rest to judge by, and none in both."""
    monkeypatch.setenv("HEATPROOF_SHARED", str(tmp_path))
    for place in (
        *(f"data/photos/pacs-photo-elephant/{n}.jpg" for n in range(8)),
        *(f"data/imagenette2-160/{part}/n03417042/{part}{n}.jpg" for part in ("train", "val") for n in range(2)),
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16)).save(tmp_path / place)
    model = convolutions()
    model.classes = ["African elephant", "b", "c", "garbage truck"]
    penalty = FoolingFrontier()._penalty(model, "active_swap")
    assert isinstance(penalty, ActiveSwap)
    assert (penalty.first, penalty.second) == (0, 3)
    with Run.start(tmp_path / "out", command="study", settings={}) as run:
        train, judged = swap_sources(model, (0, 3), run)
    assert (list(train.labels), list(judged.labels)) == ([0] * 6 + [3] * 2, [0] * 2 + [3] * 2)
    assert not set(train.ids) & set(judged.ids)
