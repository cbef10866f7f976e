"""What a defence says and draws of its training, and what is left to the first of several processes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import heatproof as hp
from heatproof.commands.defend.figures import draw_course
from heatproof.commands.defend.measure import Judged
from heatproof.commands.defend.run import DEFENDED, GIVEN, Defend, answer, run_defend
from heatproof.commands.photos import open_photos
from heatproof.errors import InputError
from heatproof.models.altered import Alteration
from heatproof.models.loading import load
from heatproof.results.run import Run
from heatproof.results.table import Mean, SummaryRow
from heatproof.robust.methods import Plain
from heatproof.training.history import History
from heatproof.training.settings import FineTune


@pytest.mark.parametrize("settings", [{"epsilons": ()}, {"judged": 0}])
def test_nothing_to_judge_by_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="at least one epsilon and one photo are needed to judge by"):
        Defend(**settings)


def test_a_course_needs_two_looks(tmp_path: Path) -> None:
    looks = [{"step": step, "accuracy": 0.9, "agreement": 1.0, "overlap": 0.4} for step in (0, 2)]
    with Run.start(tmp_path / "out", command="defend", settings={}) as run:
        # a loss that was no number at the first step leaves one
        draw_course(History(looks[:1]), 0.9, run)
        assert not run.path("figures/course.png").exists()
        draw_course(History(looks), 0.9, run)
        assert run.path("figures/course.png").exists()


def test_a_training_that_ended_early_says_why() -> None:
    history = History(best=6, stopped="no better checkpoint in 3 looks at the held-out images, at step 9")
    found: Any = SimpleNamespace(
        changed=True, accuracy_before=0.9, accuracy_after=0.89, alteration=Alteration(), history=history
    )
    rows = [
        SummaryRow({"network": name, "epsilon": 4 / 255}, 8, 8, {"overlap": Mean(value, None, None, 0)})
        for name, value in ((GIVEN, 0.25), (DEFENDED, 0.5))
    ]
    networks: dict[str, Judged] = {}
    told = answer(Defend(method=Plain()), networks, rows, found)
    assert told[0].endswith("50% of its highest cells stay the highest after Plain(), 25% before.")
    assert told[1:] == [
        "The accuracy on the held-out photos goes from 90.0% to 89.0% (1.0 points lost).",
        "It ended early: no better checkpoint in 3 looks at the held-out images, at step 9.",
    ]
    found.history = History(best=6)
    assert answer(Defend(method=Plain()), networks, rows, found) == told[:2]


def test_a_process_beside_the_first_trains_and_leaves_the_rest_to_it(tmp_path: Path) -> None:
    model, recipe = load("demo"), FineTune(steps=1, batch_size=8, weight=1.0, max_accuracy_drop=1.0)
    settings, trained = Defend(method=Plain(), explainer=hp.GradCAM(), recipe=recipe, judged=2), []
    source = open_photos(model, "demo", limit=60)
    begun: dict[str, Any] = {"command": "defend", "settings": {}}
    with Run.start(tmp_path / "out", **begun), Run.start(tmp_path / "out", **begun, process=1) as beside:
        made = run_defend(settings, model, "demo", source, beside, advance=lambda what, count: trained.append(what))
        assert made is None
        assert trained == ["training"]
        assert not beside.path("summary.json").exists()
