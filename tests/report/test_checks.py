"""The banner and the bars: where a value lies among honest networks is where it is drawn."""

import itertools

import pytest
from PIL import Image

from heatproof.report import page as page_module
from heatproof.report.checks import WIDTH, finding, groups
from heatproof.report.page import write_report
from heatproof.results import Run

CHECK = {
    "asks": "Do the maps stay off the frame?",
    "value": 0.9,
    "low": 0.85,
    "high": 0.95,
    "middle": 0.2,
    "doubtful_from": 0.4,
    "threshold": 0.5,
    "bad": "high",
}


def bar_of(**changes):
    [group] = groups({"checks": [{"title": "Failed", "checks": [{**CHECK, **changes}]}]})
    return group["checks"][0]["bar"]


def zone_at(bar, x):
    return next(zone["kind"] for zone in bar["zones"] if zone["x"] <= x <= zone["x"] + zone["width"])


@pytest.mark.parametrize(("value", "zone"), [(0.1, "good"), (0.45, "doubtful"), (0.9, "bad")])
def test_a_value_stands_in_the_zone_that_its_verdict_names(value, zone):
    bar = bar_of(value=value, low=value, high=value)
    assert zone_at(bar, bar["value"]) == zone
    mirrored = {"bad": "low", "value": -value, "low": -value, "high": -value}
    low = bar_of(**mirrored, middle=-0.2, doubtful_from=-0.4, threshold=-0.5)
    assert zone_at(low, low["value"]) == zone
    # the same bar, mirrored
    assert low["value"] == pytest.approx(WIDTH - bar["value"], abs=0.2)


def test_the_zones_fill_the_bar_and_do_not_meet():
    zones = sorted(bar_of()["zones"], key=lambda zone: zone["x"])
    assert zones[0]["x"] == 0
    for zone, following in itertools.pairwise(zones):
        assert zone["x"] + zone["width"] == pytest.approx(following["x"], abs=0.11)
    assert zones[-1]["x"] + zones[-1]["width"] == pytest.approx(WIDTH, abs=0.11)


def test_the_interval_holds_the_value_and_the_words_say_what_is_drawn():
    bar = bar_of()
    assert bar["low"] < bar["value"] < bar["low"] + bar["width"]
    assert bar["words"] == "value 0.9; doubtful above 0.4; fails above 0.5"


@pytest.mark.parametrize(
    "damage", [{"value": None}, {"value": float("nan")}, {"threshold": "0.5"}, {"doubtful_from": []}]
)
def test_what_cannot_be_drawn_has_no_bar(damage):
    assert bar_of(**damage) is None


def test_a_value_on_both_limits_has_a_bar_of_some_width():
    bar = bar_of(value=1.0, low=1.0, high=1.0, middle=1.0, doubtful_from=1.0, threshold=1.0)
    assert 0 < bar["value"] < WIDTH


@pytest.mark.parametrize("checks", [None, "x", [1], [{"checks": 3}], [{"checks": [7]}], [{"checks": []}]])
def test_checks_of_a_strangers_summary_are_left_out_where_they_are_none(checks):
    assert groups({"checks": checks}) == []


def test_a_banner_is_a_word_and_a_sentence_or_none():
    told = {"word": "supported", "sentence": "They are.", "tone": "good", "grounds": ["60 photos."]}
    assert finding({"finding": told}) == told
    odd = finding({"finding": {**told, "tone": "x onload=alert(1)"}})
    assert odd is not None
    assert odd["tone"] == "unknown"
    assert finding({"finding": {"word": 3, "sentence": "They are."}}) is None
    assert finding({"finding": {"word": "supported"}}) is None
    assert finding({}) is None


def test_a_picture_is_taken_from_the_run_folder_alone_and_where_there_is_room(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "outside.png")
    with Run.start(tmp_path / "run", command="audit", settings={}) as run:
        (run.path("figures/checks/frame.png")).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(run.path("figures/checks/frame.png"))
        places = ["figures/checks/frame.png", "../outside.png", "figures/checks/none.png", 7, None]
        checks = [{**CHECK, "picture": place} for place in places]
        run.write_json("summary.json", {"rows": [], "checks": [{"title": "Failed", "checks": checks}]})
    page = write_report([tmp_path / "run"]).read_text()
    assert page.count('<figure class="example">') == 1
    # a picture that is larger than what the page has room for stays outside
    monkeypatch.setattr(page_module, "FIGURES", 1e-6)
    assert '<figure class="example">' not in write_report([tmp_path / "run"]).read_text()


def test_what_is_next_to_nothing_is_told_as_nothing():
    [group] = groups({"checks": [{"checks": [{**CHECK, "value": 1.8e-17, "low": 1.5e-17, "high": 2e-17}]}]})
    assert group["checks"][0]["value"] == "0 [0, 0]"
    assert group["checks"][0]["bar"]["words"].startswith("value 0;")
