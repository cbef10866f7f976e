"""Means and intervals: scipy is the witness for the bootstrap and Wilson's formula for certain rates."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from heatproof.errors import InputError
from heatproof.results import interval, paired_test, summarise
from heatproof.results.table import mean_intervals, wilson


@pytest.fixture
def values():
    return np.random.default_rng(0).gamma(2.0, size=300)


@pytest.mark.parametrize("statistic", ["mean", "median", "std"])
def test_interval_is_scipys_percentile_bootstrap(values, statistic):
    ours = interval(values, statistic, draws=8000)
    theirs = stats.bootstrap((values,), getattr(np, statistic), n_resamples=8000, method="percentile", rng=1)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.value == pytest.approx(getattr(np, statistic)(values))
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.05 * width)


def test_equal_calls_give_equal_numbers_and_seeds_differ(values):
    np.random.seed(1)  # noqa: NPY002 the global generator must not matter
    first = interval(values)
    np.random.seed(2)  # noqa: NPY002
    assert interval(values) == first
    assert interval(values, seed=1) != first


def test_statistic_of_several_numbers_per_image():
    levels = np.random.default_rng(0).normal(size=(200, 4)) * 0.01 + np.array([0.0, 1.0, 2.0, 3.0])
    vid = interval(levels, lambda v, axis: v.mean(axis).std(-1), draws=500)
    assert vid.value == pytest.approx(np.std(levels.mean(0)))
    assert vid.low < vid.value < vid.high
    assert vid.high - vid.low < 0.01


def test_few_and_missing_values():
    assert interval([np.nan, 2.0])[0] == 2.0
    assert np.isnan(interval([2.0]).low)
    assert interval([]).count == 0
    # of so few photos a bootstrap draws a certainty that is none: two that are alike would be sure to the last digit
    few = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert interval(few) == pytest.approx((0.3, np.nan, np.nan, 5), nan_ok=True)
    assert np.isnan(paired_test(few, [0.0] * 5).low)
    assert interval([*few, 0.6]).low < 0.35 < interval([*few, 0.6]).high
    assert np.isnan(mean_intervals(np.array([few]).T)[0].high)
    with pytest.raises(InputError, match="value per image"):
        interval(1.0)  # pyright: ignore
    with pytest.raises(InputError, match="did you mean median"):
        interval([1.0], "medain")  # pyright: ignore


def test_summary_rows():
    rows = pl.DataFrame(
        {
            "image": [f"{n}" for n in range(9)],
            "model": ["a"] * 6 + ["b"] * 3,
            "nissim": [0.1, 0.2, 0.3, 0.1, 0.2, 0.3, float("nan"), None, 0.5],
            "fooled": [True, False, True, True, False, True, True, True, True],
        }
    )
    first, second = summarise(rows, by=["model"], metrics={"nissim": "mod", "fooled": "fsr"})
    assert first.by == {"model": "a"}
    assert first.count == 6
    mod, fsr = first.means["mod"], first.means["fsr"]
    assert mod.value == pytest.approx(0.2)
    assert mod.low is not None
    assert mod.high is not None
    assert mod.low < 0.2 < mod.high
    assert fsr.value == pytest.approx(2 / 3)
    mod, fsr = second.means["mod"], second.means["fsr"]
    assert (mod.value, mod.low, mod.high, mod.missing) == (0.5, None, None, 2)
    # three of three is no certainty: Wilson's lower end
    low = stats.binomtest(3, 3).proportion_ci(method="wilson").low
    assert (fsr.value, fsr.high) == (1.0, 1.0)
    assert fsr.low == pytest.approx(low)


def test_a_row_is_written_with_four_columns_for_each_mean():
    rows = pl.DataFrame({"image": ["0", "1", "1"], "model": "a", "m": [1.0, 2.0, None]})
    (row,) = summarise(rows, ["model"], {"m": "mean"})
    # two images are too few for an interval
    told = {"model": "a", "count": 2, "rows": 3, "mean": 1.5, "mean_low": None, "mean_high": None, "mean_missing": 1}
    assert list(row.plain().items()) == list(told.items())


def test_what_is_unknown_is_none_and_no_number():
    rows = pl.DataFrame({"image": ["0"], "m": [None]})
    (row,) = summarise(rows, [], ["m"])
    assert row.plain() == {"count": 1, "rows": 1, "m": None, "m_low": None, "m_high": None, "m_missing": 1}
    assert np.isnan(row.means["m"].number)


class Narrow(np.random.Generator):
    """Draws indices of 32 bits, as the table does."""

    def integers(self, low, high=None, size=None, dtype=np.int64, endpoint=False):  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().integers(low, high, size, np.int32, endpoint)


@pytest.mark.parametrize(("statistic", "seed"), [("mean", 0), ("median", 1), ("std", 2)])
def test_by_the_same_draws_the_intervals_are_scipys(values, statistic, seed):
    # but for the last bits: SciPy interpolates the quantile in another way
    drawn = {"n_resamples": 2000, "method": "percentile", "rng": Narrow(np.random.PCG64(seed)), "axis": 0}
    theirs = stats.bootstrap((values,), getattr(np, statistic), **drawn).confidence_interval
    np.testing.assert_allclose(interval(values, statistic, seed=seed)[1:3], theirs, rtol=1e-12)
    if statistic == "mean":
        [row] = summarise(pl.DataFrame({"m": values}), [], ["m"], seed=seed)
        low, high = row.means["m"].low, row.means["m"].high
        assert low is not None
        assert high is not None
        np.testing.assert_allclose((low, high), theirs, rtol=1e-12)


def test_summary_interval_is_the_plain_one_and_ignores_order_and_neighbours(values):
    rows = pl.DataFrame({"image": [f"{n:04}" for n in range(300)], "model": "a", "m": values})
    alone = summarise(rows, ["model"], ["m"])
    assert (alone[0].means["m"].low, alone[0].means["m"].high) == pytest.approx(interval(values)[1:3])
    more = pl.concat([rows.with_columns(model=pl.lit("b")), rows.sample(300, shuffle=True, seed=0)])
    assert summarise(more, ["model"], ["m"])[1].plain() == pytest.approx(alone[0].plain())


def test_rows_of_one_image_are_drawn_together(values):
    once = pl.DataFrame({"image": [f"{n:04}" for n in range(300)], "m": values})
    [single], [double] = summarise(once, [], ["m"]), summarise(pl.concat([once, once]), [], ["m"])
    assert (double.count, double.rows) == (300, 600)
    assert double.means["m"].low == pytest.approx(single.means["m"].low)


def test_empty_table_and_wrong_columns():
    rows = pl.DataFrame({"image": ["a"], "label": ["cat"], "m": [None]})
    assert summarise(rows.clear(), ["label"], ["m"]) == []
    assert summarise(rows, ["label"], ["m"])[0].means["m"].value is None
    with pytest.raises(InputError, match="no column 'lable'"):
        summarise(rows, ["lable"], ["m"])
    with pytest.raises(InputError, match="must be a number"):
        summarise(rows, [], ["label"])


def test_paired_test_finds_a_shift_and_no_shift():
    noise = np.random.default_rng(0)
    a = noise.normal(size=200)
    moved = paired_test(a + 0.2 + 0.1 * noise.normal(size=200), a)
    assert moved.p_value < 1e-6
    assert moved.low < 0.2 < moved.high
    still = paired_test(a, a)
    assert (still.p_value, still.difference) == (1.0, 0.0)
    null = [paired_test(noise.normal(size=60), noise.normal(size=60), draws=50).p_value for _ in range(200)]
    assert 0.01 < np.mean(np.array(null) < 0.05) < 0.1
    with pytest.raises(InputError, match="two values per image"):
        paired_test([1.0], [1.0, 2.0])


def test_paired_test_without_pairs_tells_nothing():
    found = paired_test([float("nan")], [1.0])
    assert found.count == 0
    assert np.isnan([found.p_value, found.difference, found.low, found.high]).all()


def test_columns_at_once_are_each_column_by_itself(values):
    table = np.stack([values, values[::-1] ** 2, np.sin(values), np.full(300, 2.0)], 1)
    table[7, 2] = np.nan
    alone = [interval(column) for column in table.T]
    for own, other in zip(mean_intervals(table), alone, strict=True):
        assert own == pytest.approx(other, rel=1e-12)
    assert np.isnan(mean_intervals(table[:1])[0].low)
    with pytest.raises(InputError, match=r"expected \[images, columns\], got \[300\]"):
        mean_intervals(values)


def test_blocks_of_draws_change_no_number(values, monkeypatch):
    rows = pl.DataFrame({"image": [f"{place:03}" for place in range(300)], "a": values, "b": values > 1})
    whole = interval(values), summarise(rows, [], ["a", "b"])
    monkeypatch.setattr("heatproof.results.table._ELEMENTS", 2_100)  # seven draws at a time
    assert (interval(values), summarise(rows, [], ["a", "b"])) == whole


def test_means_by_counts_are_means_of_the_drawn_images(values):
    from heatproof.results.table import LEVEL

    rows = pl.DataFrame({"image": [f"{place:03}" for place in range(300)], "a": values})
    drawn = values[np.random.default_rng(5).integers(0, 300, size=(2000, 300), dtype=np.int32)].mean(1)
    found = summarise(rows, [], ["a"], seed=5)[0].means["a"]
    expected = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-12)


@pytest.mark.parametrize(("hits", "images"), [(0, 5), (1, 7), (3, 10), (54, 55), (300, 300)])
def test_wilsons_interval_is_scipys(hits: int, images: int) -> None:
    from scipy.stats import binomtest

    wanted = binomtest(hits, images).proportion_ci(0.95, method="wilson")
    assert wilson(hits, images) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_all_rates_of_a_column_have_wilsons_interval() -> None:
    hits = [True, False] * 3 + [True] * 6
    rows = pl.DataFrame({"image": list("abcdef") * 2, "by": ["some"] * 6 + ["all"] * 6, "hit": hits})
    some, all_ = (row.means["hit"] for row in summarise(rows, ["by"], ["hit"]))
    assert (some.low, some.high) == wilson(3, 6)
    assert (all_.low, all_.high) == wilson(6, 6)
