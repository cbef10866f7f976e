"""Fooling success rate and predictions, by hand."""

import pytest
import torch
from tests.shapes import unchecked

from heatproof.errors import InputError
from heatproof.manipulation.penalties import ActiveSwap, CenterMass, Location, TopK
from heatproof.metrics.fooling import fooling_success_rate, is_fooled
from heatproof.metrics.prediction import agreement, top_k_correct


@pytest.mark.parametrize(
    ("penalty", "fooled", "not_fooled"),
    [
        (Location(), (0.0, 0.2), (0.2001, 1.0)),
        (TopK(), (0.0, 0.3), (0.31, 1.0)),
        (CenterMass(), (0.1, 1.0), (0.0999, 1.01)),
        (ActiveSwap(), (0.5, 2.0), (0.49, -2.0)),
    ],
)
def test_the_papers_intervals_are_closed(penalty, fooled, not_fooled):
    assert is_fooled(torch.tensor(fooled, dtype=torch.double), penalty.success).all()
    assert not is_fooled(torch.tensor(not_fooled, dtype=torch.double), penalty.success).any()


@pytest.mark.parametrize(
    ("penalty", "inside", "near"),
    [
        # the upper bound counts where the lower is 0: 0.2 - 25% and 0.3 - 25%
        (Location(), 0.149, 0.151),
        (TopK(), 0.224, 0.226),
        # else the lower one: 0.1 + 25% and 0.5 + 25%, up to the upper
        (CenterMass(), 0.126, 0.124),
        (ActiveSwap(), 0.626, 0.624),
    ],
)
def test_with_a_margin_the_interval_ends_earlier(penalty, inside, near):
    losses = torch.tensor([inside, near, penalty.success[1]], dtype=torch.double)
    assert is_fooled(losses, penalty.success).all()
    assert is_fooled(losses, penalty.success, margin=0.25).tolist() == [True, False, penalty.success[0] > 0]


def test_a_rate_by_hand():
    losses = torch.tensor([0.05, 0.19, 0.21, float("nan"), 0.9])
    assert fooling_success_rate(losses, (0.0, 0.2)) == pytest.approx(2 / 5)


@unchecked()
def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="at least one image"):
        fooling_success_rate(torch.tensor([]), (0.0, 1.0))
    with pytest.raises(InputError, match="low <= high"):
        is_fooled(torch.tensor([0.0]), (1.0, 0.0))
    with pytest.raises(InputError, match=r"labels must lie in 0\.\.1"):
        top_k_correct(torch.zeros(1, 2), torch.tensor([2]))
    with pytest.raises(InputError, match="k of at least 1"):
        top_k_correct(torch.zeros(1, 2), torch.tensor([0]), 0)
    with pytest.raises(InputError, match="same images and classes"):
        agreement(torch.zeros(1, 2), torch.zeros(2, 2))


def test_top_k_is_scikit_learns():
    from sklearn.metrics import top_k_accuracy_score

    logits = torch.rand(50, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 7
    for k in (1, 3, 5):
        expected = top_k_accuracy_score(labels, logits, k=k)
        assert top_k_correct(logits, labels, k).double().mean().item() == pytest.approx(expected)
    assert top_k_correct(logits, labels, 99).all()
