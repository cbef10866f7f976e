"""Plots: made of odd numbers too, the same bytes each time, missing values shown as missing."""

from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from heatproof.errors import InputError
from heatproof.report import Curve, curves, distributions, matrix, plots
from heatproof.results.table import Mean, interval


@pytest.fixture
def caught(monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, path, pdf, caption: figures.append(figure) or path)
    return figures


def test_curves_have_bands_references_and_colours_of_their_own(caught):
    x = [0.0, 0.1, 0.2]
    series = {f"model $_{i}$ <b>": Curve(x, [0, i, np.nan], [0, i - 1, np.nan], [0, i + 1, np.nan]) for i in range(10)}
    curves(series, "x.png", xlabel="epsilon", ylabel="MOD", references={"noise": 0.5}, ylim=(0, None), title="t")
    [axes] = caught[0].axes
    lines = [line for line in axes.lines if line.get_label() != "noise"]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 10
    assert len(axes.collections) == 10
    curves(series, "x.png", xlabel="step", ylabel="", marks={"handed out": 0.1})
    (mark,) = [line for line in caught[1].axes[0].lines if line.get_label() == "handed out"]
    assert list(mark.get_xdata()) == [0.1, 0.1]
    assert axes.get_ylim()[0] == 0
    caught[0].canvas.draw()
    with pytest.raises(InputError, match="curve 'a'"):
        curves({"a": ([1, 2], [1])}, "x.png", xlabel="", ylabel="")


def test_a_curve_of_missing_values_alone_is_named_and_drawn_as_nothing(tmp_path):
    """Of a network whose maps are all empty nothing was measured; the figure of the others is still made."""
    none = Curve([0, 1], [np.nan, np.nan], [np.nan, np.nan], [np.nan, np.nan])
    ways: tuple[dict[str, Any], ...] = ({}, {"xlog": True}, {"ylim": (0, None)})
    for series in ({"empty": none}, {"empty": none, "full": Curve([0, 1], [0.2, 0.4], [0.1, 0.3], [0.3, 0.5])}):
        for more in ways:
            path = curves(series, tmp_path / "x.png", xlabel="x", ylabel="y", title="t", **more)
            assert path.stat().st_size > 5000


def test_missing_curves_keep_their_place_in_the_legend(caught):
    none = Curve([0, 1], [np.nan, np.nan], [np.nan, np.nan], [np.nan, np.nan])
    curves({"empty": none, "full": Curve([0, 1], [0.2, 0.4])}, "x.png", xlabel="x", ylabel="y")
    [axes] = caught[0].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["empty (no values)", "full"]
    assert len(axes.collections) == 0


def test_distributions_count_what_is_missing(caught):
    distributions({"a": [0.1, np.nan, 0.3], "none": [], "same": [2.0, 2.0]}, "x.png", xlabel="NISSIM")
    texts = [axes.texts[0].get_text() for axes in caught[0].axes]
    assert texts == ["median 0.2\nn = 2, 1 missing", "n = 0", "median 2\nn = 2"]
    with pytest.raises(InputError, match="at least one group"):
        distributions({}, "x.png", xlabel="")


def test_matrix_shows_rates_and_gaps(caught):
    matrix(np.array([[0.5, np.nan], [1.0, 0.0]]), ["a", "b"], ["c", "d"], "x.png", rates=True)
    texts = [text.get_text() for text in caught[0].axes[0].texts]
    assert texts == ["50.0%", "\N{EN DASH}", "100%", "0.0%"]
    matrix(np.array([[-2.0, 1.0]]), ["a"], ["c", "d"], "x.png", signed=True)
    norm = caught[1].axes[0].images[0].norm
    assert (norm.vmin, norm.vmax) == (-2.0, 2.0)
    with pytest.raises(InputError, match=r"\[1 rows, 2 columns\]"):
        matrix(np.zeros((2, 2)), ["a"], ["b", "c"], "x.png")


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_turned_labels_stay_inside_the_figure(caught, rows):
    names = [f"network {n}" for n in range(rows)]
    matrix(np.zeros((rows, 2)), names, ["a", "b"], "x.png", ylabel="fooled explainers", xlabel="measured", title="T")
    long = "MOD, mean NISSIM in [0, 1]; 0 = no map moved, 0.5 = unrelated maps, 1 = opposite"
    curves({"a": ([0, 1], [0, 1])}, "x.png", xlabel="epsilon", ylabel=long, title="Two\nlines")
    for figure in caught:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        box = figure.axes[0].yaxis.label.get_window_extent(canvas.get_renderer())
        assert box.y0 >= 0
        assert box.x0 >= 0
        assert box.y1 <= figure.bbox.height


def test_same_numbers_same_bytes(tmp_path):
    made = [matrix(np.eye(2), ["a", "b"], ["c", "d"], tmp_path / f"{i}.png").read_bytes() for i in range(2)]
    assert made[0] == made[1]


def test_a_logarithmic_axis_shows_its_numbers_and_an_interval_may_be_missing(caught):
    curves({"a": Curve([0.001, 0.1], [0, 1])}, "x.png", xlabel="epsilon", ylabel="MOD", xlog=True)
    [axes] = caught[0].axes
    assert axes.get_xscale() == "log"
    assert axes.xaxis.get_major_formatter()(0.001) == "0.001"
    assert not axes.collections


def test_a_mean_and_its_interval_become_a_curve():
    given = np.random.default_rng(0).normal(size=(40, 3))
    made = plots.mean_curve(given)
    y, low, high = (np.asarray(line, dtype=np.float64) for line in (made.y, made.low, made.high))
    np.testing.assert_allclose(y, given.mean(0))
    np.testing.assert_array_equal(made.x, [0, 1, 2])
    assert ((low < y) & (y < high)).all()
    means = [Mean(*interval(column)[:3], 0) for column in given.T]
    again = plots.curve_of([1, 2, 3], means)
    lines = [np.asarray(line, dtype=np.float64) for line in (again.y, again.low, again.high)]
    np.testing.assert_allclose(lines, [y, low, high], rtol=1e-12)


def test_distributions_of_nothing_but_one_value_have_room(caught):
    distributions({"same": [2.0, 2.0]}, "x.png", xlabel="NISSIM", references={"noise": 1.9})
    distributions({"none": []}, "x.png", xlabel="NISSIM")
    assert [figure.axes[0].get_xlim() for figure in caught] == [(1.5, 2.5), (0.0, 1.0)]
    assert caught[0].axes[0].lines[-1].get_xdata()[0] == 1.9


def test_a_plot_of_no_line_has_no_legend(caught):
    curves({}, "x.png", xlabel="epsilon", ylabel="MOD")
    curves({"a": Curve([0, 1], [0, 1])}, "x.png", xlabel="epsilon", ylabel="MOD")
    assert [figure.axes[0].get_legend() is None for figure in caught] == [True, False]
