"""Whether there was a lie, from how far the maps turned."""

import polars as pl
from tests.networks import small

from heatproof.commands.repair.measure import found_in

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
