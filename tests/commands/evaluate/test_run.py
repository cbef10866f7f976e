"""Evidence into a run folder: columns, curves, sentences, and what is said of empty maps."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from heatproof.commands.evaluate.run import Evidence, run_evidence
from heatproof.data.sources import open_data
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.metrics.faithfulness import AOPC, Deletion, Insertion
from heatproof.metrics.randomisation import Randomisation
from heatproof.metrics.road import ROAD
from heatproof.metrics.robustness import Infidelity, SensitivityMax
from heatproof.results.run import Run
from heatproof.types import Explanation, settings
from networks import small

METRICS = (
    AOPC(5, fill=0.0),
    AOPC(5, order="random", fill=0.0),
    Deletion(4),
    Insertion(4),
    ROAD((0.3,)),
    SensitivityMax(samples=2),
    Infidelity(samples=4),
)
ASKED = Evidence((SimpleGrad(),), METRICS, Randomisation(at_most=2), randomised=3, part=2)


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


def measured(folder, source, asked=ASKED, **more):
    model = small(dtype=torch.float32)
    with Run.start(folder, command="evidence", settings={"asked": asked}) as run:
        return run_evidence(asked, model, source, run, **more)


def test_every_metric_has_its_column_and_its_interval(tmp_path, source):
    boxes = {image: [(0.0, 0.0, 0.5, 1.0)] for image in source.ids[:3]}
    summary = measured(tmp_path / "run", source, boxes=boxes)
    whole, *blocks = summary["rows"]
    for name in ("aopc", "aopc_random", "deletion", "insertion", "road", "sensitivity_max", "infidelity"):
        assert whole[f"{name}_low"] <= whole[name] <= whole[f"{name}_high"]
    assert whole["count"] == 5
    assert whole["pointing_game_missing"] == 2
    assert [(row["randomised"], row["count"]) for row in blocks] == [("head", 3), ("last", 3)]
    table = pl.read_parquet(tmp_path / "run" / "images.parquet")
    assert table.height == 5 + 2 * 3
    curves = load_file(tmp_path / "run" / "curves" / "000000.safetensors")
    assert curves["SimpleGrad()|aopc"].shape == (2, 5)
    names = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert {"randomisation.png", "simplegrad-aopc.png"} <= {name.lower() for name in names}
    assert any("than chance" in sentence for sentence in summary["answer"])


def test_a_stopped_run_ends_with_the_same_numbers(tmp_path, source):
    measured(tmp_path / "whole", source)

    def cut(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "cut", source, advance=cut)
    record = json.loads((tmp_path / "cut" / "run.json").read_text())
    assert record["status"] == "interrupted"
    measured(tmp_path / "cut", source)
    for name in ("images.parquet", "summary.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_empty_maps_are_counted_and_the_others_kept(tmp_path, source):
    asked = Evidence((HalfEmpty(),), (AOPC(5), AOPC(5, order="random")), None, part=2)
    summary = measured(tmp_path / "run", source, asked)
    assert "1 of 5 maps are empty or equal everywhere" in summary["answer"][0]
    assert summary["rows"][0]["aopc_missing"] == 1
    assert summary["rows"][0]["aopc"] is not None


def test_bad_input_is_named_before_anything_is_measured(tmp_path, source):
    with pytest.raises(InputError, match="regions of 8 x 8 pixels do not tile images of 10 x 10"):
        measured(tmp_path / "a", source, Evidence((GradCAM(),), (AOPC(),)))
    with pytest.raises(InputError, match="none of the boxes belongs to an image"):
        measured(tmp_path / "b", source, boxes={"other.png": [(0.0, 0.0, 1.0, 1.0)]})
    with pytest.raises(InputError, match="one column, once; got aopc, aopc"):
        Evidence(metrics=(AOPC(5), AOPC(2)))
    with pytest.raises(InputError, match="evidence measures AOPC"):
        Evidence(metrics=(Randomisation(),))
    with pytest.raises(InputError, match="at least one explainer"):
        Evidence(explainers=())
