"""How the passes of an audit are shared out: the budget holds, and every explainer that can afford it has a jump."""

import pytest
import torch
from tests.networks import small

from heatproof.commands.audit.covering import FEWEST, jump, question
from heatproof.commands.audit.measure import Audit, measure
from heatproof.commands.audit.plan import ALONG, Plan, drafts, least_budget, map_cost, plan
from heatproof.commands.audit.run import run_audit
from heatproof.commands.audit.shipped import POPULATIONS
from heatproof.data.batches import Batch
from heatproof.data.sources import open_data
from heatproof.defences.median import MedianOfNoisy
from heatproof.defences.smoothed import Smoothed
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import IntegratedGradients, SmoothGrad
from heatproof.explainers.lrp.propagation import LRP
from heatproof.explainers.occlusion import Occlusion
from heatproof.explainers.relevance_cam import RelevanceCAM
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.results.run import Run


def test_the_witness_gets_what_the_maps_leave() -> None:
    model = small(dtype=torch.float32)
    assert map_cost(GradCAM(), model) == 0
    assert plan(GradCAM(), 180, model) == Plan(160, GradCAM(), 0)
    assert map_cost(LRP(), model) == 1
    assert plan(LRP(), 180, model).along == 0
    costs = [map_cost(one, model) for one in (SmoothGrad(), Occlusion())]
    assert costs[0] == 17
    assert costs[1] > 17


def test_dear_maps_are_drafted_so_that_a_jump_has_room() -> None:
    model = small(dtype=torch.float32)
    planned = plan(SmoothGrad(), 180, model)
    assert planned.draft == SmoothGrad(samples=4)
    assert planned.along in ALONG
    assert planned.questions >= FEWEST
    # with a larger budget fewer samples are saved, and squares are more
    rich = plan(SmoothGrad(), 2000, model)
    assert rich.draft == SmoothGrad()
    assert rich.along == ALONG[0]
    poor = plan(SmoothGrad(), least_budget(SmoothGrad(), model), model)
    assert poor == Plan(FEWEST, SmoothGrad(samples=2), None)


def test_a_budget_that_cannot_hold_is_refused_with_one_that_does() -> None:
    model = small(dtype=torch.float32)
    for explainer in (LRP(), RelevanceCAM(), SmoothGrad(), Occlusion()):
        least = least_budget(explainer, model)
        assert plan(explainer, least, model).questions >= FEWEST
        with pytest.raises(InputError, match=f"at least {least} per photo; got a budget of {least - 1}"):
            plan(explainer, least - 1, model)
    assert least_budget(GradCAM(), model) == 37


def test_drafts_end_where_the_explainer_refuses() -> None:
    assert list(drafts(Smoothed(GradCAM(), n=6))) == [Smoothed(GradCAM(), n=6), Smoothed(GradCAM(), n=3)]
    # of 5 noisy maps no two hold the median as often as is wanted
    assert list(drafts(MedianOfNoisy(GradCAM(), n=24))) == [MedianOfNoisy(GradCAM(), n=n) for n in (24, 12, 6)]
    assert list(drafts(MedianOfNoisy(GradCAM(), n=10))) == [MedianOfNoisy(GradCAM(), n=10)]
    assert list(drafts(Occlusion())) == [Occlusion()]


@pytest.mark.parametrize("explainer", POPULATIONS.values(), ids=POPULATIONS)
def test_what_is_asked_is_within_the_budget(explainer, tmp_path) -> None:
    """Counted, mosaics and what is made sure of at first included; the demo has no networks that hide a pass."""
    model, source = load("demo"), open_data("demo", limit=40)
    budget = max(49, least_budget(explainer, model))
    with Run.start(tmp_path / "out", command="audit", settings={}) as run:
        found = run_audit(Audit(explainer=explainer, budget=budget), model, source, run, draw=False)
    assert any(row["number"] == "mosaic" and row["value"] is not None for row in found["rows"])
    # nothing is left unasked either but what would not fit
    assert 0.75 * budget <= found["queries"] <= budget


@pytest.mark.parametrize("explainer", [SmoothGrad(), IntegratedGradients()])
def test_the_budget_holds_and_the_jump_is_known(explainer) -> None:
    model = small(dtype=torch.float32)
    images = torch.rand(2, 3, *model.input_shape, generator=torch.Generator().manual_seed(0))
    batch = Batch(["a", "b"], images, torch.tensor([0, 1]))
    settings = Audit(explainer=explainer, budget=240)
    planned = plan(explainer, settings.budget, model)
    rows, _ = measure(settings, model, batch, Hardware("cpu"), 2, planned)
    # the mosaics come when all photos are known
    mosaics = 1 + 2 * map_cost(planned.draft, model)
    assert rows[0]["forward_passes"] + mosaics <= settings.budget
    assert all(row["jump"] is not None for row in rows)


def test_few_squares_are_large_enough_to_reach_every_place_and_find_one_that_changes_the_map() -> None:
    model = small(dtype=torch.float32)
    model.input_size = 32
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    targets = torch.zeros(1, dtype=torch.long)
    explainer = GradCAM(relu=False)
    for along in ALONG:
        answers = question(model, images, FEWEST, None, explainer, targets, along)
        assert answers.beneath is not None
        assert answers.maps is not None
        assert answers.beneath.shape[0] == answers.maps.shape[1] == along**2
        assert bool((answers.beneath.sum(0) > 0).all())
    answers = question(model, images, FEWEST, None, explainer, targets, 3)
    own = torch.ones(1, 4, 4)
    moved = torch.ones(1, 9, 4, 4)
    calm = answers._replace(maps=moved.clone())
    moved[:, 4] = -moved[:, 4]
    assert float(jump(own, calm)) == 0
    assert float(jump(own, calm._replace(maps=moved))) > 5
