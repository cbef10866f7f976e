"""A shift over pairs: every number against the likeness taken by hand, and the threshold that is chosen."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close

from heatproof.attacks.gradient import FGSM
from heatproof.commands.shift.measure import Shift
from heatproof.commands.shift.verification import Facing, Likenesses, Verification, run_verification
from heatproof.data.photo_pairs import draw_pairs
from heatproof.data.sources import open_data
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.scores import Output
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.processes import Processes
from heatproof.results import Run

SIZE = 16
ASKED = Shift((FGSM(),), (0.02, 0.1), (GradCAM(score=Output()),), part=3, shown=1)


@pytest.fixture
def people(tmp_path):
    """Four people told apart by their pattern, five noisy photos each."""
    draw = np.random.default_rng(0)
    for person in "abcd":
        pattern = draw.integers(0, 120, (SIZE, SIZE, 3))
        for number in range(5):
            path = tmp_path / "people" / person / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pattern + draw.integers(0, 100, pattern.shape)).astype(np.uint8)).save(path)
    return open_data(tmp_path / "people")


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return Classifier(network.eval(), input_size=SIZE, name="net", default_layer="1")


def test_rows_are_the_likeness_by_hand_and_the_attack_moves_it_the_right_way(tmp_path, people, model):
    pairs = draw_pairs(people, 10)
    with Run.start(tmp_path / "out", command="shift", settings={}) as run:
        summary = run_verification(ASKED, Verification(), [model], lambda wanted: pairs, run)
    table = pl.read_parquet(tmp_path / "out" / "images.parquet")
    (entry,) = summary["verification"]
    threshold = entry["threshold"]

    def cosine(a, b):
        with torch.no_grad():
            return float(torch.cosine_similarity(model(a[None]), model(b[None])))

    images = {text: people[place].image / 255 for place, text in enumerate(people.ids)}
    cosines, same = {}, {}
    for text, label in zip(pairs.photos.ids, pairs.photos.labels, strict=True):
        a, b = text.split("~")
        cosines[text], same[text] = cosine(images[a], images[b]), bool(label)
    clean = table.filter(pl.col("attack") == "clean")
    for row in clean.iter_rows(named=True):
        assert row["correct"] == ((cosines[row["image"]] > threshold) == same[row["image"]])
        assert row["prediction_name"] == ("same" if cosines[row["image"]] > threshold else "different")
        logit = np.log(row["confidence"] / (1 - row["confidence"]))
        assert logit == pytest.approx(abs(cosines[row["image"]] - threshold), abs=1e-5)
    # no threshold tells more pairs right
    best = max(np.mean([(c > t) == same[i] for i, c in cosines.items()]) for t in np.linspace(-1, 1, 2001))
    assert clean["correct"].mean() == pytest.approx(best)
    # FGSM by hand, on one pair of each kind
    for text in (pairs.photos.ids[same_place(same, True)], pairs.photos.ids[same_place(same, False)]):
        a, b = (images[part] for part in text.split("~"))
        probe = a.clone().requires_grad_()
        (slope,) = torch.autograd.grad(torch.cosine_similarity(model(probe[None]), model(b[None])).sum(), probe)
        moved = (a + 0.1 * slope.sign() * (-1 if same[text] else 1)).clamp(0, 1)
        row = table.filter((pl.col("image") == text) & (pl.col("epsilon") == 0.1)).row(0, named=True)
        right = (cosine(moved, b) > threshold) == same[text]
        assert row["correct"] == right
        assert_close(row["l2"], float((moved - a).norm()), atol=1e-4, rtol=1e-4)
    accuracies = [row["top1"] for row in summary["rows"]]
    assert accuracies[-1] < accuracies[0]
    kinds = {(row["label"], row["epsilon"]): row["accuracy"] for row in summary["kinds"]}
    assert {row["mod"] for row in summary["kinds"] if row["attack"] == "clean"} == {0}
    assert kinds[1, 0.1] == pytest.approx(
        table.filter((pl.col("label") == 1) & (pl.col("epsilon") == 0.1))["correct"].mean()
    )
    assert summary["answer"][0].startswith("net calls two photos the same from a cosine of ")
    assert "most of these very pairs" in summary["answer"][0]


def same_place(same: dict[str, bool], wanted: bool) -> int:
    return list(same.values()).index(wanted)


def test_a_run_in_other_parts_gives_the_same_rows(tmp_path, people, model):
    pairs = draw_pairs(people, 10)
    tables = []
    for part in (1, 4):
        asked = Shift((FGSM(),), (0.05,), (GradCAM(score=Output()),), part=part, shown=0)
        with Run.start(tmp_path / str(part), command="shift", settings={}) as run:
            run_verification(asked, Verification(0.9), [model], lambda wanted: pairs, run)
        tables.append(pl.read_parquet(tmp_path / str(part) / "images.parquet"))
    one, four = tables
    assert one["image"].to_list() == four["image"].to_list()
    assert one["correct"].to_list() == four["correct"].to_list()
    np.testing.assert_allclose(one["nissim"], four["nissim"], atol=1e-5)


def test_auc_and_threshold_by_hand():
    found = Likenesses(np.array([0.9, 0.4, 0.5, 0.1]), np.array([True, True, False, False]))
    assert found.auc == 0.75
    assert found.accuracy(0.45) == 0.5
    assert found.best_threshold == 0.25  # with 0.7 the lowest of those that tell three right
    assert found.accuracy(0.25) == found.accuracy(0.7) == 0.75


def test_what_cannot_be_told_is_refused(tmp_path, people, model):
    with pytest.raises(InputError, match=r"the threshold is a cosine in \[-1, 1\], got 2"):
        Verification(2)
    alike = draw_pairs(people, 10)
    kept = [place for place, label in enumerate(alike.photos.labels) if label]
    pairs = replace(
        alike,
        photos=replace(alike.photos, positions=kept),
        references=replace(alike.references, positions=kept),
    )
    with (
        Run.start(tmp_path / "out", command="shift", settings={}) as run,
        pytest.raises(InputError, match=r"a threshold cannot be chosen on it; give one: likeness\(threshold=0.4\)"),
    ):
        run_verification(ASKED, Verification(), [model], lambda wanted: pairs, run)


def test_without_photos_there_is_nobody_to_face(model):
    def opened(wanted):
        raise AssertionError("nothing is opened")

    before = model(torch.zeros(1, 3, SIZE, SIZE))
    with Facing(opened, Hardware("cpu"))(model, []):
        assert torch.equal(model(torch.zeros(1, 3, SIZE, SIZE)), before)


def test_two_processes_write_the_rows_of_one(tmp_path, people, model, monkeypatch):
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    pairs = draw_pairs(people, 10)
    asked = Shift((FGSM(),), (0.05,), (GradCAM(score=Output()),), part=5, shown=0)
    told: dict[str, Any] = {"command": "shift", "settings": {}}

    def measured(run: Run, processes: Processes) -> dict[str, Any]:
        return run_verification(asked, Verification(0.9), [model], lambda wanted: pairs, run, processes=processes)

    with Run.start(tmp_path / "alone", **told) as run:
        alone = measured(run, Processes())
    with Run.start(tmp_path / "shared", **told) as run:
        with Run.start(tmp_path / "shared", process=1, **told) as second:
            assert measured(second, Processes(1, 2)) == {}
        assert len(run.parts()) == 1
        shared = measured(run, Processes(0, 2))
    assert shared == alone
    tables = [pl.read_parquet(tmp_path / name / "images.parquet") for name in ("alone", "shared")]
    assert tables[0].equals(tables[1])
