import json

import pytest

from heatproof.commands.record import data_record, describe, model_record
from heatproof.data.sources import open_data
from heatproof.errors import RunError
from heatproof.models.classifier import fingerprint
from heatproof.models.loading import load
from heatproof.results.run import Run


def test_models_and_data_are_recorded_and_others_refused(tmp_path):
    model, photos, few = load("demo"), open_data("demo", limit=4), open_data("demo", limit=2)
    with Run.start(tmp_path / "run", command="explain", settings={}) as run:
        describe(run, [model, model], photos, names=["a", "b"], held_out=few)
        with pytest.raises(RunError, match="the files behind the same names have changed"):
            describe(run, [model], photos)
        run.write_json("summary.json", {"rows": []})
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    own = {
        "sha256": fingerprint(model),
        "layer": "stage7",
        "preprocessing": {"size": [64, 64]},
        "classes": [str(n) for n in range(10)],
    }
    assert told["model"] == [{"name": name, **own} for name in "ab"]
    held_out = {"name": few.name, "count": 2, "sha256": few.fingerprint()}
    assert told["data"] == {"name": photos.name, "count": 4, "sha256": photos.fingerprint(), "held_out": held_out}


def test_more_may_be_said_of_a_model():
    assert model_record(load("demo"), planted={"layer": "x"})["planted"] == {"layer": "x"}
    assert model_record(load("demo"))["name"] == "demo"
    assert data_record(open_data("demo", limit=3))["count"] == 3
