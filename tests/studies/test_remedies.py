"""Remedies against lies: what is refused, and a small study from end to end."""

from functools import partial
from pathlib import Path

import pytest

from heatproof.errors import InputError
from heatproof.results.run import Run
from heatproof.studies import remedies
from heatproof.studies.remedies import Remedies


def started(folder: Path, asked: Remedies) -> Run:
    return Run.start(folder, command="study", settings={"study": "remedies", "asked": asked})


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        (Remedies(lies=("locaton",)), "did you mean location"),
        (Remedies(remedies=("thruth",)), "did you mean truth"),
        (Remedies(families=("vgg",), lies=("location-early",)), "in residual networks alone, not in vgg"),
    ],
)
def test_names_that_are_none(asked: Remedies, match: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=match), started(tmp_path / "out", asked) as run:
        asked(run)


@pytest.mark.weights
@pytest.mark.slow
def test_a_small_study_from_end_to_end_and_again(tmp_path: Path, shared: Path) -> None:
    asked = Remedies(lies=("edit", "honest"), remedies=("rebn",), photos=(60,), limit=40, budget=1.0)
    told: list[str] = []
    with started(tmp_path / "out", asked) as run:
        summary = asked(run, say=told.append)
        rows = {row["lie"]: row for row in summary["rows"]}
        assert set(rows) == {"edit", "honest"}
        assert rows["edit"]["fsr_before"] > 0.9  # planted by hand, and no statistic of batch norm knows of it
        assert rows["edit"]["fsr_after"] > 0.9
        assert rows["edit"]["top1_before"] == rows["honest"]["top1_before"]
        assert rows["honest"]["spearman_before"] == pytest.approx(1, abs=1e-6)
        assert rows["honest"]["fsr_before"] is None
        assert len(told) == 2
        again: list[str] = []
        assert asked(run, say=again.append)["rows"] == summary["rows"]
        assert again == []  # what is done is not done again


@pytest.mark.weights
@pytest.mark.slow
def test_a_swap_is_judged_on_two_classes_and_a_backdoor_repaired_with_and_without_its_trigger(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of networks that two steps hardly changed: what is measured of them, not whether a lie was planted."""
    monkeypatch.setattr(remedies, "Population", partial(remedies.Population, steps=2, fool_limit=200))
    asked = Remedies(lies=("active_swap", "backdoor-inverted"), remedies=("rebn",), photos=(60,), limit=40, budget=1.0)
    with started(tmp_path / "out", asked) as run:
        rows = asked(run, say=lambda line: None)["rows"]
    assert [(row["lie"], row["triggered"]) for row in rows] == [
        ("active_swap", False),
        ("backdoor-inverted", False),
        ("backdoor-inverted", True),
    ]
    # a rate of each lie, and every network far nearer to its original than to another one
    assert all(0 <= row["fsr_before"] <= 0.5 for row in rows)
    assert all(row["spearman_before"] > 0.5 for row in rows)
    # the trigger on a tenth of the photos moves the statistics of batch norm, and so the repaired network
    assert rows[1]["spearman_after"] != rows[2]["spearman_after"]
