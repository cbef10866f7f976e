"""The published attacks on maps: what is raised and measured against literal replicas, the study from end to end."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import heatproof as hp
from heatproof.attacks.objectives import begin
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import InputXGradient
from heatproof.explainers.lrp.propagation import LRP
from heatproof.manipulation.penalties import TopK
from heatproof.results.run import Run
from heatproof.studies.published_map_attacks import PAPERS, PublishedMapAttacks, answers
from heatproof.studies.published_maps import (
    Become,
    Magnitudes,
    held,
    hold_output,
    likeness,
    photo_likeness,
    share_of,
)
from heatproof.types import Explanation

DEMO: dict[str, Any] = {**PublishedMapAttacks.presets["demo"], "epsilons": (8,), "limit": 3}


@pytest.fixture(scope="module")
def demo() -> Any:
    return hp.load("demo")


@pytest.fixture
def photos() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))


def test_magnitudes_are_taken_before_channels_are_summed(demo: Any, photos: torch.Tensor) -> None:
    found = Magnitudes(InputXGradient())(demo, photos, 3)
    point = photos.clone().requires_grad_()
    (slope,) = torch.autograd.grad(demo(point)[:, 3].sum(), point)
    torch.testing.assert_close(found.heatmaps, (photos * slope).abs().sum(1), rtol=1e-4, atol=1e-6)
    assert (found.heatmaps - InputXGradient()(demo, photos, 3).heatmaps.abs()).max() > 0
    relevance = LRP().relevance(demo, photos, 3)
    torch.testing.assert_close(Magnitudes(LRP())(demo, photos, 3).heatmaps, relevance.channels.abs().sum(1))
    with pytest.raises(InputError, match="does not tell apart"):
        Magnitudes(GradCAM())


def test_the_map_s_part_of_the_loss_is_dombrowski_s() -> None:
    """Their line: 1e11 * mse_loss of maps that were divided by their sums, one photo of 224 x 224."""
    one, two = torch.rand(2, 1, 224, 224, dtype=torch.double)
    literal = 1e11 * F.mse_loss(one / one.sum(), two / two.sum())
    penalty = Become(two)
    torch.testing.assert_close(penalty(one, one), literal[None])
    assert float(penalty.test_loss(7 * two, one)) == pytest.approx(0, abs=1e-9)
    assert float(penalty.test_loss(-two, one)) == pytest.approx(1)


def test_the_output_s_part_of_the_loss_is_dombrowski_s() -> None:
    """Their line: 1e6 * mse_loss of the probabilities of 1,000 classes."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1000)).eval()
    clean, moved = torch.rand(2, 1, 3, 2, 2)
    goal = begin(hold_output(model), clean)
    literal = 1e6 * F.mse_loss(model(moved).softmax(1), model(clean).softmax(1))
    torch.testing.assert_close(goal(moved), -literal[None], rtol=1e-4, atol=1e-9)
    assert float(goal(clean).detach()) == 0


def test_the_top_k_penalty_is_ghorbani_s_up_to_a_factor() -> None:
    """Their lines: saliency = w * h * s / sum(s), and the loss is its sum over the k cells that were highest before."""
    before, now = torch.rand(2, 1, 20, 30, dtype=torch.double)
    k, cells = 100, 600
    highest = before.flatten().argsort()[-k:]
    literal = (cells * now / now.sum()).flatten()[highest].sum()
    penalty = TopK(fraction=share_of(k, before), power=1, normalisation="sum")
    torch.testing.assert_close(penalty(now, before) * k * cells, literal[None])


@pytest.mark.parametrize(("k", "side"), [(1000, 224), (100, 32), (1, 7), (48, 7), (999, 64)])
def test_as_many_cells_count_as_were_asked_for(k: int, side: int) -> None:
    assert int(share_of(k, torch.zeros(1, side, side)) * side * side) == k


@pytest.mark.peers
def test_the_structure_is_scikit_image_s() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    a, b = torch.rand(2, 2, 20, 24, dtype=torch.double) ** 3
    for row, value in enumerate(likeness(a, 5 * b)["ssim"].tolist()):
        one, two = a[row].numpy(), b[row].numpy()
        literal = metrics.structural_similarity(
            one / one.max(),
            two / two.max(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert value == pytest.approx(literal, abs=1e-6)


def test_likeness_is_numpy_s() -> None:
    a, b = torch.rand(2, 2, 20, 24, dtype=torch.double) ** 3
    found = likeness(a, 5 * b)
    for row in range(2):
        one, two = a[row].numpy(), b[row].numpy()
        assert float(found["mse"][row]) == pytest.approx(((one / one.sum() - two / two.sum()) ** 2).mean())
        assert float(found["pcc"][row]) == pytest.approx(np.corrcoef(one.ravel(), two.ravel())[0, 1])
    same = likeness(a, 3 * a)
    for name, value in {"mse": 0, "ssim": 1, "pcc": 1}.items():
        assert same[name].tolist() == pytest.approx([value] * 2, abs=1e-12)


def test_photos_are_compared_by_the_same_three(photos: torch.Tensor) -> None:
    darker = 0.5 * photos
    found = photo_likeness(darker, photos)
    assert found["photo_mse"].tolist() == pytest.approx((0.25 * photos.square()).mean((1, 2, 3)).tolist())
    assert found["photo_pcc"].tolist() == pytest.approx([1, 1])
    assert found["photo_ssim"].max() < 0.95
    assert photo_likeness(photos, photos)["photo_ssim"].tolist() == pytest.approx([1, 1])


def test_what_is_held() -> None:
    maps, targets = torch.rand(2, 4, 4), torch.tensor([0, 0])
    clean = Explanation(maps, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), targets)
    found = Explanation(maps, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), targets)
    kept, change = held(clean, found).values()
    assert kept.tolist() == [True, False]
    assert change.tolist() == pytest.approx([0, np.tanh(0.5)])


def test_the_study_goes_on_where_it_stopped(tmp_path: Path) -> None:
    told: list[str] = []

    def stop(text: str) -> None:
        raise KeyboardInterrupt

    settings = {"study": "published-map-attacks"}
    with pytest.raises(KeyboardInterrupt), Run.start(tmp_path / "stopped", command="study", settings=settings) as run:
        PublishedMapAttacks(**DEMO)(run, say=stop)
    for name in ("stopped", "whole"):
        with Run.start(tmp_path / name, command="study", settings=settings) as run:
            summary = PublishedMapAttacks(**DEMO)(run, say=told.append)
    tables = [pl.read_parquet(tmp_path / name / "images.parquet") for name in ("whole", "stopped")]
    assert tables[0].equals(tables[1])
    rows = {(row["paper"], row["explainer"], row["attack"], row["epsilon"]): row for row in summary["rows"]}
    assert len(rows) == 3 + 2 + 2
    assert {row["paper"] for row in summary["rows"]} == set(PAPERS)
    moved = [rows["ghorbani2019", "gradient", attack, 8.0] for attack in ("top_k", "center_mass", "random_sign")]
    assert moved[0]["topk_intersection"] < moved[2]["topk_intersection"]
    assert moved[1]["center_shift"] > moved[2]["center_shift"]
    for explainer in ("gradient", "lrp"):
        copied = rows["dombrowski2019", explainer, "target_map", 8.0]
        assert copied["pcc"] > copied["pcc_before"]
        assert copied["mse"] < copied["mse_before"]
        assert copied["kept"] == 1
        assert rows["tamam2023", explainer, "target_map, no gradients", 8.0]["questions"] == 2 * 7 + 1
    assert all(row["kept"] == 1 for row in summary["rows"] if row["attack"] != "random_sign")
    assert len(summary["answer"]) == 3 + 2 + 2
    assert set(summary["answer"]) <= set(told)


def test_theirs_is_said_where_the_radius_is_theirs() -> None:
    row = {
        "model": "m",
        "paper": "ghorbani2019",
        "explainer": "gradient",
        "attack": "random_sign",
        "topk_intersection": 0.25,
        "spearman": 0.5,
        "kept": 1.0,
    }
    (said,) = answers([{**row, "epsilon": 8.0}])
    assert said == (
        "m, gradient, 8/255, random_sign: 0.25 of the top cells stay (theirs: below 0.3, on ImageNet), rank "
        "correlation 0.50, class kept in 100%."
    )
    (said,) = answers([{**row, "epsilon": 4.0}])
    assert "theirs" not in said


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"papers": ("ghorbani",)}, "did you mean ghorbani2019"),
        ({"explainers": ("gradent",)}, "did you mean gradient"),
        ({"epsilons": (300,)}, "radii are in grey levels, above 0 and at most 255, got 300"),
        ({"radius": 0}, "got 0"),
        ({"limit": 1}, "there are two at least"),
    ],
)
def test_what_the_study_does_not_take(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        PublishedMapAttacks(**asked)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [({"k": 64 * 64}, "give a smaller k"), ({"limit": 10_000}, "ask for fewer with limit")],
)
def test_what_the_photos_do_not_have(asked: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=sentence),
        Run.start(tmp_path / "run", command="study", settings={"study": "published-map-attacks"}) as run,
    ):
        PublishedMapAttacks(**{**DEMO, **asked})(run)
