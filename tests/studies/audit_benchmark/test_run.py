"""The audit, measured: who is in the population, by whose thresholds it is judged, and a small one from end to end."""

import json

import polars as pl
import pytest
from scipy.stats import mannwhitneyu

from heatproof.errors import InputError
from heatproof.results.run import Run
from heatproof.studies.audit_benchmark.population import BACKDOORS, FAMILIES, Member, members
from heatproof.studies.audit_benchmark.run import WITHOUT, AuditBenchmark, _models, roc


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
    rows, table = _models(everyone, found)
    verdicts = {row["model"]: row["verdict"] for row in table if row["how"] == WITHOUT}
    assert verdicts["densenet-0"] == "manipulated"
    assert {verdict for name, verdict in verdicts.items() if name.startswith("vgg")} == {"honest"}
    (rate,) = [r["value"] for r in rows if r["table"] == f"called manipulated, {WITHOUT}" and r["lie"] == "honest"]
    assert rate == 3 / 9


def test_roc_of_what_cannot_be_told_apart_is_the_diagonal() -> None:
    import numpy as np

    false, true = roc(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    assert false == true


@pytest.mark.weights
@pytest.mark.slow
def test_a_small_population_from_end_to_end_and_again(tmp_path) -> None:
    asked = AuditBenchmark(
        families=("vgg", "densenet"), seeds=2, copies=0, lies=("edit",), limit=300, epochs=1, photos=12, budget=33
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
    assert thresholds["provenance"]["networks"] == ["vgg-0", "densenet-0", "vgg-1", "densenet-1"]
    assert (tmp_path / "out" / "figures" / "roc.png").exists()
    assert sum(line.startswith("auditing") for line in told) == 8
    # everything is there: nothing is made or audited again
    told.clear()
    with Run.start(tmp_path / "again", command="study", settings={"asked": asked}) as run:
        AuditBenchmark(**{**asked.__dict__, "place": str(tmp_path / "out")})(run, say=told.append)
    assert not [line for line in told if line.startswith("auditing")]
