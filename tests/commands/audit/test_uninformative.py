"""Where honest networks spread as far as maps that know nothing, passing proves nothing."""

import pytest

from heatproof.commands.audit.questions import NUMBERS
from heatproof.commands.audit.shipped import POPULATIONS, thresholds_of
from heatproof.commands.audit.uninformative import uninformative, widths
from heatproof.commands.audit.verdict import DOUBT, Limits, Thresholds, calibrate, judge
from heatproof.results.table import Interval


def population(**limits: Limits) -> Thresholds:
    return Thresholds(dict(limits), None, {})


def test_a_number_that_no_map_could_fail_is_not_judged() -> None:
    assert uninformative(population(faithfulness=Limits(0.2, 0.05, 20), frame=Limits(0.3, 0.1, 20))) == {}
    found = uninformative(population(faithfulness=Limits(0.1, 0.05, 20), frame=Limits(0.3, 0.3, 20)))
    assert found.keys() == {"faithfulness", "frame"}
    assert found["faithfulness"].startswith("honest networks of this explainer have 0.1 and spread so far")
    assert found["faithfulness"].endswith("beyond -0.028, and maps that know nothing have 0")
    # those that decide nothing stay: they accuse nobody alone
    assert uninformative(population(agreement=Limits(0.0, 0.5, 20))) == {}


def test_an_exchange_must_be_seen_by_the_number_that_looks_for_it() -> None:
    sharp = {"mosaic": Limits(0.4, 0.05, 20), "mosaic_swap": Limits(-0.1, 0.05, 20)}
    assert uninformative(population(**sharp)) == {}
    assert uninformative(population(**sharp | {"mosaic": Limits(0.02, 0.01, 20)})).keys() == {"mosaic", "mosaic_swap"}


def test_the_rank_of_the_own_witness_means_nothing_where_honest_networks_have_it_at_chance() -> None:
    assert uninformative(population(own_witness=Limits(0.65, 0.05, 20))) == {}
    assert uninformative(population(own_witness=Limits(0.52, 0.05, 20))).keys() == {"own_witness"}


def test_no_honest_network_is_doubtful_where_its_architecture_is_left_out() -> None:
    values = {"a": [0.30, 0.32, 0.28], "b": [0.25, 0.26, 0.27], "c": [0.05, 0.1], "d": [0.6]}
    honest = [{"faithfulness": value} for own in values.values() for value in own]
    kinds = [kind for kind, own in values.items() for _ in own]
    known = widths(honest, kinds)
    # the worst of c lies 0.23 below the median of the others
    assert known == {"faithfulness": pytest.approx((0.28 - 0.05) / DOUBT)}
    for kind in values:
        others = [own for own, other in zip(honest, kinds, strict=True) if other != kind]
        limits = calibrate(others, [], {}, known)
        for value in values[kind]:
            assert judge("faithfulness", Interval(value, value, value, 50), limits).verdict == "pass"
    # without them c would fail
    bare = calibrate([own for own, kind in zip(honest, kinds, strict=True) if kind != "c"], [], {})
    assert judge("faithfulness", Interval(0.05, 0.05, 0.05, 50), bare).verdict == "fail"
    assert widths(honest[:6], kinds[:6]) == {}


@pytest.mark.parametrize("name", POPULATIONS)
def test_every_shipped_population_tells_something(name: str) -> None:
    found = thresholds_of(name)
    decide = [
        number
        for number in found.limits
        if NUMBERS[number].decides and NUMBERS[number].check not in ("reference", "self")
    ]
    assert len([number for number in decide if number not in uninformative(found)]) >= 4
    assert not {"frame", "hidden_place", "contrast"} & uninformative(found).keys()
