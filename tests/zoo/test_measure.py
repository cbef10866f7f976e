"""The measure of the zoo against planted faults: wrong layouts, lost places, layers that no score reads."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof.models.layers import known_layouts
from heatproof.models.layout import Layout
from zoo import columns, definitions
from zoo.columns import COLUMNS, DRAWS, MADE_BY, cam_columns
from zoo.measure import followed, held, mover, seen
from zoo.networks import PLACES, squares

SIDE, WIDTH = 48, 8


class Small(nn.Module):
    """A convolution to 6x6 cells, channels first or last, or tokens; something in between; the mean and a head."""

    def __init__(self, seed: int, dims: str = "NCHW", between: Callable[[Tensor], Tensor] = torch.relu):
        super().__init__()
        torch.manual_seed(seed)
        self.dims, self.between = dims, between
        self.stem, self.mix, self.head = nn.Conv2d(3, WIDTH, 8, stride=8), nn.Identity(), nn.Linear(WIDTH, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(self.stem(x))
        x = x.permute(0, 2, 3, 1) if self.dims == "NHWC" else x.flatten(2).mT if self.dims == "NLC" else x
        x = torch.relu(self.mix(x))
        return self.head(x.mean((2, 3)) if self.dims == "NCHW" else x.flatten(1, -2).mean(1))


def judge(
    monkeypatch: pytest.MonkeyPatch, network: Callable[[int], nn.Module], wrong: Layout | None = None
) -> columns.Cell:
    """The Grad-CAM cell of a small network, read in a wrong layout where one is planted."""

    def built(name: str, seed: int) -> hp.Classifier:
        model = hp.Classifier(network(seed).eval(), input_size=SIDE, name=name, default_layer="mix")
        if wrong is not None:
            known = known_layouts(model, squares(SIDE)).known
            for key in [key for key in known if key[0] == "mix"]:
                known[key] = wrong
        return model

    monkeypatch.setattr(columns, "_built", built)
    return cam_columns("small")["gradcam"]


@pytest.mark.parametrize("dims", ["NCHW", "NHWC", "NLC"])
def test_the_right_layout_works_and_its_controls_are_caught(monkeypatch: pytest.MonkeyPatch, dims: str) -> None:
    cell = judge(monkeypatch, lambda seed: Small(seed, dims))
    assert cell.status == "works"
    assert cell.draws >= 2
    assert set(cell.controls) == {"rows for columns", "channels exchanged"}
    assert max(cell.controls.values()) < 0.5


@pytest.mark.parametrize(
    ("dims", "wrong"),
    [
        ("NCHW", Layout("NCWH", 6, 6)),
        ("NHWC", Layout("NCHW", 6, WIDTH)),
        ("NCHW", Layout("NHWC", WIDTH, 6)),
        ("NLC", Layout("NCL", 2, 4)),
        ("NLC", Layout("NLC", 4, 9)),
    ],
)
def test_a_planted_layout_is_wrong(monkeypatch: pytest.MonkeyPatch, dims: str, wrong: Layout) -> None:
    cell = judge(monkeypatch, lambda seed: Small(seed, dims), wrong)
    assert cell.status == "wrong", cell


def test_a_layer_that_loses_the_place_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = judge(monkeypatch, lambda seed: Small(seed, between=lambda x: x.mean((2, 3), keepdim=True) + 0 * x))
    assert (cell.status, cell.draws, cell.drawn) == ("cannot tell", 0, DRAWS)


def test_a_gradient_that_does_not_point_at_the_square_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer's numbers follow it, and the map is Grad-CAM's: what is left is how the scores read the layer."""

    class Mixed(Small):
        def forward(self, x: Tensor) -> Tensor:
            maps = torch.relu(self.stem(x))
            levels = maps.mean((2, 3), keepdim=True).expand_as(maps)
            return self.head(self.mix(torch.cat([maps, levels], 1))[:, WIDTH:].mean((2, 3)))

    cell = judge(monkeypatch, Mixed)
    assert cell.status == "cannot tell", cell
    assert cell.reason.endswith("where the layer's numbers do"), cell


def test_scores_that_do_not_see_the_square_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 0 + 1

    assert judge(monkeypatch, Blind).status == "cannot tell"


def test_a_layer_that_the_scores_read_elsewhere_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    class Corner(Small):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.stem(x))
            # the gradient at the layer is zero; the scores come by another way
            return self.head(x.mean((2, 3)) + 0 * self.mix(x).mean((2, 3)))

    assert judge(monkeypatch, Corner).status == "wrong"


@pytest.mark.parametrize("column", ["gradients", "occlusion"])
def test_maps_of_pixels_that_are_not_their_definition_are_wrong(monkeypatch: pytest.MonkeyPatch, column: str) -> None:
    def built(name: str, seed: int) -> hp.Classifier:
        network = nn.Sequential(Small(seed, between=torch.relu), nn.ReLU6(inplace=True))
        return hp.Classifier(network.eval(), (0.5,) * 3, (0.25,) * 3, input_size=SIDE, name=name)

    monkeypatch.setattr(columns, "_built", built)
    monkeypatch.setattr(columns, "SMALL", SIDE)
    found = COLUMNS[column]("small")
    assert {cell.status for cell in found.values()} == {"works"}, found
    for key in MADE_BY[column]:
        own = getattr(definitions, key)
        for fault in (lambda maps: maps.mT, lambda maps: maps * 1.001):
            with monkeypatch.context() as planted:
                planted.setattr(definitions, key, lambda *given, own=own, fault=fault: fault(own(*given)))
                found = COLUMNS[column]("small")
            assert {name for name, cell in found.items() if cell.status == "wrong"} == {key}


def test_guided_backprop_is_not_the_plain_gradient() -> None:
    """Else its column would hold one against the other's definition."""
    network = Small(0, between=torch.relu).eval()
    images = squares(SIDE)[:2]
    plain, guided = (definitions.gradient(network, images, 0, guided) for guided in (False, True))
    assert not torch.allclose(plain, guided)


def test_the_correlation_is_numpys() -> None:
    changed = torch.zeros(len(PLACES), 10, 10)
    for place, (row, col) in enumerate(PLACES):
        changed[place, round(10 * row), round(10 * col)] = 1
    found = followed(changed, PLACES)
    assert (found.rows, found.cols) == (pytest.approx(1.0), pytest.approx(1.0))
    assert followed(changed.mT, PLACES).least == pytest.approx(0.0, abs=1e-9)
    assert followed(changed.flip(1), PLACES).rows == pytest.approx(-1.0)


def test_the_layers_numbers_are_read_in_every_order() -> None:
    raw = torch.relu(Small(0).stem(squares(SIDE))).detach()
    for dims in ("NCHW", "NHWC", "NWCH"):
        turned = raw.permute(["NCHW".index(letter) for letter in dims])
        assert held(turned, PLACES).follows
    assert held(raw.flatten(2).mT, PLACES).follows
    assert not held(raw.mean((2, 3), keepdim=True).expand_as(raw), PLACES).follows


def test_scores_see_a_square_that_moves_them_more_than_noise() -> None:
    base, noise, squares_ = torch.zeros(1, 4), torch.full((1, 4), 0.1), torch.ones(9, 4)
    assert seen(torch.cat([base + 5, noise + 5, squares_ + 5]))
    assert not seen(torch.cat([base + 5, squares_[:1] + 5, noise.expand(9, 4) + 5]))
    assert not seen(torch.full((11, 4), 5.0))


def test_the_class_that_is_explained_is_alive() -> None:
    logits = torch.zeros(7, 3)
    assert mover(logits) is None
    logits[2:, 1] = 1
    assert mover(logits) == 1
