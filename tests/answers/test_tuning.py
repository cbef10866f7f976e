"""Gammas chosen by a measure: the best by it, whichever side is better, and what cannot be tuned."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import heatproof as hp
from heatproof import catalog, spec
from heatproof.errors import InputError
from heatproof.explainers.lrp.propagation import LRP
from heatproof.metrics.evaluation import Column, Explained, Finding
from networks import attending


class Wanted:
    """A measure that is largest for one pair of gammas, and unknown for those without a gamma on linear layers."""

    question, condition = "faithfulness", ""

    def __init__(self, better: Any = "up"):
        self.columns = (Column("wanted", better, "[0, 1]", "how near"),)
        self.seen: list[tuple[LRP, int]] = []

    def measure(self, explained: Explained) -> list[Finding]:
        explainer: Any = explained.explainer
        self.seen.append((explainer, len(explained.images)))
        assert explained.heatmaps.shape == (len(explained.images), 10, 10)
        if explainer.gamma_linear is None:
            value = math.nan
        else:
            value = (explainer.gamma_linear - 0.1) ** 2 + ((explainer.gamma_conv or 0) - 0.25) ** 2
        return [Finding((torch.full((len(explained.images),), -value if self.columns[0].better == "up" else value),))]


@pytest.mark.parametrize("better", ["up", "down"])
def test_the_best_pair_is_chosen(better: str) -> None:
    model, images = attending(dtype=torch.float32), torch.rand(3, 3, 10, 10)
    measure: Any = Wanted(better)
    found = hp.tune_lrp(model, images, explainer="lrp(composite='cp_lrp', stabilizer=1e-3)", tune=measure, batch_size=2)
    assert found.explainer == LRP(composite="cp_lrp", stabilizer=1e-3, gamma_conv=0.25, gamma_linear=0.1)
    assert len(found.tried) == 16
    assert found.tried[0][:2] == (0.25, 0.1)
    assert math.isnan(found.tried[-1].value)
    assert len(found.photos) == 3
    assert sum(count for explainer, count in measure.seen if explainer == found.explainer) == 3
    # its text is what the command line takes
    assert spec.build(repr(found.explainer), catalog.EXPLAINERS) == found.explainer


def test_by_a_measure_of_the_catalog() -> None:
    # whole grey levels: photos are these
    model, images = attending(dtype=torch.float32), torch.randint(256, (2, 3, 10, 10)) / 255
    found = hp.tune_lrp(model, images, tune="aopc(region=2, steps=5)", conv=(None,), linear=(None, 1.0))
    metric = hp.AOPC(region=2, steps=5)
    for gamma_conv, gamma_linear, value in found.tried:
        explained = LRP(composite="attnlrp", gamma_conv=gamma_conv, gamma_linear=gamma_linear)(model, images)
        wanted = metric(model, images, explained.heatmaps, explained.targets).mean()
        assert value == pytest.approx(float(wanted))
    assert found.tried[0].value > found.tried[1].value


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"explainer": "gradcam"}, r"only lrp\(\) has gammas"),
        ({"conv": ()}, "at least one gamma"),
        ({"tune": Wanted("neither")}, "which of two maps is better"),
    ],
)
def test_what_cannot_be_tuned(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        hp.tune_lrp(attending(dtype=torch.float32), torch.rand(1, 3, 10, 10), **asked)


def test_photos_of_which_none_can_be_read_tune_nothing(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"none of the photos of .* can be read"):
        hp.tune_lrp(attending(dtype=torch.float32), str(tmp_path))
