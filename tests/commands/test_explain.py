"""The rows of an explanation, against maps that are written down and SciPy's centre of mass."""

from dataclasses import dataclass

import polars as pl
import pytest
import torch
from scipy.ndimage import center_of_mass

from heatproof.commands.explain import Explain, run_explain
from heatproof.data.listing import Listing
from heatproof.data.sources import Source
from heatproof.models.classifier import Classifier
from heatproof.results import read_run
from heatproof.results.run import Run
from heatproof.types import Explanation

MAPS = torch.tensor(
    [
        [[0.0, 1.0, 0.0, 0.0], [0.0, 3.0, -5.0, 0.0], [0.0, 0.0, 0.0, 0.0]],
        [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]],
        [[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]],
    ]
)


@dataclass(frozen=True)
class Known:
    """Hands out maps by the red value of the photo's first pixel."""

    signed = True

    def __call__(self, model, images, targets=None, *, create_graph=False) -> Explanation:
        logits = model(images)
        which = (images[:, 0, 0, 0] * 255).round().long()
        return Explanation(MAPS[which], logits, logits.argmax(1) if targets is None else targets)


class Sure(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        return torch.tensor([[3.0, 1.0, 0.0]]).expand(len(x), 3)


def test_each_column_by_hand(tmp_path) -> None:
    pixels = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(3)
    listing = Listing(
        ["a.png", "b.png", "c.png"], [0, 2, -1], pixels.__getitem__, lambda i: bytes([i]), classes=["x", "y", "z"]
    )
    model = Classifier(Sure(), classes=["x", "y", "z"], input_size=8, default_layer="layer").eval()
    asked = Explain(explainers=(Known(),), targets=(1, 0))
    with Run.start(tmp_path / "out", command="explain", settings={"asked": asked}) as run:
        summary = run_explain(asked, model, Source("three", listing, range(3)), run, batch_size=2)
    table = pl.read_parquet(tmp_path / "out" / "images.parquet").sort("image", "target", descending=[False, True])
    assert table["image"].to_list() == [name for name in ("a.png", "b.png", "c.png") for _ in range(2)]
    assert table["label"].to_list() == [0, 0, 2, 2, None, None]
    assert table["target_name"].to_list() == ["y", "x"] * 3
    assert set(table["prediction_name"]) == {"x"}
    likely = torch.tensor([3.0, 1.0, 0.0]).softmax(0).tolist()
    assert table["confidence"].to_list() == pytest.approx([likely[0]] * 6)
    assert table["probability"].to_list() == pytest.approx([likely[1], likely[0]] * 3)
    assert table["minimum"].to_list() == [-5, -5, 0, 0, 0, 0]
    assert table["maximum"].to_list() == [3, 3, 0, 0, 2, 2]
    assert table["empty"].to_list() == [False, False, True, True, False, False]
    for place, heatmap in ((0, MAPS[0]), (4, MAPS[2])):
        # the middle of a cell, as a share of the map's sides
        row, col = ((c + 0.5) / n for c, n in zip(center_of_mass(heatmap.clamp(min=0).numpy()), (3, 4), strict=True))
        assert (table["center_row"][place], table["center_col"][place]) == pytest.approx((row, col))
    assert (table["center_row"][2], table["center_col"][2]) == (0.5, 0.5)
    (row,) = summary["rows"]
    assert (row["count"], row["empty"]) == (3, pytest.approx(1 / 3))


@pytest.mark.parametrize(("brightest", "said"), [(8, True), (200, False)])
def test_a_photo_that_is_nearly_black_is_called_so_beside_its_map(tmp_path, brightest: int, said: bool) -> None:
    pixels = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    pixels[:, 1, 4, 4] = brightest
    listing = Listing(["a.png"], [-1], pixels.__getitem__, lambda i: bytes([i]), classes=["x", "y", "z"])
    model = Classifier(Sure(), classes=["x", "y", "z"], input_size=8, default_layer="layer").eval()
    asked = Explain(explainers=(Known(),), top=1)
    with Run.start(tmp_path / "out", command="explain", settings={"asked": asked}) as run:
        run_explain(asked, model, Source("one", listing, range(1)), run)
    (view,) = read_run(tmp_path / "out").views
    assert ("nearly black as the network gets it" in view.read_text("utf-8")) == said
