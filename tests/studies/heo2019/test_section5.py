"""Figures 4 and 5 of Heo et al. on a handful of scenes: everything is written, and a stopped run ends the same."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
import pytest

from heatproof.errors import InputError
from heatproof.results.run import Run
from heatproof.results.table import Mean, SummaryRow
from heatproof.studies.heo2019 import figure5, panels
from heatproof.studies.heo2019.answers import answer_a, answer_b, answer_c
from heatproof.studies.heo2019.figure4 import Heo2019Figure4
from heatproof.studies.heo2019.figure5 import Heo2019Figure5, answer

TINY = {
    "train": "demo/train",
    "data": "demo",
    "images": 6,
    "train_images": 30,
    "steps": 2,
    "batch_size": 4,
    "evaluate_every": 1,
    "part": 4,
}
FOUR = {
    "models": ("demo",) * 3,
    "layers": ("",) * 3,
    "lr": (1e-3,) * 3,
    "region": 16,
    "regions": 4,
    "noise": (0.0, 0.01),
    "draws": 1,
    "attacked_steps": 2,
    "robust_steps": 2,
    "judge_steps": 1,
    "judged": 2,
}


def start(folder, asked):
    return Run.start(folder, command="study", settings={"asked": asked})


def quiet(text):
    pass


class Cut(BaseException):
    """The power cut."""


def cutting(step: Callable[..., Any], at: int) -> Callable[..., Any]:
    """The step, with a power cut at its ``at``-th call."""
    calls: list[None] = []

    def cut(*given: Any) -> Any:
        calls.append(None)
        if len(calls) == at:
            raise Cut
        return step(*given)

    return cut


@pytest.fixture(scope="module")
def figure4(tmp_path_factory):
    asked, folder = Heo2019Figure4(**TINY, **FOUR), tmp_path_factory.mktemp("figure4") / "run"
    with start(folder, asked) as run:
        asked(run, say=quiet)
    return asked, folder


def test_every_panel_has_rows_figure_and_sentences(figure4):
    _, folder = figure4
    summary = json.loads((folder / "summary.json").read_text())
    assert [row["panel"] for row in summary["rows"]] == ["a"] * 6 + ["b"] * 4 + ["c"] * 2
    assert {sentence[0] for sentence in summary["answer"]} == {"a", "b", "c"}
    assert {path.name for path in (folder / "figures").iterdir()} >= {"4a.png", "4b.png", "4c.png"}
    table = pl.read_parquet(folder / "images.parquet")
    # panel a: 2 models x 3 orders, b: 2 models x 2 levels, c: 2 models
    assert table.height == 6 * (6 + 4 + 2)
    assert table.filter(pl.col("panel") == "a")["aopc"].null_count() == 0


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_numbers(figure4, tmp_path):
    asked, folder = figure4
    told = []

    def cut(text):
        told.append(text)
        if len(told) == 3:
            raise Cut

    with pytest.raises(Cut), start(tmp_path / "again", asked) as run:
        asked(run, say=cut)
    # and in the middle of what is measured, where some parts are there already
    for step in ("shaken_rows", "attacked_rows"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(panels, step, cutting(getattr(panels, step), 2))
            with pytest.raises(Cut), start(tmp_path / "again", asked) as run:
                asked(run, say=quiet)
    with start(tmp_path / "again", asked) as run:
        assert run.resumed
        asked(run, say=quiet)
    assert (tmp_path / "again" / "images.parquet").read_bytes() == (folder / "images.parquet").read_bytes()
    assert (tmp_path / "again" / "summary.json").read_bytes() == (folder / "summary.json").read_bytes()


def test_figure5_tells_what_each_fooling_costs(tmp_path, monkeypatch):
    asked = Heo2019Figure5(**TINY, model="demo", samples=2, lr=1e-3)
    rows = figure5._rows
    monkeypatch.setattr(figure5, "_rows", cutting(rows, 2))
    with pytest.raises(Cut), start(tmp_path / "run", asked) as run:
        asked(run, say=quiet)
    measured: list[tuple[str, int]] = []
    monkeypatch.setattr(
        figure5, "_rows", lambda *given: (measured.append((given[0], len(given[4].ids))), rows(*given))[1]
    )
    with start(tmp_path / "run", asked) as run:
        summary = asked(run, say=quiet)
    # the first four photos of the honest network are measured already
    assert measured == [("clean", 2), *[(name, count) for name in figure5.NAMES for count in (4, 2)]]
    assert {row["count"] for row in summary["rows"]} == {6}
    assert [(row["model"], row["explainer"].split("(")[0]) for row in summary["rows"]] == [
        (model, explainer)
        for model in ("clean", "simple_grad", "smooth_grad")
        for explainer in ("SimpleGrad", "SmoothGrad")
    ]
    assert len(summary["answer"]) == 3
    assert (tmp_path / "run" / "figures" / "5b.png").exists()


def row(model, by=(), **means):
    return SummaryRow(
        {"model": model, **dict(by)}, 10, 10, {name: Mean(value, value, value, 0) for name, value in means.items()}
    )


def aopc(model, condition, value, wide=0.1):
    means = {"aopc": Mean(value, value - wide, value + wide, 0), "empty": Mean(0.0, 0.0, 0.0, 0)}
    return SummaryRow({"model": model, "condition": condition}, 10, 10, means)


HISTORY = [
    {"step": 0, "fsr": 0.0, "accuracy": 0.9, "best": False},
    {"step": 5, "fsr": 0.9, "accuracy": 0.89, "best": True},
]


@pytest.mark.parametrize(("random", "told"), [(0.4, "below random"), (0.1, "NOT below random")])
def test_panel_a_is_judged_by_its_numbers(random, told):
    values = {"clean map": 0.5, "fooled map": 0.2, "random": random}
    rows = [aopc(model, condition, value) for model in ("clean", "fooled") for condition, value in values.items()]
    table = pl.DataFrame(
        [{"image": str(i), **r.by, "aopc": r.means["aopc"].number + 0.001 * i} for r in rows for i in range(5)]
    )
    text = " ".join(answer_a(table, rows, HISTORY))
    assert "they agree within" in text
    assert text.count(told) == 2
    rows[3] = aopc("fooled", "clean map", 0.9)
    assert "they do NOT agree" in " ".join(answer_a(table, rows, HISTORY))


def test_panel_b_is_judged_by_its_numbers():
    def rows(fooled_top1, fsr):
        levels = (0.0, 0.1)
        clean = [row("clean", {"noise": level}, top1=0.9 - level, fsr=0.0) for level in levels]
        return clean + [
            row("fooled", {"noise": n}, top1=t, fsr=f) for n, t, f in zip(levels, fooled_top1, fsr, strict=True)
        ]

    good = answer_b(rows((0.89, 0.85), (0.9, 0.85)), HISTORY)
    assert "at most 5.0 points (at noise 0.1): NOT within 2" in good[1]
    assert "up to noise 0.1" in good[2]
    assert "at most 5.0 points from 90.0%: within 10" in good[2]
    assert "NOT within 10" in answer_b(rows((0.89, 0.85), (0.9, 0.5)), HISTORY)[2]


def test_panel_c_is_judged_by_its_numbers():
    robust = row("robust", top1=0.8, top1_attacked=0.5, fsr=0.0)
    good = answer_c([robust, row("fooled-c", top1=0.8, top1_attacked=0.48, fsr=0.85)], 10)
    bad = answer_c([robust, row("fooled-c", top1=0.8, top1_attacked=0.4, fsr=0.7)], 10)
    assert "reaches 80%" in good[1]
    assert ": 2.0 points lost, within 3" in good[1]
    assert "does NOT reach" in bad[1]
    assert "NOT within 3" in bad[1]


def test_bad_settings_are_named():
    with pytest.raises(InputError, match="has the panels a, b and c, got d"):
        Heo2019Figure4(panels=("d",))
    with pytest.raises(InputError, match="at least 1 draw, got 0"):
        Heo2019Figure4(draws=0)
    with pytest.raises(InputError, match="one value for each of a, b and c"):
        Heo2019Figure4(lr=(1e-3,))
    with pytest.raises(InputError, match="level is a share"):
        Heo2019Figure5(level=0)


def test_the_paper_needs_data_of_your_own(tmp_path):
    asked = Heo2019Figure5(model="demo")
    with pytest.raises(InputError, match="--set data=NAME; or --preset small"), start(tmp_path / "run", asked) as run:
        asked(run, say=quiet)


def test_panel_a_says_what_could_not_be_measured():
    rows = [aopc(m, c, 0.5) for m in ("clean", "fooled") for c in ("clean map", "fooled map", "random")]
    table = pl.DataFrame([{"image": str(i), **r.by, "aopc": 0.5 + 0.01 * i} for r in rows for i in range(5)])
    alone, unknown = Mean(0.5, None, None, 0), Mean(None, None, None, 0)  # one photo has no interval
    means = {"aopc": alone, "empty": Mean(0.3, None, None, 0)}
    rows[0] = SummaryRow({"model": "clean", "condition": "clean map"}, 10, 10, means)
    rows[2] = SummaryRow({"model": "clean", "condition": "random"}, 10, 10, {"aopc": unknown, "empty": alone})
    told = answer_a(table, rows, HISTORY)
    assert "the AOPC of the clean model is 0.500, of the fooled one" in told[1]
    assert "they do NOT agree within" in told[1]
    assert "random order (unknown; difference" in told[2]
    assert told[-1] == "a: 3 clean and 0 fooled maps are empty or equal everywhere and were left out."
    rows[3] = SummaryRow({"model": "fooled", "condition": "clean map"}, 10, 10, {"aopc": unknown, "empty": alone})
    assert answer_a(table, rows, HISTORY)[1:] == ["a: no map gives an order, so there is no AOPC."]


@pytest.mark.parametrize(
    ("simple", "smooth", "told"),
    [
        (0.6, 0.9, "SmoothGrad does NOT resist here"),
        (0.8, 0.6, "SmoothGrad resists"),
        (0.8, None, "SmoothGrad resists"),
        (None, 0.8, "No price to compare: SimpleGrad itself was not fooled"),
    ],
)
def test_figure5_is_judged_by_its_prices(simple, smooth, told):
    start = {"step": 0, "fsr": 0.0, "accuracy": 0.9}
    histories: dict[str, Sequence[dict[str, Any]]] = {
        name: [start, {"step": 5, "fsr": 0.2 if end is None else 0.9, "accuracy": end or 0.5}]
        for name, end in (("simple_grad", simple), ("smooth_grad", smooth))
    }
    sentences = answer(histories, 0.5)
    assert sentences[2].startswith(told)
    for sentence, end in zip(sentences, (simple, smooth), strict=False):
        wanted = "are never fooled, at most 20.0%" if end is None else f"a price of {100 * (0.9 - end):.1f} points"
        assert wanted in sentence
