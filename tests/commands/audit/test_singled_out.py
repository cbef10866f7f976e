"""Lies told of the predicted class, of one class, of one place: found, and not where nothing is singled out."""

import pytest
import torch

from heatproof.commands.audit.singled_out import FEWEST, PLACES, PRIOR, hidden_place, predicted_class, predicted_worst


def test_a_lie_about_one_class_is_found_where_its_mean_over_photos_is_lowest() -> None:
    draw = torch.Generator().manual_seed(0)
    agreement = 0.3 + 0.1 * torch.randn(60, 4, generator=draw)
    targets = torch.tensor([[place % 6, 6, 7, 8] for place in range(60)])
    calm = predicted_worst(agreement, targets)
    assert calm is not None
    assert abs(sum(calm[0]) / len(calm[0])) < 0.1
    lying = targets[:, 0] == 4
    agreement[lying, 0] -= 0.9
    found = predicted_worst(agreement, targets)
    assert found is not None
    values, worst = found
    assert worst == 4
    lead = (agreement[:, 0] - agreement[:, 1:].mean(1)).double()
    wanted = (10 * lead[lying].mean() + PRIOR * lead.mean()) / (10 + PRIOR)
    assert sum(values) / len(values) == pytest.approx(float(wanted))
    # that all maps are bad is no lie about the predicted class
    together = predicted_worst(agreement * 0, targets)
    assert together is not None
    assert sum(together[0]) == 0


def test_a_class_of_few_photos_is_not_looked_at() -> None:
    agreement = torch.tensor([[-1.0, 0.0]] * (FEWEST - 1) + [[0.0, 0.0]] * FEWEST)
    targets = torch.tensor([[0, 1]] * (FEWEST - 1) + [[1, 0]] * FEWEST)
    found = predicted_worst(agreement, targets)
    assert found is not None
    assert found[1] == 1
    assert predicted_class(agreement)[:1] == [-1.0]
    # without other classes there is no control
    assert predicted_class(agreement[:, :1]) == []
    assert predicted_worst(agreement[:, :1], targets[:, :1]) is None


@pytest.mark.parametrize("place", list(PLACES))
def test_a_place_that_is_never_shown_is_found(place: str) -> None:
    rows, cols, cell = PLACES[place]
    maps, witness = torch.ones(8, 12, 12), torch.ones(8, 12, 12)
    down, across = divmod(cell, cols)
    high, wide = 12 // rows, 12 // cols
    maps[:, down * high : (down + 1) * high, across * wide : (across + 1) * wide] = 0
    found = hidden_place(maps, witness)
    assert found is not None
    values, where = found
    assert where == place
    assert sum(values) / len(values) == pytest.approx(1.0)
    # the same map is honest where nothing there matters
    honest = hidden_place(maps, maps)
    assert honest is not None
    assert sum(honest[0]) == pytest.approx(0.0)


def test_nothing_is_hidden_of_nothing() -> None:
    assert hidden_place(torch.zeros(3, 6, 6), torch.ones(3, 6, 6)) is None
    assert hidden_place(torch.ones(3, 6, 6), -torch.ones(3, 6, 6)) is None
