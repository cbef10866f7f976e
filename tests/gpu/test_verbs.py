"""On a GPU the verbs give the processor's numbers: ``scripts/gpu_check.py`` runs these where there is one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import heatproof as hp
from heatproof.data.demo import photos
from heatproof.metrics.similarity import spearman
from heatproof.models.hardware import Hardware

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]

CLOSE = {"rel": 1e-3, "abs": 1e-3}
"""Means over photos of numbers in fp32, of which a few turn on a ReLU or a rank that rounding moves."""


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def numbers(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [
        {
            key: float(value)
            for key, value in row.items()
            if isinstance(value, int | float) and not key.endswith("_high")
        }
        for row in rows
    ]


@pytest.mark.parametrize(
    "verb",
    [
        lambda device: hp.shift("demo", "demo", epsilon=[0.01, 0.03], limit=40, device=device),
        lambda device: hp.audit("demo", "demo", budget=64, limit=40, device=device),
        lambda device: hp.evaluate("demo", "demo", explainer="gradcam()", limit=40, device=device),
    ],
    ids=["shift", "audit", "evaluate"],
)
def test_verbs(verb: Callable[[str], Any]) -> None:
    ours, theirs = numbers(verb("cuda").rows), numbers(verb("cpu").rows)
    assert len(ours) == len(theirs) > 0
    for own, other in zip(ours, theirs, strict=True):
        assert own == {key: pytest.approx(value, nan_ok=True, **CLOSE) for key, value in other.items()}


@pytest.fixture
def scenes() -> torch.Tensor:
    return torch.stack([pixels for _, pixels, _ in photos(count=16)]).float() / 255


def test_a_fooling_learns_the_same_lie(scenes: torch.Tensor) -> None:
    losses = {}
    labels = torch.tensor([label for *_, label in photos(count=16)])
    for device in ("cpu", "cuda"):
        asked = hp.FineTune(steps=20, batch_size=8, lr=1e-4)
        fooled, _ = hp.fine_tune(hp.load("demo").to(device), hp.GradCAM(), hp.Location(), (scenes, labels), asked)
        maps = hp.GradCAM()(fooled, scenes.to(device)).heatmaps
        losses[device] = float(hp.Location().test_loss(maps, maps).mean())
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.05)


def test_half_precision_keeps_the_order_of_the_cells(scenes: torch.Tensor) -> None:
    half, model = Hardware("cuda", "bf16"), hp.load("demo")
    exact = hp.GradCAM(relu=False)(model, scenes)
    with half.autocast():
        found = hp.GradCAM(relu=False)(half.host(hp.load("demo")), half.bring(scenes), exact.targets.cuda())
    assert float(spearman(found.heatmaps.float().cpu(), exact.heatmaps).median()) > 0.95
