"""Every column of every verb's tables stands in the glossary: no page shows a programmer's name as a head."""

import json
from dataclasses import fields
from pathlib import Path

import polars as pl
import pytest
from tests.command_line import heatproof

from heatproof import catalog, spec
from heatproof.commands.audit.verdict import Check
from heatproof.commands.repair.run import METRICS as REPAIRED
from heatproof.glossary import GLOSSARY, OF_VERB, term

SMALL = ["--limit", "2"]
TRAINED = ["--limit", "60", "--steps", "1", "--max-accuracy-drop", "1", "--batch-size", "8"]
FEW = (
    *("aopc(steps=2)", "aopc(steps=2, order='least')", "aopc(steps=2, order='random')", "deletion(steps=2)"),
    *("insertion(steps=2)", "road(fractions=(0.3,))", "infidelity(samples=2)", "sensitivity_max(samples=2)"),
    *("stability(samples=2)", "randomisation(at_most=1)", "weight_noise(levels=(0.1,), draws=1)"),
)
VERBS = {
    "explain": ["demo", "--model", "demo", *SMALL],
    "shift": ["demo", "--model", "demo", *SMALL, "--epsilon", "2/255", "--epsilon", "4/255"],
    "compare": ["demo", "demo", "demo", *SMALL],
    "evaluate": ["demo", "demo", *SMALL, *(word for name in FEW for word in ("--metric", name))],
    "fool": ["demo", "--model", "demo", *TRAINED, "--penalty", "location()"],
    "defend": ["demo", "--model", "demo", *TRAINED, "--judged", "2", "--attack-steps", "1"],
}


def unknown(verb: str, columns: set[str]) -> list[str]:
    """Columns without a word; those of an interval belong to their mean."""
    ends = {f"{name}{end}" for name in columns for end in ("_low", "_high", "_missing")} | {"bad"}
    known = {*GLOSSARY, *OF_VERB.get(verb, {})}
    return sorted(column for column in columns - ends if column not in known or "_" in term(column, verb).head)


@pytest.mark.parametrize("verb", VERBS)
def test_the_columns_of_a_run_have_words(verb: str, tmp_path: Path) -> None:
    assert heatproof(verb, *VERBS[verb], "--out", str(tmp_path / "out")) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    columns = {key for row in summary["rows"] for key in row}
    columns |= set(pl.read_parquet(tmp_path / "out/images.parquet").columns)
    assert not unknown(verb, columns)


def test_the_columns_of_an_audit_a_repair_and_of_every_metric_have_words() -> None:
    audited = Path(__file__).parents[1] / "commands/audit/run_0.1/images.parquet"
    # the interval of a check is written as that of its value
    checks = {field.name for field in fields(Check)} - {"low", "high"}
    assert not unknown("audit", checks | set(pl.read_parquet(audited).columns))
    assert not unknown("repair", {*REPAIRED, *REPAIRED.values()})
    metrics = [spec.build(f"{name}()", catalog.METRICS, "metric") for name in catalog.METRICS]
    assert not unknown("evaluate", {column.name for metric in metrics for column in metric.columns})


def test_a_column_that_nobody_named_is_found() -> None:
    assert unknown("shift", {"mod", "mod_low", "my_number"}) == ["my_number"]
