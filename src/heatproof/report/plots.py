"""Plots of numbers: curves with intervals, distributions per condition, annotated tables."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

from heatproof.errors import InputError
from heatproof.report.style import (
    CYCLE,
    DIVERGING,
    FAINT,
    INK,
    LARGE,
    MARKERS,
    MUTED,
    NORMAL,
    SMALL,
    fit,
    percent,
    save,
    short_number,
    styled,
    text_width,
)
from heatproof.results.table import Mean, mean_intervals

UPRIGHT = 1.9
"""Inches for the turned label of the y axis of a plot of curves."""
TABLE = "Blues"
"""Unsigned tables: light, so that numbers are read and printed well."""


class Curve(NamedTuple):
    """A line over ``x``, with the ends of an interval where there is one; missing values leave a gap."""

    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None


def curve_of(x: Any, means: Sequence[Mean]) -> Curve:
    """Means with their intervals, one at each ``x``."""
    rows = [[mean.value, mean.low, mean.high] for mean in means]
    return Curve(x, *np.array(rows, dtype=np.float64).reshape(-1, 3).T)


def mean_curve(values: NDArray[Any], x: Any = None, seed: int = 0) -> Curve:
    """The mean over images of each column of ``[images, steps]`` with its 95% interval, as a curve to plot."""
    ends = mean_intervals(values, seed=seed)
    x = np.arange(len(ends)) if x is None else x
    return Curve(x, [e.value for e in ends], [e.low for e in ends], [e.high for e in ends])


@styled
def curves(
    series: Mapping[str, Curve | Sequence[ArrayLike]],
    path: Path | str,
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    references: Mapping[str, float] | None = None,
    marks: Mapping[str, float] | None = None,
    ylim: tuple[float | None, float | None] | None = None,
    xlog: bool = False,
    xticks: Mapping[float, str] | None = None,
    pdf: bool = False,
) -> Path:
    """Lines with interval bands, each with a colour and a marker of its own.

    Args:
        series: by name, a :class:`Curve` or a tuple ``(x, y)`` or ``(x, y, low, high)``.
        path: of the PNG.
        xlabel: the meaning and unit of x.
        ylabel: the meaning, unit and direction of y.
        title: over the plot; may be empty.
        references: levels of y drawn as dashed lines, by name.
        marks: values of x drawn as upright dotted lines, by name.
        ylim: the ends of the y axis; None leaves an end to the data.
        xlog: whether x is logarithmic.
        xticks: texts at values of x, instead of numbers of the axis's own choice.
        pdf: whether to write a PDF beside it.

    Returns:
        The PNG's path.

    Raises:
        InputError: a curve whose parts differ in length.
        RunError: the file cannot be written.
    """
    figure = Figure(figsize=(5.4, 2.9), layout="constrained")
    axes = figure.add_subplot()
    for i, (name, given) in enumerate(series.items()):
        _draw_curve(axes, i, name, given)
    for i, (name, level) in enumerate((references or {}).items()):
        style = ((0, (4, 2)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)))[i % 3]
        axes.axhline(level, color=MUTED, linewidth=0.9, linestyle=style, label=fit(name, 1.6, SMALL + 0.5, lines=3))
    for name, place in (marks or {}).items():
        axes.axvline(place, color=INK, linewidth=0.9, linestyle=":", label=fit(name, 1.6, SMALL + 0.5, lines=3))
    if xlog:
        axes.set_xscale("log")
        # text is never read as formulas here, and matplotlib's own labels of a logarithmic axis are formulas
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if xticks is not None:
        axes.set_xticks(list(xticks), list(xticks.values()))
    if ylim is not None:
        axes.set_ylim(*ylim)
    # turned text that is longer than its axis would leave the figure
    axes.set(xlabel=xlabel, ylabel=fit(ylabel, UPRIGHT, NORMAL, lines=3))
    _title(axes, title)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    if series or references:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0, labelspacing=0.7, handlelength=2.4)
    return save(figure, path, pdf, _caption(title, f"{ylabel} over {xlabel}", series))


def _draw_curve(axes: Axes, place: int, name: str, given: Curve | Sequence[ArrayLike]) -> None:
    x, y, *ends = (None if part is None else np.asarray(part, dtype=np.float64) for part in given)
    assert x is not None
    assert y is not None
    curve = Curve(x, y, *ends)
    lengths = {len(np.atleast_1d(part)) for part in curve if part is not None}
    if len(lengths) != 1:
        raise InputError(f"expected as many x as y values for the curve {name!r}, got lengths {sorted(lengths)}")
    look: dict[str, Any] = {"color": CYCLE[place % len(CYCLE)], "marker": MARKERS[place % len(MARKERS)]}
    look["linestyle"] = ("-", "--", ":")[place // len(CYCLE) % 3]
    if not np.isfinite(curve.y).any():
        # a line of gaps alone has no ends, and matplotlib cannot measure its band
        axes.plot([], [], label=fit(f"{name} (no values)", 1.6, SMALL + 0.5, lines=3), **look)
        return
    many = next(iter(lengths)) > 40
    axes.plot(curve.x, curve.y, label=fit(name, 1.6, SMALL + 0.5, lines=3), markevery=0.1 if many else None, **look)
    if curve.low is not None and curve.high is not None:
        axes.fill_between(curve.x, curve.low, curve.high, color=look["color"], alpha=0.15, linewidth=0)


@styled
def distributions(
    groups: Mapping[str, ArrayLike],
    path: Path | str,
    *,
    xlabel: str,
    title: str = "",
    references: Mapping[str, float] | None = None,
    xlim: tuple[float, float] | None = None,
    bins: int = 40,
    pdf: bool = False,
) -> Path:
    """One histogram per condition over the same axis, with median and count; each is scaled to its own highest bar.

    Args:
        groups: values per image, by condition; missing ones are left out and counted.
        path: of the PNG.
        xlabel: the meaning, unit and direction of the values.
        title: over the plot; may be empty.
        references: values of x drawn as dashed lines, by name.
        xlim: the ends of the axis; None for those of the data.
        bins: bars over the axis.
        pdf: whether to write a PDF beside it.

    Returns:
        The PNG's path.

    Raises:
        InputError: no group.
        RunError: the file cannot be written.
    """
    if not groups:
        raise InputError("expected at least one group of values, got none")
    given = {name: np.asarray(values, dtype=np.float64).ravel() for name, values in groups.items()}
    finite = {name: values[np.isfinite(values)] for name, values in given.items()}
    together = np.concatenate(list(finite.values()))
    low, high = xlim or (float(together.min(initial=np.inf)), float(together.max(initial=-np.inf)))
    if not low < high:
        low, high = (low - 0.5, low + 0.5) if np.isfinite(low) else (0.0, 1.0)
    edges = np.linspace(low, high, bins + 1)
    figure = Figure(figsize=(5.4, 0.9 + 0.5 * len(given)), layout="constrained")
    panels = figure.subplots(len(given), 1, sharex=True, squeeze=False)[:, 0]
    for i, ((name, values), axes) in enumerate(zip(finite.items(), panels, strict=True)):
        tallest = np.histogram(values, edges)[0].max(initial=1)
        axes.hist(values, edges, color=CYCLE[i % len(CYCLE)], alpha=0.75, weights=np.full(len(values), 1 / tallest))
        missing = len(given[name]) - len(values)
        note = f"n = {len(values)}" + (f", {missing} missing" if missing else "")
        if len(values):
            axes.axvline(np.median(values), color=INK, linewidth=1.2)
            note = f"median {short_number(float(np.median(values)))}\n{note}"
        axes.text(1.01, 0.5, note, transform=axes.transAxes, fontsize=SMALL, va="center", color=MUTED)
        for level in (references or {}).values():
            axes.axvline(level, color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)))
        axes.set(yticks=[], ylim=(0, 1.08), xlim=(low, high))
        axes.spines["left"].set_visible(False)
        label = fit(name, 1.2, NORMAL, lines=3)
        axes.set_ylabel(label, rotation=0, ha="right", va="center", multialignment="right")
    panels[-1].set_xlabel(_with_references(xlabel, references))
    panels[-1].xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    _title(panels[0], title)
    return save(figure, path, pdf, _caption(title, f"How often {xlabel} has which value", given))


@styled
def matrix(
    values: NDArray[Any],
    rows: Sequence[str],
    columns: Sequence[str],
    path: Path | str,
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    rates: bool = False,
    signed: bool = False,
    limits: tuple[float, float] | None = None,
    pdf: bool = False,
) -> Path:
    """A table whose cells are coloured by their numbers, such as one of fooled against measured explainers.

    Args:
        values: ``[rows, columns]``; NaN where there is none.
        rows: their names.
        columns: their names.
        path: of the PNG.
        title: over the table; may be empty.
        xlabel: what the columns are.
        ylabel: what the rows are.
        rates: whether the values are rates in [0, 1], shown in percent.
        signed: whether zero is the middle of the colours.
        limits: the ends of the colours; None for [0, 1] with ``rates``, else those of the data.
        pdf: whether to write a PDF beside it.

    Returns:
        The PNG's path.

    Raises:
        InputError: the names do not fit the values.
        RunError: the file cannot be written.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (len(rows), len(columns)) or values.size == 0:
        raise InputError(f"expected values [{len(rows)} rows, {len(columns)} columns], got the shape {values.shape}")
    norm = Normalize(*(limits or _limits(values, rates, signed)))
    colours = mpl.colormaps[DIVERGING if signed else TABLE].with_extremes(bad="#eeeeee")
    heads = [fit(name, 0.78, SMALL + 0.5, lines=4) for name in columns]
    names = [fit(name, 1.5, SMALL + 0.5, lines=2) for name in rows]
    aside = max(text_width(line, SMALL + 0.5) for name in names for line in name.split("\n"))
    above = max(head.count("\n") + 1 for head in heads) * 0.13
    # the turned label stands beside the cells, which grow to its length where a line break is not enough
    label = fit(ylabel, max(0.36 * len(rows), 0.7), NORMAL, lines=3)
    cells = max(0.36 * len(rows), *(text_width(line, NORMAL) for line in label.split("\n")))
    beside = 1.2 + 0.13 * label.count("\n")
    size = beside + aside + 0.82 * len(columns), 0.55 + above + cells + 0.2 * bool(title)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(np.ma.masked_invalid(values), norm=norm, cmap=colours, aspect="auto")
    for (r, c), value in np.ndenumerate(values):
        ground = colours(norm(value)) if np.isfinite(value) else (1.0, 1.0, 1.0, 1.0)
        axes.text(c, r, _cell(value, rates), ha="center", va="center", fontsize=NORMAL, color=_readable(*ground[:3]))
    _name_cells(axes, names, heads)
    axes.set(xlabel=xlabel, ylabel=label)
    _title(axes, title)
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    if rates:
        bar.ax.yaxis.set_major_formatter(lambda value, place: f"{100 * value:.0f}%")
    bar.ax.tick_params(length=2)
    down = f"Down, {ylabel or 'rows'}: {', '.join(rows)}"
    return save(figure, path, pdf, _caption(title, f"{down}. Across, {xlabel or 'columns'}", columns))


def _cell(value: float, rate: bool) -> str:
    if np.isnan(value):
        return "\N{EN DASH}"
    return percent(value) if rate else short_number(value)


def _readable(red: float, green: float, blue: float) -> str:
    """The colour of text on this ground: white on dark, ink on light (by the luma of ITU-R BT.601)."""
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else INK


def _name_cells(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    """The names of a matrix beside and over it, and white lines between its cells."""
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(1, len(columns)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(rows)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)


def _limits(values: NDArray[Any], rates: bool, signed: bool) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if signed:
        reach = float(np.abs(finite).max(initial=0.0)) or 1.0
        return -reach, reach
    if rates:
        return 0.0, 1.0
    low, high = float(finite.min(initial=np.inf)), float(finite.max(initial=-np.inf))
    return (low, high) if low < high else (0.0, 1.0)


def _title(axes: Axes, title: str) -> None:
    if title:
        axes.set_title(fit(title, 5.0, LARGE, lines=2), loc="left", pad=8)


def _caption(title: str, shown: str, names: Iterable[str]) -> str:
    listed = ", ".join(names)
    shown = shown[:1].upper() + shown[1:]
    return f"{title}. {shown}: {listed}." if title else f"{shown}: {listed}."


def _with_references(xlabel: str, references: Mapping[str, float] | None) -> str:
    levels = ", ".join(f"{name} ({short_number(level)})" for name, level in (references or {}).items())
    return f"{xlabel}\ndashed: {levels}" if levels else xlabel
