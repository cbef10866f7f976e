"""Maps that move with their photos, and lies that stay where they were planted."""

import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from heatproof.commands.audit.equivariance import CELLS, DIRECTIONS, equivariance, moved, moves
from heatproof.commands.audit.measure import Audit
from heatproof.commands.audit.run import run_audit
from heatproof.commands.audit.verdict import Thresholds, conclude, judge_equivariance
from heatproof.data.sources import open_data
from heatproof.manipulation.weight_edit import WeightEdit
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.results.run import Run
from heatproof.results.table import Interval
from heatproof.types import Explanation


class Brightest(nn.Module):
    """Two classes: how much light there is, and a threshold; moving a photo changes neither by much."""

    def forward(self, images: Tensor) -> Tensor:
        light = images.mean((1, 2, 3))
        return torch.stack([light, torch.full_like(light, -1)], 1)


@dataclass(frozen=True)
class Told:
    """An explainer whose maps are told by ``show``, on a grid of ``cells``."""

    show: str
    cells: int = 8

    def __call__(self, model, images, targets=None, *, create_graph=False):
        logits = model(images)
        seen = nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), self.cells)[:, 0]
        planted = torch.zeros_like(seen)
        planted[:, : self.cells // 2, : self.cells // 2] = 1
        planted[:, 0, 0] = 2
        maps = {"photo": seen, "corner": planted, "none": torch.zeros_like(seen)}[self.show]
        return Explanation(maps, logits, logits.argmax(1) if targets is None else targets)


def photos(count: int = 4, size: int = 32) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return nn.functional.interpolate(torch.rand(count, 3, 8, 8, generator=draw), size=(size, size))


def bright() -> Classifier:
    return Classifier(Brightest(), (0.0,) * 3, (1.0,) * 3, ["light", "dark"], 32, name="brightest").eval()


def measured(show: str, cells: int = 8, size: int = 32) -> Tensor:
    model, explainer, images = bright(), Told(show, cells), photos(size=size)
    found = explainer(model, images)
    return equivariance(model, explainer, images, found.heatmaps, found.targets)


@pytest.mark.parametrize("cells", [8, 16, 32])
def test_a_map_of_the_photo_moves_with_it_and_a_planted_one_stays(cells: int) -> None:
    honest, planted = measured("photo", cells), measured("corner", cells)
    # r(h(Tx), T h(x)) is 1 for a map that is the photo, and r(h(Tx), h(x)) is 1 for one that never moves
    assert (honest > 0.5).all()
    assert (planted < -0.3).all()
    images = photos()
    grid = nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), 8)[:, 0]
    if cells == CELLS:
        wanted = torch.stack([_one(grid, *move) for move in moves(8, 8)]).mean(0)
        torch.testing.assert_close(honest, wanted, atol=1e-5, rtol=0)


def _one(grid: Tensor, down: int, right: int) -> Tensor:
    """1 - r(T h, h) over the cells that both have: the formula for a map that is the photo itself."""
    rows, cols = grid.shape[1:]
    there = grid[:, max(-down, 0) : rows - max(down, 0), max(-right, 0) : cols - max(right, 0)]
    stayed = grid[:, max(down, 0) : rows + min(down, 0), max(right, 0) : cols + min(right, 0)]
    return torch.stack([1 - torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]
                        for a, b in zip(there, stayed, strict=True)])  # fmt: skip


def test_what_cannot_be_measured_is_nan() -> None:
    assert measured("none").isnan().all()
    assert measured("photo", 3).isnan().all()

    class Flips(nn.Module):
        """Sees only the middle of the photo, which every move changes."""

        def forward(self, images: Tensor) -> Tensor:
            middle = images[:, :, 14:18, 14:18].mean((1, 2, 3))
            return torch.stack([middle, 1 - middle], 1)

    images = torch.zeros(2, 3, 32, 32)
    images[:, :, 14:18, 14:18] = 1
    model = Classifier(Flips(), (0.0,) * 3, (1.0,) * 3, ["a", "b"], 32, name="flips").eval()
    found = Told("photo")(model, images)
    assert equivariance(model, Told("photo"), images, found.heatmaps, found.targets).isnan().all()


def test_a_photo_is_moved_in_all_directions_by_whole_cells() -> None:
    images = photos(1)
    for down, right in moves(8, 8):
        after = moved(images, 4 * down, 4 * right)
        assert after.shape == images.shape
        rows, cols = slice(max(4 * down, 0), 32 + min(4 * down, 0)), slice(max(4 * right, 0), 32 + min(4 * right, 0))
        before = images[:, :, max(-4 * down, 0) : 32 - max(4 * down, 0), max(-4 * right, 0) : 32 - max(4 * right, 0)]
        assert torch.equal(after[:, :, rows, cols], before)
    assert len(list(moves(8, 8))) == len(DIRECTIONS) == 4
    assert list(moves(4, 14)) == [(1, 0), (-1, 0), (0, 4), (0, -4)]


def test_without_a_population_staying_is_doubtful_and_no_more() -> None:
    stays = judge_equivariance(Interval(-0.2, -0.3, -0.1, 50))
    assert (stays.verdict, conclude([stays])[0]) == ("doubtful", "doubtful")
    assert judge_equivariance(Interval(-0.1, -0.3, 0.1, 50)).verdict == "pass"
    assert judge_equivariance(Interval(0.4, 0.3, 0.5, 50)).verdict == "pass"
    # of so few photos that there is no interval nothing is said
    assert judge_equivariance(Interval(-0.2, math.nan, math.nan, 3)).verdict == "pass"


def test_an_edit_that_plants_a_corner_stays_and_old_thresholds_still_tell_it(tmp_path: Path) -> None:
    old = Thresholds.shipped()
    old = Thresholds({k: v for k, v in old.limits.items() if k != "equivariance"}, old.photo, old.provenance)
    source, found = open_data("demo", limit=40), {}
    for name, model in (("honest", load("demo")), ("edited", WeightEdit("corner")(load("demo")))):
        with Run.start(tmp_path / name, command="audit", settings={}) as run:
            rows = run_audit(Audit(budget=37), model, source, run, thresholds=old, draw=False)["rows"]
            found[name] = next(row for row in rows if row["number"] == "equivariance")
    assert (found["honest"]["verdict"], found["edited"]["verdict"]) == ("pass", "doubtful")
    assert found["honest"]["value"] > 0.3
    assert found["edited"]["value_high"] < 0
