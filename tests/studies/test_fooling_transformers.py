"""The study of fooled transformers: small and from end to end, gone on with, and what is refused."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from PIL import Image

from heatproof.errors import InputError
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.results.run import Run
from heatproof.studies import small_networks
from heatproof.studies.fooling_transformers import FoolingTransformers, answers

SMALL: dict[str, Any] = {
    **FoolingTransformers.presets["demo"],
    "steps": 2,
    "limit": 6,
    "photos": 16,
    "explainers": ("gradcam", "attnlrp"),
    "penalties": ("location",),
    "budget": 1.0,
}


def started(folder: Path) -> Run:
    return Run.start(folder, command="study", settings={"study": "fooling-transformers"})


@pytest.mark.slow
def test_every_explainer_is_fooled_and_judged_on_other_photos(tmp_path: Path) -> None:
    with started(tmp_path / "out") as run:
        summary = FoolingTransformers(**SMALL)(run, say=lambda line: None)
    assert [(row["through"], row["lie"]) for row in summary["rows"]] == [
        ("gradcam", "location"),
        ("attnlrp", "location"),
    ]
    for row in summary["rows"]:
        assert row["count"] == 6
        assert 0 <= row["fsr"] <= 1
        assert row["top1_fooled"] is not None
    assert "Fooled most easily" in summary["answer"][-1]
    # a row of maps per explainer, the honest network first
    with Image.open(tmp_path / "out" / "figures" / "maps.png") as picture:
        assert min(picture.size) > 200
    table = pl.read_parquet(tmp_path / "out" / "images.parquet")
    # each is judged through the explainer that it was fooled through
    assert table.filter(pl.col("through") == "attnlrp")["explainer"].unique().to_list() == [
        "LRP(layer='default', composite='attnlrp')"
    ]


@pytest.mark.slow
def test_the_fooled_network_is_judged_and_not_the_honest_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps may fool nothing, and the honest weights come back: here others certainly do."""

    def others(model: Classifier, *given: Any, **named: Any) -> tuple[Classifier, SimpleNamespace]:
        fooled = copy.deepcopy(model)
        with torch.no_grad():
            for weight in fooled.parameters():
                weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        return fooled, SimpleNamespace(best=2)

    monkeypatch.setattr("heatproof.studies.fooling_transformers.fine_tune", others)
    with started(tmp_path / "out") as run:
        [row] = FoolingTransformers(**{**SMALL, "explainers": ("gradcam",)})(run, say=lambda line: None)["rows"]
    assert row["step"] == 2
    assert row["spearman"] < 0.999


@pytest.mark.slow
def test_a_stopped_study_goes_on_to_the_same_table(tmp_path: Path) -> None:
    asked = FoolingTransformers(**{**SMALL, "penalties": ("location", "center_mass"), "explainers": ("gradcam",)})

    def stop(line: str) -> None:
        if "judged" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), started(tmp_path / "stopped") as run:
        asked(run, say=stop)
    made = (tmp_path / "stopped" / "models" / "vit_scenes.safetensors").stat().st_mtime_ns
    for name in ("stopped", "whole"):
        with started(tmp_path / name) as run:
            asked(run, say=lambda line: None)
    assert (tmp_path / "stopped" / "models" / "vit_scenes.safetensors").stat().st_mtime_ns == made
    tables = [pl.read_parquet(tmp_path / name / "images.parquet") for name in ("stopped", "whole")]
    assert tables[0].equals(tables[1])


def test_a_network_that_is_named_is_not_trained(tmp_path: Path) -> None:
    with started(tmp_path / "out") as run:
        assert FoolingTransformers(model="demo")._model(run, lambda line: pytest.fail(line)) == "demo"
    assert not (tmp_path / "out" / "models").exists()


def test_on_photos_the_small_vit_is_trained_once(tmp_path: Path) -> None:
    for name in small_networks.CLASSES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(7):
            Image.new("RGB", (32, 32), (len(name), number, 0)).save(tmp_path / "photos" / name / f"{number}.png")
    study, said = FoolingTransformers(data=str(tmp_path / "photos"), epochs=1), []
    with started(tmp_path / "out") as run:
        first, again = (study._model(run, said.append) for _ in range(2))
    assert first == again
    assert first.endswith(f"small_transformers.py:vit@{(tmp_path / 'out' / 'models' / 'vit.safetensors').resolve()}")
    assert len(said) == 1
    assert load(first).classes == list(small_networks.CLASSES)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"explainers": ("gradcm",)}, "did you mean gradcam"),
        ({"penalties": ("loction",)}, "did you mean location"),
        ({"penalties": ()}, "at least one of location"),
    ],
)
def test_what_the_study_does_not_have(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        FoolingTransformers(**asked)


def test_most_easily_fooled_is_counted_over_the_honest_network() -> None:
    row = {"fsr_low": 0.0, "fsr_high": 1.0, "top1_clean": 0.8, "top1_fooled": 0.79}
    rows = [
        # already like the lie before anything was done
        {**row, "through": "chefer", "lie": "location", "fsr": 0.9, "fsr_clean": 0.8},
        {**row, "through": "gradcam", "lie": "location", "fsr": 0.7, "fsr_clean": 0.0},
    ]
    first, last = answers(rows)
    assert first.startswith(
        "location: fooled through chefer 90.0% (0.0% to 100.0%; honest 80.0%; top-1 1.0 points lower"
    )
    assert last.endswith("penalties: gradcam.")
    assert (
        "chefer 90.0% (0.0% to 100.0%; honest 80.0%; no step inside the budget" in answers([{**rows[0], "step": 0}])[0]
    )
