"""Whether there was a lie, from how far the maps turned."""

import polars as pl
import torch
from tests.networks import small

from heatproof.commands.repair.measure import found_in
from heatproof.commands.repair.run import Repair, answer
from heatproof.repairs.remedies import ReBN
from heatproof.repairs.repair import Repaired
from heatproof.repairs.witness import Witness
from heatproof.results.table import SummaryRow
from heatproof.training.evaluation import Evaluated
from heatproof.training.feeds import TensorFeed
from heatproof.training.history import History

MODEL = small()


def table(kept: list[float], gained: list[float], targets: list[int]) -> pl.DataFrame:
    return pl.DataFrame(
        {"kept": kept, "likeness_before": [0.0] * len(kept), "likeness_after": gained, "target": targets}
    )


def test_maps_that_stayed_are_no_lie() -> None:
    found = found_in(table([0.9] * 40, [0.2] * 40, [0, 1] * 20), MODEL)
    assert not found.lie
    assert found.turned == 0


def test_maps_that_turned_to_the_witness_are_one() -> None:
    found = found_in(table([-0.5] * 20 + [0.9] * 20, [0.6] * 40, [0, 1] * 20), MODEL)
    assert found.lie
    assert found.turned == 0.5


def test_maps_that_turned_away_from_the_witness_are_none() -> None:
    assert not found_in(table([-0.5] * 40, [-0.6] * 40, [0, 1] * 20), MODEL).lie


def test_a_lie_about_one_class_is_seen_among_many() -> None:
    """A swap turns the maps of its classes alone."""
    found = found_in(table([-0.5] * 8 + [0.9] * 192, [0.6] * 200, [2] * 10 + [0, 1] * 95), MODEL)
    assert found.turned == 0.04
    assert found.worst == ("cat", 0.8)
    assert found.lie
    few = found_in(table([-0.5] * 4 + [0.9] * 196, [0.6] * 200, [2] * 4 + [0, 1] * 98), MODEL)
    assert not few.lie  # four photos say nothing of a class


def test_a_repair_that_found_no_way_says_so() -> None:
    same, feed = Evaluated(0.5, 0.1, {}), TensorFeed(torch.rand(2, 3, 10, 10), torch.tensor([0, 1]))
    found = Repaired(MODEL, History(), same, same, None, False, feed, Witness(torch.zeros(2, 2, 2)))
    told = found_in(table([0.9] * 40, [0.2] * 40, [0, 1] * 20), MODEL)
    (sentence,) = answer(Repair(ReBN(), max_accuracy_drop=0.03), SummaryRow({}, 2, 2, {}), found, told, True)
    assert sentence.startswith(
        "No checkpoint of ReBN() came closer to the witness inside the budget of 3.0%: the model"
    )


def test_one_map_of_six_is_no_lie_yet() -> None:
    found = found_in(table([-0.5] + [0.9] * 5, [0.6] * 6, [0, 1] * 3), MODEL)
    assert (found.lie, found.unclear) == (False, True)
    many = found_in(table([-0.5] * 10 + [0.9] * 50, [0.6] * 60, [0, 1] * 30), MODEL)
    assert (many.turned, many.unclear) == (found.turned, True)
    assert many.low < 0.1 < many.high
    all_of_class = found_in(table([-0.5] * 20 + [0.9] * 40, [0.6] * 60, [0, 1] * 30), MODEL)
    assert (all_of_class.lie, all_of_class.unclear) == (True, False)
