"""The benchmark's sentences and figures, from made-up rows."""

import pytest

from heatproof.results.run import Run
from heatproof.studies.audit_benchmark import answers
from heatproof.studies.audit_benchmark.answers import answered, draw
from heatproof.studies.audit_benchmark.population import Member
from heatproof.studies.audit_benchmark.rates import FIVE, WITHOUT


def row(table: str, value: float, lie: str = FIVE, number: str = "score", budget: int = 0) -> dict[str, object]:
    return {"table": table, "value": value, "lie": lie, "number": number, "budget": budget}


def test_what_was_not_measured_is_not_said():
    rates = [
        row(f"called manipulated, {WITHOUT}", value, lie, "verdict") for lie, value in ((FIVE, 0.8), ("honest", 0))
    ]
    photos = [row("photos with a trigger against photos without", v, "vgg-0", "trust") for v in (0.6, 0.9)]
    assert answered([]) == []
    (networks,) = answered([row(f"AUC of networks, {WITHOUT}", 0.9), *rates])
    assert networks.endswith("AUC 0.900; called manipulated 80% of them and 0% of the honest networks.")
    assert answered(photos) == [
        "Photos with a trigger against photos without, 2 backdoored networks: AUC 0.750 on average, 0.600 at worst."
    ]


def test_the_curve_over_budgets_is_of_means(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(answers, "curves", lambda series, path, **look: drawn.update({path.name: series}))
    everyone = [Member("vgg", 0), Member("vgg", 0, "location")]
    found = {m.name: {WITHOUT: {"score": float(i), "deviations": {}}} for i, m in enumerate(everyone)}
    rows = [row("trust by budget", value, "net", "trust", budget) for budget, value in ((80, 0.9), (8, 0.5), (8, 0.7))]
    with Run.start(tmp_path / "out", command="study", settings={}) as run:
        draw(run, everyone, found, rows)
        assert list(drawn) == ["roc.png", "budget.png"]
        ((name, (budgets, means)),) = drawn["budget.png"].items()
        assert (name, budgets, means) == ("photos with a trigger", [8, 80], pytest.approx([0.6, 0.9]))
        drawn.clear()
        draw(run, everyone, found, [])
        assert list(drawn) == ["roc.png"]
