"""The ranking under corruptions: its measures in closed form, what an empty map is, the study from end to end."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from heatproof.errors import InputError
from heatproof.results.run import Run
from heatproof.studies import corruption_ranking
from heatproof.studies.corruption_ranking import CorruptionRanking, alike, answers, summarised

SMALL: dict[str, Any] = {**CorruptionRanking.presets["demo"], "kinds": ("fog",), "limit": 3}


def test_the_cosines_are_numpys() -> None:
    a, b = torch.randn(2, 3, 5, 7, dtype=torch.double)
    found = alike(a, b)
    for row in range(3):
        one, two = (maps[row].flatten().numpy() for maps in (a, b))
        shifted = [(values - values.min()) / (values.max() - values.min()) for values in (one, two)]
        for name, (left, right) in (("signed", (one, two)), ("absolute", (abs(one), abs(two))), ("shifted", shifted)):
            expected = left @ right / np.linalg.norm(left) / np.linalg.norm(right)
            assert float(found[name][row]) == pytest.approx(expected)


def test_a_cosine_in_0_1_calls_maps_alike_that_have_nothing_in_common() -> None:
    """Two signed maps of a few large cells each, at other places: all other cells lie at the same value."""
    a, b = torch.zeros(2, 1, 32, 32)
    a[0, 0, 0], a[0, 0, 1] = 1.0, -1.0
    b[0, 9, 9], b[0, 9, 8] = 1.0, -1.0
    found = alike(a, b)
    assert float(found["signed"]) == 0
    assert float(found["shifted"]) > 0.99


def test_a_map_without_differences_is_like_no_other() -> None:
    found = alike(torch.zeros(1, 4, 4), torch.rand(1, 4, 4))
    assert all(values.isnan().all() for values in found.values())
    rows = [
        {
            "model": "m",
            "explainer": "gradcam",
            "image": str(index),
            **dict.fromkeys(("shifted", "absolute", "signed"), value),
        }
        for index, value in enumerate((0.5, float("nan")))
    ]
    others = dict.fromkeys(("spearman", "shifted_other", "absolute_other", "signed_other", "spearman_other"), 0.25)
    (row,) = summarised(pl.DataFrame([{**row, **others} for row in rows]))
    assert (row["shifted"], row["spearman"], row["published"]) == (0.5, 0.25, 0.852)
    (sentence,) = answers([row])
    assert sentence == (
        "m: by the cosine in [0, 1] gradcam 0.500; two different photos' maps reach gradcam 0.250; "
        "by ranks gradcam 0.25."
    )


def shaded(kind: str, severity: int, seed: int = 0) -> Any:
    """In the place of a package that not every environment has."""
    return lambda objective, images: images * (1 - severity / 10)


def test_the_study_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption_ranking, "Corruption", shaded)
    told: list[str] = []

    def stop(text: str) -> None:
        raise KeyboardInterrupt

    settings = {"study": "corruption-ranking"}
    with pytest.raises(KeyboardInterrupt), Run.start(tmp_path / "stopped", command="study", settings=settings) as run:
        CorruptionRanking(**SMALL)(run, say=stop)
    for name in ("stopped", "whole"):
        with Run.start(tmp_path / name, command="study", settings=settings) as run:
            summary = CorruptionRanking(**SMALL)(run, say=told.append)
    tables = [pl.read_parquet(tmp_path / name / "images.parquet") for name in ("whole", "stopped")]
    assert tables[0].equals(tables[1])
    assert len(tables[0]) == 2 * 2 * 3
    assert [row["explainer"] for row in summary["rows"]] == ["lrp", "gradcam"]
    for row in summary["rows"]:
        assert -1 <= row["spearman"] <= 1
    # the least severity leaves more of a map than the largest
    means = tables[0].filter(pl.col("explainer") == "lrp").group_by("severity").agg(pl.mean("signed")).sort("severity")
    assert means["signed"][0] > means["signed"][1]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"explainers": ("gradcm",)}, "did you mean gradcam"),
        ({"kinds": ("fgo",)}, "did you mean fog"),
        ({"severities": (9,)}, "a severity is one of 1, 2, 3, 4, 5, got 9"),
    ],
)
def test_what_the_study_does_not_have(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        CorruptionRanking(**asked)


def test_one_photo_has_no_other(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="there must be two at least"),
        Run.start(tmp_path / "one", command="study", settings={"study": "corruption-ranking"}) as run,
    ):
        CorruptionRanking(**{**SMALL, "limit": 1})(run)
