"""What the page says in words of a record that is odd, and which end of a column is the bad one."""

import polars as pl
import pytest

from heatproof.report.payload import table_payload
from heatproof.report.words import _duration, _text, _times


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (9000, "2.5 h")]
)
def test_a_duration_has_the_unit_that_reads_best(seconds: float, told: str) -> None:
    assert _duration(seconds) == told


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
