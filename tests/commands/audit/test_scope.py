"""A number is judged where it can mean something: population, budget, photos, and what the model answers."""

from dataclasses import replace

import polars as pl
import pytest
import torch

from heatproof.commands.audit.called_out import is_called_out, judge_called_out, own_threshold, proportion
from heatproof.commands.audit.faithfulness import log_odds
from heatproof.commands.audit.measure import Audit
from heatproof.commands.audit.premises import gains, is_saturated, one_class, unmet, witness_gains
from heatproof.commands.audit.scope import MOVING, SHARPENED, layout_read, moved_by_budget, network_cells, outside
from heatproof.commands.audit.shipped import POPULATIONS, thresholds_for, thresholds_of
from heatproof.commands.audit.verdict import FAIL, Limits, Thresholds, conclude, judge, judge_share, with_share
from heatproof.commands.passes import counting
from heatproof.defences.smoothed import Smoothed
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import IntegratedGradients, SimpleGrad, SmoothGrad
from heatproof.explainers.guided import GuidedBackprop
from heatproof.explainers.lrp.propagation import LRP
from heatproof.models.classifier import Classifier
from heatproof.models.layers import default_layer
from heatproof.models.loading import load
from heatproof.results.table import Interval
from heatproof.studies import small_families, small_transformers
from networks import small

SHIPPED = Thresholds.shipped()


def sized(size: int):
    model = small()
    model.input_size = size
    return model


def test_the_population_of_the_shipped_thresholds() -> None:
    model = sized(32)
    assert outside(Audit(), model, SHIPPED) is None
    # its own default layer by name is no other explainer
    assert outside(Audit(explainer=GradCAM(layer=default_layer(model))), model, SHIPPED) is None
    # by Grad-CAM's population; each but the last has its own
    for explainer in (SimpleGrad(), SmoothGrad(), IntegratedGradients(), GuidedBackprop(), LRP(), GradCAM(relu=False)):
        found = outside(Audit(explainer=explainer), model, SHIPPED)
        assert found is not None
        assert repr(explainer) in found.how
        assert "GradCAM() on 29 networks at 32 pixels" in found.population
    first = next(name for name, layer in model.network.named_modules() if isinstance(layer, torch.nn.Conv2d))
    assert outside(Audit(explainer=GradCAM(layer=first)), model, SHIPPED) is not None


@pytest.mark.parametrize(("size", "inside"), [(15, False), (16, True), (64, True), (65, False), (224, False)])
def test_a_resolution_has_three_networks_near_it(size: int, inside: bool) -> None:
    found = outside(Audit(), sized(size), SHIPPED)
    assert (found is None) == inside
    assert inside or (found is not None and f"{size} pixels" in found.how)


def test_tokens_are_outside_of_a_population_of_convolutional_networks() -> None:
    for name in ("vit", "swin"):
        model = load(f"{small_transformers.__file__}:{name}")
        found = outside(Audit(), model, SHIPPED)
        assert found is not None
        assert found.how in ("the maps are read from tokens", "the maps are read from a grid with channels last")
        kind = str(layout_read(GradCAM(), model))
        own = Thresholds({}, None, {"explainer": "GradCAM()", "budget": 45, "sizes": {"32": 3}, "layouts": [kind]})
        assert outside(Audit(), model, own) is None
        # nor do populations of convolutional networks speak for a transformer's pixels
        for explainer in (SimpleGrad(), LRP(), GuidedBackprop()):
            found = outside(Audit(explainer=explainer), model, thresholds_for(explainer, model))
            assert found is not None
            assert found.how in (
                "the network keeps its maps as tokens",
                "the network keeps its maps as a grid with channels last",
            )
    assert layout_read(GradCAM(), sized(32)) == layout_read(Smoothed(GradCAM()), sized(32)) == "NCHW"
    assert layout_read(SimpleGrad(), sized(32)) is None


def test_layer_norm_before_the_map_is_outside_of_a_population_without_it() -> None:
    torch.manual_seed(0)
    normed = Classifier(small_families.convnext(), input_size=32, name="convnext").eval()
    plain = sized(32)
    assert [network_cells(GradCAM(), model) for model in (normed, plain, load("demo"))] == ["alike", "apart", "apart"]
    found = outside(Audit(), normed, SHIPPED)
    assert found is not None
    assert "layer norm makes the features of every place equally large" in found.how
    assert outside(Audit(), plain, SHIPPED) is None
    for name in POPULATIONS:
        assert thresholds_of(name).provenance["cells"] == ["apart"]
    # of pixel maps it is the network that is of another kind
    assert outside(Audit(explainer=SimpleGrad()), normed, thresholds_for(SimpleGrad(), normed)) is not None
    own = Thresholds({}, None, {"explainer": "GradCAM()", "budget": 49, "sizes": {"32": 3}, "cells": ["alike"]})
    assert outside(Audit(), normed, own) is None
    found = outside(Audit(), plain, own)
    assert found is not None
    assert "larger than those of others" in found.how
    # tokens have no grid
    assert network_cells(GradCAM(), load(f"{small_transformers.__file__}:vit")) is None


def test_thresholds_of_ones_own_fit_their_own_explainer() -> None:
    own = Thresholds({}, None, {"explainer": "SimpleGrad()", "budget": 100, "sizes": {"224": 3}})
    assert outside(Audit(explainer=SimpleGrad()), sized(224), own) is None
    assert outside(Audit(explainer=SimpleGrad()), sized(32), own) is not None
    assert outside(Audit(), sized(32), Thresholds({}, None, {})) is None


@pytest.mark.parametrize(
    ("budget", "moved"),
    [(37, {*SHARPENED}), (48, {*SHARPENED}), (49, set()), (73, set()), (74, {*MOVING} - {"all_classes"}),
     (196, {*MOVING} - {"all_classes"}), (197, {*MOVING})],
)  # fmt: skip
def test_numbers_that_move_are_judged_near_the_budget_of_their_population(budget: int, moved: set[str]) -> None:
    assert SHIPPED.provenance["budget"] == 49
    assert moved_by_budget(Audit(budget=budget), SHIPPED).keys() == moved


def table(**columns: list) -> pl.DataFrame:
    """Twenty photos of two classes that the model gets right, whose witness gains."""
    count = len(next(iter(columns.values()))) if columns else 20
    plain = {"label": [i % 2 for i in range(count)], "target": [i % 2 for i in range(count)]}
    plain |= {"correct": [True] * count, "empty": [False] * count, "confidence": [0.9] * count}
    for name, value in {"aopc": 0.3, "aopc_random": 0.1, "aopc_witness": 0.4}.items():
        plain |= {name: [value] * count, f"{name}_log_odds": [10 * value] * count}
    return pl.DataFrame(plain | columns)


def test_what_must_hold_is_said_first() -> None:
    assert unmet(table()) == []
    assert "too few" in unmet(table(label=[0, 1]))[0]
    assert "90% of these photos wrong" in unmet(table(correct=[i < 2 for i in range(20)]))[0]
    assert unmet(table(correct=[None] * 20)) == []
    assert "empty" in unmet(table(empty=[True] * 11 + [False] * 9))[0]
    assert unmet(table(), skipped=20) == []
    assert "21 of 41 photos could not be read" in unmet(table(), skipped=21)[0]
    # random weights: nothing that is covered changes the answer
    assert "hardly depends" in unmet(table(aopc_witness=[0.1] * 20))[0]


def test_photos_of_one_class() -> None:
    assert not one_class(table())
    assert one_class(table(label=[0] * 20))
    # a rare class is a class
    assert not one_class(table(label=[0] * 45 + [1] * 5))
    assert one_class(table(label=[0] * 46 + [1] * 4))
    assert one_class(table(label=[None] * 20, target=[0] * 15 + [1] * 5))
    assert not one_class(table(label=[None] * 20, target=[0] * 14 + [1] * 6))


def test_saturated_probabilities_are_asked_for_their_log_odds() -> None:
    still = table(confidence=[0.999] * 20, aopc_witness=[0.1] * 20)
    assert is_saturated(still)
    assert witness_gains(still)
    assert not is_saturated(table(confidence=[0.98] * 20))
    assert not is_saturated(table(confidence=[0.999] * 20).drop("aopc_log_odds"))  # a run of version 0.1
    logits = torch.tensor([[200.0, 0.0, 0.0]])
    assert torch.sigmoid(torch.tensor(199.3)) == 1.0
    assert log_odds(logits, torch.tensor([0])).item() == pytest.approx(200 - torch.tensor(2.0).log().item())
    drawn = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double()
    chosen = torch.tensor([0, 1, 2, 3, 4, 0])
    p = drawn.softmax(1).gather(1, chosen[:, None])[:, 0]
    torch.testing.assert_close(log_odds(drawn, chosen), (p / (1 - p)).log())


def test_faithfulness_is_judged_together_with_the_share() -> None:
    limits = Thresholds({"faithfulness": Limits(0.5, 0.1, 4)}, None, {})
    value = 0.5 - (FAIL + 0.5) * 0.1 * 1.25**0.5
    low = judge("faithfulness", Interval(value, value, value, 50), limits)
    verdicts = [with_share(low, Interval(share, share, share, 50)).verdict for share in (0.01, 0.24, 0.3, 0.49, 0.87)]
    assert verdicts == ["fail", "fail", "doubtful", "doubtful", "pass"]
    nothing = Interval(float("nan"), float("nan"), float("nan"), 0)
    assert with_share(low, nothing).verdict == "not applicable"
    good = replace(low, verdict="pass")
    assert with_share(good, nothing) is good


def test_a_share_of_nothing_is_doubtful_and_no_more() -> None:
    assert judge_share(Interval(0.0, -0.04, 0.04, 50), "probability").verdict == "fail"
    assert judge_share(Interval(0.0, -0.06, 0.06, 50), "probability").verdict == "pass"
    assert conclude([judge_share(Interval(-0.3, -0.4, -0.2, 50), "probability")])[0] == "doubtful"


def trusts(*low: float, others: int = 54) -> pl.DataFrame:
    around = torch.linspace(-1.0, 1.0, others).tolist()
    return pl.DataFrame({"trust": [*around, *low]})


def test_six_photos_of_sixty_are_no_chance() -> None:
    # none of 60 that are alike; six far below; the photos themselves say how far is far
    assert judge_called_out(trusts(others=60), SHIPPED).verdict == "pass"
    found = judge_called_out(trusts(*[-4.0] * 6), SHIPPED)
    assert (found.value, found.verdict) == (pytest.approx(0.1), "doubtful")
    assert found.low == pytest.approx(0.0376, abs=1e-4)
    assert conclude([found])[0] == "doubtful"
    assert is_called_out(trusts(*[-4.0] * 6)) == [False] * 54 + [True] * 6
    assert judge_called_out(trusts(*[-4.0] * 2, others=58), SHIPPED).verdict == "pass"
    # many, which lie below the population's threshold as well
    assert judge_called_out(trusts(*[-9.0] * 12, others=48), SHIPPED).verdict == "fail"
    assert judge_called_out(trusts(*[-9.0] * 12, others=48), replace(SHIPPED, photo=-10.0)).verdict == "doubtful"
    # a crowd of its own does not hide what stands apart from it, and few photos have no spread
    assert own_threshold(trusts(-4.0, others=28)) is None
    assert judge_called_out(trusts(-4.0, others=28), SHIPPED).verdict == "not applicable"
    # that photos are alike supports nothing
    assert conclude([judge_called_out(trusts(others=60), SHIPPED)])[0] == "cannot tell"


def test_the_exact_interval() -> None:
    # P(X >= 6 | low) = P(X <= 6 | high) = 2.5%
    from scipy.stats import binom

    found = proportion(6, 60)
    assert binom.sf(5, 60, found.low) == pytest.approx(0.025)
    assert binom.cdf(6, 60, found.high) == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("explainer", "passes"), [(GradCAM(), 1), (SimpleGrad(), 1), (SmoothGrad(samples=5), 6), (LRP(), 1)]
)
def test_passes_are_counted_of_every_explainer(explainer, passes: int) -> None:
    model = small()
    images = torch.rand(3, 3, *model.input_shape)
    default_layer(model)  # found once
    explainer(model, images)  # LRP compares its graph with the network once for each shape
    with counting(model) as counted:
        explainer(model, images)
    assert counted.forward == 3 * passes
    if not isinstance(explainer, LRP):  # which walks back by itself
        assert counted.backward == 3 * (5 if isinstance(explainer, SmoothGrad) else 1)
    before = counted.forward
    explainer(model, images)
    assert counted.forward == before


def test_what_was_not_measured_has_no_gain() -> None:
    table = pl.DataFrame({"aopc": [0.5, None], "aopc_random": [0.25, 0.5]})
    assert gains(table, "aopc", odds=False) == [0.25, None]
    # a run of before there were log-odds
    assert gains(table, "aopc", odds=True) == []


def test_one_logit_is_its_own_log_odds() -> None:
    logits = torch.tensor([[3.0], [-1.0]])
    found = log_odds(logits, torch.tensor([0, 0]))
    assert found.tolist() == [3.0, -1.0]
    torch.testing.assert_close(found.exp() / (1 + found.exp()), logits[:, 0].double().sigmoid())


def test_a_part_has_a_photo() -> None:
    with pytest.raises(InputError, match="a part has at least 1 photo, got 0"):
        Audit(part=0)
