"""Own photos' witnesses against others': exact by counting, and no acquittal of what is merely better than chance."""

from itertools import permutations

import pytest
import torch

from heatproof.commands.audit.permutation import agreements, permuted, ranks
from heatproof.commands.audit.verdict import CERTAIN, conclude, judge_own_witness
from heatproof.heatmaps import pearson
from heatproof.results.table import interval


def photos(seed: int, count: int = 5) -> torch.Tensor:
    return torch.rand(count, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_agreements_are_pearsons_of_every_pair() -> None:
    maps, witness = photos(0), photos(1)
    found = agreements(maps, witness)
    for i in range(5):
        wanted = pearson(maps[i : i + 1].expand(5, -1, -1), witness)
        torch.testing.assert_close(found[i].float(), wanted)
    # the coarser of the two sizes
    fine = witness.repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(agreements(maps, fine), found)
    # a map that is equal everywhere says nothing, and is left out
    assert agreements(torch.cat([maps, torch.ones(1, 4, 4)]), photos(1, 6)).shape == (5, 5)


def test_the_p_value_is_that_of_all_permutations() -> None:
    likeness = agreements(photos(0), photos(0) + 0.8 * photos(3))
    own = float(likeness.diagonal().mean())
    means = [float(likeness[range(5), list(order)].mean()) for order in permutations(range(5))]
    exact = sum(value >= own - 1e-9 for value in means) / len(means)
    found = permuted(likeness)
    assert found.better == pytest.approx(exact, abs=0.01)
    assert found.worse == pytest.approx(sum(value <= own + 1e-9 for value in means) / len(means), abs=0.01)
    assert permuted(likeness) == found
    assert permuted(-likeness).worse == found.better


def test_ranks_are_one_half_where_all_maps_are_alike() -> None:
    same = photos(0)[:1].expand(12, -1, -1)
    likeness = agreements(same, photos(1, 12))
    assert float(ranks(likeness).mean()) == pytest.approx(0.5)
    assert permuted(likeness).better > 0.4


def test_only_worse_than_chance_accuses_and_nothing_acquits() -> None:
    good = judge_own_witness(interval([0.9] * 20 + [0.8] * 20), 0.0001, 1.0)
    assert good.verdict == "pass"
    assert conclude([good])[0] == "cannot tell"
    unknown = judge_own_witness(interval([0.5] * 20 + [0.6] * 20), 0.2, 0.8)
    assert (unknown.verdict, conclude([unknown])[0]) == ("not applicable", "cannot tell")
    turned = judge_own_witness(interval([0.1] * 20 + [0.2] * 20), 1.0, CERTAIN)
    assert (turned.verdict, conclude([turned])[0]) == ("fail", "doubtful")
