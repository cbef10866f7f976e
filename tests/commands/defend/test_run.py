"""What a defence says and draws of its training, and what is left to the first of several processes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

import heatproof as hp
from heatproof.commands.defend.figures import draw_course
from heatproof.commands.defend.measure import Judged
from heatproof.commands.defend.run import DEFENDED, GIVEN, Defend, answer, gained, run_defend
from heatproof.commands.photos import open_photos
from heatproof.errors import InputError
from heatproof.models.altered import Alteration
from heatproof.models.loading import load
from heatproof.results.run import Run
from heatproof.results.table import Mean, SummaryRow, summarise
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
    history = History(
        [{"step": 9}], best=6, stopped="no better checkpoint in 3 looks at the held-out images, at step 9"
    )
    found: Any = SimpleNamespace(
        changed=True, accuracy_before=0.9, accuracy_after=0.89, alteration=Alteration(), history=history
    )
    rows = [
        SummaryRow({"network": name, "epsilon": 4 / 255}, 8, 8, {"overlap": Mean(value, None, None, 0)})
        for name, value in ((GIVEN, 0.25), (DEFENDED, 0.5))
    ]
    networks: dict[str, Judged] = {}
    told = answer(Defend(method=Plain()), networks, rows, found, 40, {})
    assert told[0].endswith(
        "of 8 held-out photos, 50% of its highest cells stay the highest after Plain(), 25% before."
    )
    kept = "those after step 6 of 9, the last at which the accuracy was seen to be inside the budget."
    assert told[1:] == [
        f"The weights handed out are {kept}",
        "The accuracy on 40 held-out photos goes from 90.0% to 89.0% (1.0 points lost).",
        "It ended early: no better checkpoint in 3 looks at the held-out images, at step 9.",
    ]
    found.history = History([{"step": 9}], best=6)
    assert answer(Defend(method=Plain()), networks, rows, found, 40, {}) == told[:3]


@pytest.mark.parametrize(
    ("photos", "more", "verdict"),
    [
        (8, 0.2, "The maps hold still better: the share of highest cells that stay changed by 20.0 ["),
        (8, -0.2, "The maps hold still worse: the share of highest cells that stay changed by -20.0 ["),
        (8, 0.0, "No difference that can be told: the share of highest cells that stay changed by "),
        (5, 0.2, "Too few photos to tell whether the maps hold still better (5 photos)."),
    ],
)
def test_better_worse_or_no_difference_is_said_of_the_same_photos(photos: int, more: float, verdict: str) -> None:
    epsilon = 4 / 255
    noise = np.resize([-0.02, 0.02, -0.01, 0.01], photos)
    table = pl.DataFrame(
        [
            {"image": str(i), "network": name, "epsilon": epsilon, "topk_intersection": 0.1 * i + value}
            for name, values in ((GIVEN, np.zeros(photos)), (DEFENDED, more + noise))
            for i, value in enumerate(values)
        ]
    )
    found: Any = SimpleNamespace(
        changed=True, accuracy_before=0.9, accuracy_after=0.9, alteration=Alteration(), history=History(best=6)
    )
    rows = summarise(table, ["network", "epsilon"], {"topk_intersection": "overlap"})
    told = answer(Defend(method=Plain()), {}, rows, found, 40, gained(table))
    assert told[0].startswith(verdict)


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
