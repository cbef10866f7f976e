"""The study of robust trainings: small and from end to end, stopped and gone on with, and what is refused."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from heatproof.errors import InputError
from heatproof.results.run import Run
from heatproof.studies.robust_training import RobustTraining, answers

SMALL: dict[str, Any] = {**RobustTraining.presets["demo"], "methods": ("alignment",), "judge": 4, "steps": 2}


def started(folder: Path) -> Run:
    return Run.start(folder, command="study", settings={"study": "robust-training"})


def test_every_method_stands_beside_plain_training(tmp_path: Path) -> None:
    told: list[str] = []
    with started(tmp_path / "whole") as run:
        summary = RobustTraining(**SMALL, seeds=2)(run, say=told.append)
    assert [row["method"] for row in summary["rows"]] == ["given", "plain", "alignment"]
    given, plain, alignment = summary["rows"]
    assert given["lost"] == 0
    assert (given["count"], plain["rows"], plain["trainings"], alignment["trainings"]) == (4, 8, 2, 2)
    assert alignment["settings"] == "Alignment(l2=0.05, cosine=5.0, beta=2.0)"
    assert all(0 <= row["overlap"] <= 1 for row in summary["rows"])
    assert "of plain training" in summary["answer"][0]
    # stopped after the first training it goes on to the same table
    stops: list[str] = []

    def stop(text: str) -> None:
        stops.append(text)
        if len(stops) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), started(tmp_path / "stopped") as run:
        RobustTraining(**SMALL, seeds=2)(run, say=stop)
    with started(tmp_path / "stopped") as run:
        RobustTraining(**SMALL, seeds=2)(run, say=told.append)
    tables = [pl.read_parquet(tmp_path / name / "images.parquet") for name in ("whole", "stopped")]
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"methods": ("alignmnt",)}, "did you mean alignment"),
        ({"explainer": "gradcm"}, "did you mean gradcam"),
        ({"seeds": 0}, "trained at least once"),
    ],
)
def test_what_the_study_does_not_have(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        RobustTraining(**asked)


def test_the_gain_is_counted_from_plain_training() -> None:
    row = {"levels": 4.0, "spearman": 0.5, "accuracy": 0.8, "lost": 1.0}
    rows = [
        {**row, "method": "given", "overlap": 0.9},
        {**row, "method": "plain", "overlap": 0.2},
        {**row, "method": "alignment", "overlap": 0.25},
    ]
    [sentence] = answers(rows)
    assert "overlap 0.25, +25% of the 0.20 of plain training" in sentence
