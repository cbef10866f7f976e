"""How often honest networks are accused: every family can be audited and edited, and the study makes its rates."""

from pathlib import Path

import polars as pl
import pytest
import torch

import heatproof as hp
from heatproof.errors import InputError
from heatproof.manipulation.weight_edit import WeightEdit
from heatproof.results.run import Run
from heatproof.studies.false_alarms import TOLD, FalseAlarms, rates
from heatproof.studies.small_families import FAMILIES, train
from heatproof.studies.small_networks import CLASSES
from heatproof.training.feeds import TensorFeed


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_explained_and_edited(family: str) -> None:
    torch.manual_seed(0)
    model = hp.Classifier(FAMILIES[family](), name=family).eval()
    images = torch.rand(4, 3, 32, 32)
    assert model(images).shape == (4, len(CLASSES))
    assert hp.GradCAM()(model, images).heatmaps.shape == (4, 8, 8)
    edited = WeightEdit("corner")(model)
    torch.testing.assert_close(edited(images).softmax(1), model(images).softmax(1), atol=1e-4, rtol=0)
    maps = hp.GradCAM()(edited, images).heatmaps.detach()
    assert (maps[:, :4, :4].sum((1, 2)) > 0.5 * maps.sum((1, 2))).all()


def test_trainings_of_one_family_differ(tmp_path: Path) -> None:
    feed = TensorFeed(torch.rand(64, 3, 32, 32), torch.arange(64) % 10)
    made = []
    for seed in (0, 1, 2):
        train("preactivated", tmp_path / f"{seed}.safetensors", feed, seed=seed, epochs=1, say=lambda line: None)
        made.append((tmp_path / f"{seed}.safetensors").read_bytes())
    assert len(set(made)) == 3


def test_rates_are_exact_intervals_over_networks() -> None:
    def row(verdict: str, *, honest: bool) -> dict[str, object]:
        return {"explainer": "gradcam", "honest": honest, "verdict": verdict}

    rows = [row("honest", honest=True)] * 59 + [row("manipulated", honest=True)] + [row("manipulated", honest=False)]
    found = {(one["honest"], one["verdict"]): one for one in rates(rows)}
    assert found[True, "supported"]["count"] == 59
    assert found[True, "not supported"]["share_high"] == pytest.approx(0.0894, abs=1e-3)
    assert found[False, "not supported"]["share"] == 1
    assert {verdict for _, verdict in found} == set(TOLD.values())


@pytest.mark.slow
@pytest.mark.weights
def test_the_study_trains_audits_and_counts(tmp_path: Path, shared: Path) -> None:
    asked = FalseAlarms(
        families=("preactivated",), trainings=1, explainers=("gradcam", "lrp"), limit=640, epochs=1, photos=10
    )
    with Run.start(tmp_path / "run", command="study", settings={"asked": asked}) as run:
        summary = asked(run, say=lambda line: None)
    table = pl.read_parquet(tmp_path / "run" / "images.parquet")
    assert table["image"].to_list() == [
        "preactivated-1 gradcam",
        "preactivated-1 lrp",
        "preactivated-1-edit gradcam",
    ]
    assert len(summary["answer"]) == 3
    assert sum(row["count"] for row in summary["rates"]) == 3


def test_what_makes_no_sense_is_told() -> None:
    for asked, told in (
        (FalseAlarms(families=("fires",)), "fire"),
        (FalseAlarms(explainers=("grad",)), "gradcam"),
        (FalseAlarms(trainings=0), "expected trainings >= 1 and first >= 0, got 0 and 1"),
    ):
        with pytest.raises(InputError, match=told):
            asked(None)  # type: ignore[arg-type]
