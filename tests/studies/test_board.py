"""The board of explanations: whole and tiny, gone on with, its ranks, and what is handed in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.stats import kendalltau
from tests.command_line import heatproof
from torch import nn

from heatproof.attacks import corruption
from heatproof.commands.passes import counting
from heatproof.defences.smoothed import Smoothed
from heatproof.defences.softplus import Softplus
from heatproof.errors import InputError
from heatproof.explainers.attention import Chefer
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.processes import Processes
from heatproof.results.run import Run
from heatproof.studies.board import networks
from heatproof.studies.board import run as study
from heatproof.studies.board.columns import BY_NAME, COLUMNS
from heatproof.studies.board.measure import MEASURES
from heatproof.studies.board.networks import Network, needs_softplus, plain_of, rows_of, seeded
from heatproof.studies.board.ranks import answers, board, cells_of, filled, kendall, known, ranked
from heatproof.studies.board.run import Board

# maps of random weights are empty here and there
pytestmark = pytest.mark.filterwarnings("ignore:the objective's gradient is zero")
FACTORY = """
import torch
from torch import nn

def tiny():
    # classes are colours: red, green, blue, white
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4),
    )
    with torch.no_grad():
        for layer in (network[0], network[2], network[6]):
            layer.weight.mul_(0.1)
        seen = torch.tensor([[1.0, -1, 0], [0, 1, -1], [-1, 0, 1], [1, 1, 1]])
        network[0].weight[:, :, 1, 1] += seen
        network[2].weight[:, :, 1, 1] += torch.eye(4)
        network[6].weight += torch.eye(4)
    network.input_size, network.classes = 32, ["a", "b", "c", "d"]
    network.mean, network.std = (0.5,) * 3, (0.25,) * 3
    return network
"""
COLOURS = ((0.9, 0.1, 0.1), (0.1, 0.9, 0.1), (0.1, 0.1, 0.9), (0.9, 0.9, 0.9))
SMALL = (
    *("--set", "photos=4", "--set", "seeds=2", "--set", "copies=2", "--set", "steps=2", "--set", "removals=2"),
    *("--set", "lie_steps=2", "--set", "lie_photos=8", "--set", "lie_batch=4", "--set", "watched=4"),
    *("--set", "networks=demo"),
)
# what every machine can measure; tests/peers has the corruptions
BARE = tuple(column.name for column in COLUMNS if column.name != "corruption")
FEW = ("--set", "explainers=gradcam", "--set", "defences=none", "--set", "defences=smoothed")
MEASURED = tuple(word for name in BARE for word in ("--set", f"measure={name}"))
FILES = ("cells.parquet", "images.parquet", "measured.parquet", "summary.json")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network of a few weights in the place of ``demo``, and a folder of photos."""
    factory = tmp_path / "tiny.py"
    factory.write_text(FACTORY)
    generator = np.random.default_rng(0)
    for label, colour in zip("abcd", COLOURS, strict=True):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for number in range(4):
            pixels = 0.8 * np.array(colour) + 0.2 * generator.random((32, 32, 3))
            Image.fromarray((255 * pixels).astype(np.uint8)).save(folder / f"{number}.png")
    photos = str(tmp_path / "photos")
    own = Network(f"{factory}:tiny", photos, photos, 8, "small")
    monkeypatch.setitem(networks.NETWORKS, "demo", own)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_the_whole_board_at_its_smallest(tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    words = ("study", "board", *SMALL, *FEW, *MEASURED)
    assert heatproof(*words, "--out", "whole") == 0
    summary = json.loads((tiny / "whole" / "summary.json").read_text())
    rows = sorted((row["explainer"], row["defence"]) for row in summary["rows"])
    assert rows == [("gradcam", defence) for defence in ("none", "smoothed")]
    assert [entry["column"] for entry in summary["ranks"]] == list(BARE)
    helped = {entry["column"]: entry["help"] for entry in summary["columns"]}
    assert all("Kendall" in helped[name] or " not " in helped[name] for name in BARE)
    cells = pl.read_parquet(tiny / "whole" / "cells.parquet")
    assert set(cells["column"]) == set(BARE) - {"certified"}
    assert summary["first_figure"] == "board-demo"
    assert (tiny / "whole" / "figures" / "board-demo.png").is_file()
    # every row, column and seed that has a value
    assert cells.group_by("column").agg(pl.len()).filter(pl.col("column") == "pgd")["len"].to_list() == [4]
    images = pl.read_parquet(tiny / "whole" / "images.parquet")
    assert images.height == 4 * 2 * 2
    page = (tiny / "whole" / "report.html").read_text()
    assert "Which explanation holds still, which can be bought" in page

    # stopped in the middle, and gone on with: the same bytes
    made, done = study.cell, list[str]()

    def stop(unit: Any, column: str, seed: int) -> Any:
        done.append(column)
        if len(done) == 20:
            raise KeyboardInterrupt
        return made(unit, column, seed)

    monkeypatch.setattr(study, "cell", stop)
    assert heatproof(*words, "--out", "stopped") == 130
    kept = len(list((tiny / "stopped" / "parts").glob("*.parquet")))
    assert kept == 19
    monkeypatch.setattr(study, "cell", made)
    assert heatproof(*words, "--out", "stopped") == 0
    for name in FILES:
        assert (tiny / "stopped" / name).read_bytes() == (tiny / "whole" / name).read_bytes(), name
    capsys.readouterr()
    # complete: nothing is measured again
    monkeypatch.setattr(study, "cell", lambda *asked: pytest.fail("measured again"))
    assert heatproof(*words, "--out", "whole") == 0
    assert "complete already" in said(capsys)
    # a finished board lends its cells
    assert heatproof("study", "board", *SMALL, *FEW, "--set", "base=whole", *MEASURED[:4], "--out", "lent") == 0


def test_a_package_that_is_missing_is_said_before_anything_is_measured(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(corruption, "installed", lambda: False)
    monkeypatch.setattr(study, "cell", lambda *asked: pytest.fail("measured"))
    assert heatproof("study", "board", *SMALL, *FEW, "--out", "none") == 2
    sentence = said(capsys)
    assert "pip install heatproof[corruptions]" in sentence
    assert "--set measure=pgd" in sentence
    assert "fooled through" not in sentence


def test_processes_share_the_rows(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Board(
        ("demo",), explainers=("gradcam",), defences=("none", "contrast"), measure=("noise", "aopc"), photos=3
    )
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    with Run.start(tiny / "alone", command="study", settings={}) as alone:
        asked(alone)
    with Run.start(tiny / "two", command="study", settings={}) as first:
        second = Run.start(tiny / "two", command="study", settings={}, process=1)
        assert asked(second, processes=Processes(1, 2)) == {}
        # three seeds of noise and of AOPC
        assert len(first.parts()) == 6
        asked(first, processes=Processes(0, 2))
    for name in FILES:
        assert (tiny / "two" / name).read_bytes() == (tiny / "alone" / name).read_bytes(), name


def test_the_columns_are_described_and_measured() -> None:
    assert list(MEASURES) == [column.name for column in COLUMNS]
    for column in COLUMNS:
        assert column.meaning.endswith(".")
        assert column.source


def unit(tiny: Path, explainer: str = "gradcam", defence: str = "none") -> Any:
    from heatproof.models.hardware import Hardware
    from heatproof.studies.board.lies import Lies
    from heatproof.studies.board.unit import key_of

    asked = Board(("demo",), explainers=(explainer,), defences=(defence,), photos=4, copies=2, steps=3, watched=4)
    run = Run.start(tiny / f"unit-{explainer}-{defence}", command="study", settings={})
    lies = Lies(run, asked.fooling, key_of)
    [found] = asked._units(asked._opened("demo", Hardware()), lies, run, Hardware())
    return found


@pytest.mark.parametrize("column", ["pgd", "aopc", "noise", "fgsm"])
def test_a_column_costs_its_passes(tiny: Path, column: str) -> None:
    """At most 1.15 times what the bare attack or metric and the maps it needs take: clean maps are made once."""
    from heatproof.attacks.gradient import PGD
    from heatproof.attacks.noise import RandomSign
    from heatproof.metrics.faithfulness import AOPC
    from heatproof.studies.board.unit import goal_of

    own = unit(tiny, defence="smoothed")
    model, images, explainer, budget = own.model, own.images, own.explainer(0), own.budgets
    clean = own.clean(0)
    with counting(model) as spent:
        MEASURES[column](own, 0)
    with counting(model) as bare:
        if column == "aopc":
            AOPC(region=8, steps=budget.removals)(model, images, clean.heatmaps, clean.targets)
        elif column == "noise":
            moved = RandomSign(budget.epsilon)(lambda images: images.sum((1, 2, 3)), images)
            explainer(model, moved, clean.targets)
        else:
            steps = budget.steps if column == "pgd" else 1
            moved = PGD(budget.epsilon, steps)(goal_of(model, explainer), images)
            explainer(model, moved, clean.targets)
    assert spent.forward + spent.backward <= 1.15 * (bare.forward + bare.backward)
    # and the clean maps cost nothing any more
    with counting(model) as again:
        own.clean(0)
    assert again.forward == 0


def test_a_mosaic_is_pointed_at(tiny: Path) -> None:
    """A network that sees colours: its map of red lies on the red quarter."""
    found = MEASURES["mosaic"](unit(tiny), 0)
    assert found is not None
    known = found["value"][~found["value"].isnan()]
    assert len(known)
    assert (known > 0.5).all()


def test_maps_are_read_from_the_run_folder(tiny: Path) -> None:
    own = unit(tiny)
    found = own.clean(0)
    own._made.clear()
    with counting(own.model) as spent:
        again = own.clean(0)
    assert spent.forward == 0
    torch.testing.assert_close(again.heatmaps, found.heatmaps, rtol=0, atol=0)
    assert (again.targets == found.targets).all()


def test_kendalls_tau_is_scipys_and_a_hand_value() -> None:
    generator = np.random.default_rng(3)
    a, b = generator.integers(0, 5, 20), generator.integers(0, 5, 20)
    wanted: Any = kendalltau(a, b)
    assert kendall(a, b) == pytest.approx(wanted.statistic, abs=1e-4)
    # of six pairs one is turned round: (5 - 1) / 6
    assert kendall([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6, abs=1e-4)
    assert kendall([1, 2, np.nan, 3], [3, 2, 0, 1]) == -1
    assert np.isnan(kendall([1, 1, 1], [1, 2, 3]))


def table(values: dict[str, list[float]], column: str = "pgd") -> pl.DataFrame:
    """Rows of the board by name, each with a value per seed, the same of two photos."""
    return pl.DataFrame(
        [
            {
                "image": image,
                "network": "net",
                "explainer": name,
                "defence": "none",
                "settings": name,
                "column": column,
                "seed": seed,
                "value": value,
                "spearman": None,
                "nissim": None,
                "kept": None,
            }
            for name, seeds in values.items()
            for seed, value in enumerate(seeds)
            for image in ("a", "b")
        ],
        schema_overrides=dict.fromkeys(("spearman", "nissim", "kept"), pl.Float64),
    )


def test_a_column_decides_where_seeds_rank_alike() -> None:
    firm = table({"x": [0.9, 0.8], "y": [0.5, 0.6], "z": [0.1, 0.2]})
    loose = table({"x": [0.9, 0.1], "y": [0.5, 0.6], "z": [0.1, 0.2]})
    for rows, tau, decides in ((firm, 1.0, True), (loose, -1 / 3, False)):
        found = {one.column.name: one for one in known(rows, cells_of(rows))}
        assert found["pgd"].tau == pytest.approx(tau, abs=1e-3)
        assert found["pgd"].decides is decides
        assert ("it decides" in found["pgd"].sentence()) is decides
        assert found["aopc"].sentence() == "It was not measured."
    # what costs is told and never decides
    told = {
        one.column.name: one for one in known(table({"x": [1, 1], "y": [2, 2], "z": [3, 3]}, "passes"), cells_of(firm))
    }
    assert not told["passes"].decides


def test_the_board_stands_in_the_order_of_the_deciding_columns() -> None:
    rows = table({"x": [0.1, 0.2], "y": [0.9, 0.8], "z": [0.5, 0.6]})
    cells = cells_of(rows)
    knowledge = known(rows, cells)
    made = board(rows, cells, knowledge, {"net": {"top1": 0.8}})
    assert [(row["explainer"], row["mean_rank"], row["top1"]) for row in made] == [
        ("y", 1.0, 0.8),
        ("z", 2.0, 0.8),
        ("x", 3.0, 0.8),
    ]
    assert made[0]["pgd"] == pytest.approx(0.85)
    first, decide, *rest = answers(made, knowledge, 2)
    assert (
        first == "net: the best mean ranks over the deciding columns have y, none (1.0); z, none (2.0); x, none (3.0)."
    )
    assert decide == "Columns that decide, with Kendall's tau over 2 seeds: pgd (1.00)."
    assert rest == []
    assert "No column decides: over 1 seed" in answers(made, [one for one in knowledge if not one.decides], 1)[0]


def test_ranks_follow_the_better_end() -> None:
    assert ranked([0.1, 0.9, None], BY_NAME["pgd"]) == [2, 1, None]
    assert ranked([0.1, 0.9, 0.1], BY_NAME["road"]) == [1.5, 3, 1.5]
    once = table({"x": [0.9], "y": [0.5]}, "certified")
    assert filled(once, range(3)).height == 3 * once.height


def test_rows_of_the_board() -> None:
    names = {(row.explainer, row.defence) for row in rows_of("transformer", 4)}
    assert ("chefer", "none") in names
    assert all(len({row.text for row in rows_of(kind, 8)}) == len(rows_of(kind, 8)) for kind in ("small", "large"))
    assert plain_of(Smoothed(Softplus(SimpleGrad()))) == SimpleGrad()
    assert seeded(Smoothed(n=2), 5) == Smoothed(n=2, seed=5)
    assert seeded(GradCAM(), 5) == GradCAM()
    assert needs_softplus(Smoothed(SimpleGrad()))
    assert not needs_softplus(Softplus(SimpleGrad()))
    assert not needs_softplus(Chefer())


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["networks=resnet21"], "the board has no network 'resnet21'; did you mean resnet20"),
        (["measure=pgdd"], "the board has no column 'pgdd'; did you mean pgd"),
        (["explainers=gradcm"], "the board has no explainer 'gradcm'; did you mean gradcam"),
        (["lies=locatio"], "the board has no lie 'locatio'; did you mean location"),
        (["seeds=0"], "the board needs seeds of at least 1, got 0"),
        (["networks=vit"], "the vision transformer has to be named"),
        (["explainers=lrp", "defences=contrast"], "no row of the board is left"),
    ],
)
def test_bad_settings_are_sentences(tiny: Path, words: list[str], wanted: str, capsys: Any) -> None:
    given = words if any(word.startswith("networks") for word in words) else ["networks=demo", *words]
    assert heatproof("study", "board", *(part for word in given for part in ("--set", word)), "--out", "bad") == 2
    assert wanted in said(capsys)


@pytest.fixture
def folder(tiny: Path) -> Path:
    """Something to hand in: the tiny network's own weights."""
    space: dict[str, Any] = {}
    exec(FACTORY, space)
    network: nn.Module = space["tiny"]()
    made = tiny / "mine"
    made.mkdir()
    save_file(network.state_dict(), made / "model.safetensors")
    write(made)
    return made


def write(folder: Path, **changed: Any) -> None:
    given = {
        "name": "mine",
        "network": "demo",
        "checkpoint": "model.safetensors",
        "explainer": "smoothed(gradcam(), n=2)",
        "adaptive": ["pgd(epsilon=4/255, steps=2)"],
        "claims": {"pgd": 0.05, "aopc": -0.5, "passes": 6},
    }
    kept = {key: value for key, value in {**given, **changed}.items() if value is not None}
    (folder / "board.json").write_text(json.dumps(kept))


COLUMNS_OF_CLAIMS = tuple(part for name in ("pgd", "aopc", "passes") for part in ("--set", f"measure={name}"))
HAND_IN = ("study", "board", *SMALL, *FEW[:4], *COLUMNS_OF_CLAIMS, "--add", "mine")


def test_a_submission_whose_claims_are_met_is_accepted(folder: Path, tiny: Path, capsys: Any) -> None:
    assert heatproof(*HAND_IN, "--out", "added") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "mine is accepted: 3 of 3 claims are met." in out
    assert "mine claims passes 6, measured 5.000: met." in out
    summary = json.loads((tiny / "added" / "summary.json").read_text())
    assert ("mine", "submitted") in {(row["explainer"], row["defence"]) for row in summary["rows"]}
    assert summary["refused"] == []


def test_a_claim_that_is_not_met_is_told_with_both_numbers(folder: Path, tiny: Path, capsys: Any) -> None:
    write(folder, claims={"pgd": 2.0, "passes": 4})
    assert heatproof(*HAND_IN, "--out", "added") == 3
    found = capsys.readouterr()
    assert "mine claims passes 4, measured 5.000: not met." in " ".join(found.out.split())
    assert "mine claims pgd 2, measured" in " ".join(found.out.split())
    assert "refused: mine" in found.err


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"claims": {"noise": 0.9}}, "claims noise without pgd"),
        ({"claims": {"pgd": 0.9, "fooled": 0.0}}, "claims fooled without fooled_knowing"),
        ({"claims": {"pdg": 0.9}}, "claims 'pdg', which is no column of the board; did you mean pgd"),
        ({"claims": {}}, "claims nothing"),
        ({"claims": {"pgd": "high"}}, "the claim 'pgd' of mine/board.json is a number, got 'high'"),
        ({"adaptive": []}, "names no adaptive attack"),
        ({"adaptive": ["pgd(epsilon=1/255)"]}, "another budget than the board"),
        ({"adaptive": ["pdg()"]}, "no attack 'pdg'; did you mean pgd"),
        ({"explainer": "gradcm()"}, "no explainer 'gradcm'; did you mean gradcam"),
        ({"explainer": None}, "has no 'explainer'"),
        ({"network": "resnet21"}, "the board has no network 'resnet21'; did you mean resnet20"),
        ({"checkpoint": "gone.safetensors"}, "names the checkpoint 'gone.safetensors', which is not in mine"),
        ({"checkpoint": "../tiny.py"}, "lies in the same folder"),
        ({"checkpoint": "board.json"}, "is a safetensors file, which runs nothing"),
        ({"name": "gradcam"}, "a row of the board has the name 'gradcam' already"),
        ({"exlainer": "gradcam()"}, "has 'exlainer', which means nothing; did you mean explainer"),
    ],
)
def test_what_does_not_do_is_a_sentence(folder: Path, changed: dict[str, Any], wanted: str, capsys: Any) -> None:
    write(folder, **changed)
    assert heatproof(*HAND_IN, "--out", "added") in (1, 2)
    assert wanted in said(capsys)
    assert not (folder.parent / "added").exists()


def test_other_things_than_a_submission(folder: Path, capsys: Any) -> None:
    (folder / "board.json").write_text("{")
    assert heatproof(*HAND_IN, "--out", "added") == 2
    assert "is no JSON that can be read" in said(capsys)
    (folder / "board.json").unlink()
    assert heatproof(*HAND_IN, "--out", "added") == 2
    assert "mine holds no board.json" in said(capsys)
    assert heatproof("study", "remedies", "--add", "mine") == 2
    assert "study remedies is none" in said(capsys)


def test_weights_of_another_network_are_refused(folder: Path, capsys: Any) -> None:
    save_file({"0.weight": torch.zeros(2)}, folder / "model.safetensors")
    assert heatproof(*HAND_IN, "--out", "added") == 2
    assert "does not fit demo" in said(capsys)


@pytest.mark.weights
@pytest.mark.parametrize("name", [name for name in networks.DEFAULT if name != "vit"])
def test_real_networks_come_with_their_photos(name: str) -> None:
    from heatproof.models.hardware import Hardware
    from heatproof.studies.shared import shared

    try:
        shared("weights/zoo.py")
    except InputError as error:
        pytest.skip(str(error))
    opened = Board((name,), photos=2, large_photos=2, watched=20)._opened(name, Hardware())
    assert opened.images.shape[0] == 2
    assert not set(opened.ids) & set(opened.watched.ids)
    assert study.top1(opened)["top1"] > 0.5  # type: ignore[operator]
    assert opened.small == (max(opened.model.input_shape) <= study.SMALL)


@pytest.mark.peers
def test_corruptions_are_a_column(tiny: Path) -> None:
    found = MEASURES["corruption"](unit(tiny), 0)
    assert found is not None
    assert ((found["value"] >= 0) & (found["value"] <= 1)).all()
    assert found["value"].mean() > 0
