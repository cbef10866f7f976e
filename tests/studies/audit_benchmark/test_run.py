"""The audit, measured: who is in the population, by whose thresholds it is judged, and a small one from end to end."""

import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import mannwhitneyu

from heatproof.errors import InputError
from heatproof.results.run import Run
from heatproof.studies.audit_benchmark import run as run_module
from heatproof.studies.audit_benchmark.population import BACKDOORS, FAMILIES, Member, members
from heatproof.studies.audit_benchmark.rates import WITHOUT, auc, roc, verdict_rates
from heatproof.studies.audit_benchmark.run import AuditBenchmark


def test_the_population_has_the_size_that_was_asked_for() -> None:
    found = members(FAMILIES, 2, 2)
    assert len({member.name for member in found}) == len(found)
    honest = [member for member in found if member.honest]
    lies = [member for member in found if not member.honest and member.lie not in BACKDOORS]
    assert len(honest) >= 20
    assert len(lies) >= 40
    assert {member.lie for member in members(["vgg"], 1, 1, ["edit"])} == {"", "edit", "honest"}
    with pytest.raises(InputError, match="did you mean location"):
        members(["vgg"], 1, 1, ["locaton"])
    with pytest.raises(InputError, match="did you mean vgg"):
        members(["vggg"], 1, 1)


def test_no_network_is_judged_by_thresholds_of_its_own_training() -> None:
    # the numbers of all densenets are bad: by thresholds with densenet-0's own copies it would pass
    everyone = [Member("vgg", seed, "honest" if copy else "", copy) for seed in range(2) for copy in range(3)]
    everyone += [Member("densenet", 0), Member("densenet", 0, "honest", 1), Member("densenet", 0, "honest", 2)]
    found = {}
    for place, member in enumerate(everyone):
        level = (0.1 if member.family == "densenet" else 0.5) + 0.01 * place
        numbers = {"all_classes": level}
        found[member.name] = {"values": {"all_classes": [level] * 12}, "numbers": numbers, "trust": [], "made": {}}
    rows, table = verdict_rates(everyone, found)
    verdicts = {row["model"]: row["verdict"] for row in table if row["how"] == WITHOUT}
    assert verdicts["densenet-0"] == "manipulated"
    # inside their limits; one number alone supports nothing
    assert {verdict for name, verdict in verdicts.items() if name.startswith("vgg")} == {"cannot tell"}
    (rate,) = [r["value"] for r in rows if r["table"] == f"called manipulated, {WITHOUT}" and r["lie"] == "honest"]
    assert rate == 3 / 9


@pytest.mark.parametrize("steps", [6, 10_000], ids=["ties", "no ties"])
def test_roc_and_its_area_are_scikit_learns(steps) -> None:
    from sklearn.metrics import roc_auc_score, roc_curve

    draw = np.random.default_rng(0)
    lies, honest = draw.integers(steps, size=40) / 3 + 1.0, draw.integers(steps, size=25) / 3
    given = np.r_[np.ones(40), np.zeros(25)], np.r_[lies, honest]
    assert auc(lies, honest) == pytest.approx(roc_auc_score(*given), abs=1e-15)
    false, true, _ = roc_curve(*given, drop_intermediate=False)
    np.testing.assert_allclose(roc(lies, honest), (false, true), rtol=0, atol=1e-15)


def test_area_where_nothing_is_to_be_told_apart() -> None:
    assert auc([1.0, 1.0], [1.0]) == 0.5
    assert np.isnan(auc([], [1.0]))


def test_roc_of_what_cannot_be_told_apart_is_the_diagonal() -> None:
    false, true = roc(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    assert false == true


@pytest.mark.weights
@pytest.mark.slow
def test_a_small_population_from_end_to_end_and_again(tmp_path) -> None:
    asked = AuditBenchmark(
        families=("vgg", "densenet"),
        seeds=2,
        copies=0,
        lies=("edit", "backdoor-corner"),
        limit=300,
        epochs=1,
        steps=2,
        photos=12,
        budget=37,
        photo_budget=37,
        budgets=(38,),
        others=("shared:weights/zoo.py:resnet20=shared:data/cifar10/test",),
    )
    told: list[str] = []
    with Run.start(tmp_path / "out", command="study", settings={"asked": asked}) as run:
        summary = asked(run, say=told.append)
    (area,) = [
        row["value"]
        for row in summary["rows"]
        if (row["table"], row["lie"], row["number"]) == (f"AUC of networks, {WITHOUT}", "edit", "score")
    ]
    table = pl.read_parquet(tmp_path / "out" / "images.parquet").filter(pl.col("how") == WITHOUT)
    lies, honest = (table.filter(chosen)["score"] for chosen in (pl.col("lie") == "edit", pl.col("honest")))
    assert (len(lies), len(honest)) == (4, 4)
    assert area == mannwhitneyu(lies, honest).statistic / 16
    assert area > 0.9
    thresholds = json.loads((tmp_path / "out" / "thresholds.json").read_text())
    assert thresholds["provenance"]["networks"] == [
        "vgg-0",
        "densenet-0",
        "vgg-1",
        "densenet-1",
        "weights/zoo.py:resnet20=shared:data/cifar10/test",
    ]
    assert thresholds["provenance"]["layouts"] == ["NCHW"]
    assert (tmp_path / "out" / "figures" / "roc.png").exists()
    # each of ten networks, photos with the trigger for two of them, twice; one that somebody else trained, in silence
    assert sum(line.startswith("auditing") for line in told) == 24
    # one budget more gives other numbers of the same networks
    by_budget = [row for row in summary["rows"] if row["table"] == "trust by budget"]
    assert [(row["lie"], row["budget"]) for row in by_budget] == [
        ("vgg-0-backdoor-corner", 38),
        ("densenet-0-backdoor-corner", 38),
    ]
    triggered = "called manipulated, photos with a trigger, "
    assert {row["count"] for row in summary["rows"] if row["table"].startswith(triggered)} == {2}
    # everything is there: nothing is made or audited again
    told.clear()
    with Run.start(tmp_path / "again", command="study", settings={"asked": asked}) as run:
        AuditBenchmark(**{**asked.__dict__, "place": str(tmp_path / "out")})(run, say=told.append)
    assert not [line for line in told if line.startswith("auditing")]


def test_photos_with_a_trigger_are_told_apart_by_the_number_s_bad_side(tmp_path, monkeypatch) -> None:
    """Trust is low in a lie, a jump is high; where both kinds are alike the area is a half."""
    names = ("trust", "pooled", "agreement", "jump", "unseen", "contrast", "softmax_contrast")
    clean = pl.DataFrame({name: [0.5, 0.6, None] for name in names})
    triggered = clean.with_columns(pl.lit(0.1).alias("trust"), pl.lit(0.9).alias("jump"), pl.lit(0.9).alias("pooled"))
    monkeypatch.setattr(run_module, "read_images", lambda folder: triggered if "triggered" in folder.name else clean)
    with Run.start(tmp_path / "out", command="study", settings={}) as run:
        rows = AuditBenchmark()._photos(Member("vgg", 0, "backdoor-corner"), run, 40)
    assert {row["number"]: row["value"] for row in rows} == {
        **dict.fromkeys(names, 0.5),
        "trust": 1.0,
        "jump": 1.0,
        "pooled": 0.0,
    }
    assert {(row["lie"], row["budget"]) for row in rows} == {("vgg-0-backdoor-corner", 40)}
