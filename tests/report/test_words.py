"""What the page says in words of a record that is odd, and which end of a column is the bad one."""

from pathlib import Path

import polars as pl
import pytest

from heatproof import catalog
from heatproof.report.payload import table_payload
from heatproof.report.studies import STUDIES
from heatproof.report.words import _text, _times, details, duration, title
from heatproof.results import Run, RunFiles, read_run


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (9000, "2.5 h")]
)
def test_a_duration_has_the_unit_that_reads_best(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_times_that_are_no_times_are_shown_as_they_are() -> None:
    start = "2026-01-01T10:00:00+00:00"
    assert _times({"start": start, "end": "2026-01-01T10:01:30+00:00"}).endswith("(90 s)")
    assert _times({"start": start, "end": None}) == f"{start} to ?"
    assert _times({"start": "soon", "end": "later"}) == "soon to later"


def test_a_setting_is_told_as_one_would_say_it() -> None:
    assert [_text(value) for value in (True, None, "a", [1, None, False], {"a": 1})] == [
        "yes",
        "not given",
        "a",
        "1, not given, no",
        '{"a": 1}',
    ]


def test_thresholds_too_long_for_the_page_are_told_by_what_they_hold(tmp_path: Path) -> None:
    limits = {f"number {place}": {"median": 0.1, "deviation": 0.1, "count": 3} for place in range(20)}
    given = {"limits": limits, "photo": None, "provenance": {"explainer": "GradCAM()", "date": "2026-11-21"}}
    with Run.start(tmp_path / "run", command="audit", settings={"thresholds": given, "other": "x" * 5000}) as run:
        run.append_rows(0, [{"image": "a"}])
    found = {name: value for name, value, _ in details(read_run(run.folder))}
    assert found["thresholds"] == "limits of 20 numbers, GradCAM(), 2026-11-21; in full in run.json"
    assert found["other"] == "in run.json"


@pytest.mark.parametrize(
    ("columns", "first", "descending"),
    [
        ({"nissim": [0.1, 0.9, 0.5], "spearman": [0.1, 0.2, 0.3]}, "b", True),
        ({"spearman": [0.1, 0.9, -0.5]}, "c", False),
        ({"confidence": [0.3, 0.2, 0.9]}, "b", False),
        ({"fooled": [False, False, True]}, "c", True),
    ],
)
def test_the_worst_image_comes_first(columns: dict, first: str, descending: bool) -> None:
    payload, _, _ = table_payload(pl.DataFrame({"image": ["a", "b", "c"], **columns}), {})
    image, *_ = payload["columns"]
    assert image["values"][0] == first
    assert payload["sort"]["descending"] is descending


def runs_of(*records: dict) -> list[RunFiles]:
    return [RunFiles(Path("out"), record=record) for record in records]


def test_the_heading_says_what_was_done() -> None:
    study = {"command": "study", "settings": {"name": "heo2019"}}
    other = {"command": "study", "settings": {"study": "remedies"}}
    assert title(runs_of(study)) == "Fooling heatmaps by fine-tuning (Heo et al. 2019, tables)"
    assert title(runs_of(other)) == "Can a lie be taken out of a checkpoint?"
    assert title(runs_of(other, other)) == "Can a lie be taken out of a checkpoint?"
    assert title(runs_of(study, other)) == "2 studies side by side"
    assert title(runs_of({"command": "study", "settings": {"study": "of-mine"}})) == "Study of-mine"
    assert title(runs_of({"command": "study"})) == "Study"
    assert title(runs_of({"command": "audit"}, {"command": "audit"})) == "Can these heatmaps be trusted?"
    assert title(runs_of(study, {"command": "audit"})) == "2 runs side by side"
    assert title(runs_of({"command": "dance"})) == "Run of dance"
    assert title(runs_of({})) == "A run"


def test_each_study_has_a_title_of_its_own() -> None:
    assert list(STUDIES) == list(catalog.STUDIES)
    assert len(set(STUDIES.values())) == len(STUDIES)


def test_a_run_that_was_stopped_says_how_often() -> None:
    (run,) = runs_of({"command": "audit", "resumed": ["monday", "tuesday"]})
    assert ("resumed", "2 times", "") in details(run)


def test_labels_are_kept_by_a_column_that_says_so_or_by_equal_predictions() -> None:
    told = table_payload(pl.DataFrame({"image": ["a", "b"], "label_kept": [True, None], "moved": [True, False]}), {})[0]
    quiet = told["quiet"]
    assert (quiet["kept"], quiet["metric"], quiet["threshold"]) == ([1, 0], "moved", None)
    pairs = {"image": ["a", "b"], "prediction": [3, 4], "prediction_clean": ["3", "3"], "nissim": [0.2, 0.3]}
    quiet = table_payload(pl.DataFrame(pairs), {})[0]["quiet"]
    assert (quiet["kept"], quiet["metric"], quiet["threshold"]) == ([0, 1], "nissim", 0.1)  # the worst comes first
    told = table_payload(pl.DataFrame(pairs), {"moved_above": 0.25})[0]
    assert told["quiet"]["threshold"] == 0.25
    without = {name: values for name, values in pairs.items() if name != "nissim"}
    assert table_payload(pl.DataFrame(without), {})[0]["quiet"] is None
