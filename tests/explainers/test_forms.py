"""The same network written in other ways has the same maps; settings that make no sense are named."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heatproof as hp
from heatproof.errors import InputError, ModelError, SpecError

TWICE = torch.tensor(2.0)


class Written(nn.Module):
    """A convolution, a scale, a ReLU, pooling and a head; ``how`` they are written is given."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(3, 4, 3, padding="valid" if how == "valid" else 0)
        self.relu = nn.ReLU6() if how.startswith("six") else nn.ReLU()
        self.head = nn.Linear(4, 3)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x * (TWICE if self.how == "constant" else 2)
        if self.how == "sizes" and (x.dim() != 4 or x.ndim != 4 or not x.numel() or not len(x)):
            raise ValueError("a batch of images was expected")
        x = {
            "in place": lambda: F.relu(x, True),
            "underscore": lambda: F.relu_(x),
            "torch": lambda: torch.relu(x),
            "method": lambda: x.relu(),
            "six, function": lambda: F.relu6(x),
        }.get(self.how, lambda: self.relu(x))()
        return self.head(x.mean((2, 3)))


def maps(explainer, how: str) -> Tensor:
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1)).double()
    model = hp.Classifier(Written(how).eval(), input_size=6).double()
    return explainer(model, images, torch.tensor([0, 2])).heatmaps


@pytest.mark.parametrize("explainer", [hp.GuidedBackprop(), hp.LRP(), hp.SimpleGrad()], ids=repr)
@pytest.mark.parametrize("how", ["in place", "underscore", "torch", "method", "valid", "constant", "sizes"])
def test_a_network_is_what_it_computes(explainer, how: str) -> None:
    expected = maps(explainer, "modules")
    assert expected.abs().max() > 0
    torch.testing.assert_close(maps(explainer, how), expected)


def test_a_relu_that_ends_at_six_is_guided_as_well() -> None:
    torch.testing.assert_close(maps(hp.GuidedBackprop(), "six, function"), maps(hp.GuidedBackprop(), "six, module"))
    assert not torch.allclose(maps(hp.GuidedBackprop(), "six, module"), maps(hp.GuidedBackprop(), "modules"))


def test_settings_that_make_no_sense_are_named() -> None:
    with pytest.raises(InputError, match="does not fit into images of 6x6"):
        maps(hp.Occlusion(patch=7), "modules")
    with pytest.raises(InputError, match=r"grey value must lie in \[0, 1\], got 2"):
        maps(hp.Occlusion(patch=2, fill=2.0), "modules")
    with pytest.raises(InputError, match="'mean' or 'blur', got 'sky'"):
        maps(hp.Occlusion(patch=2, fill="sky"), "modules")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"keep in \(0, 1\), got 8, 4, 1.5"):
        hp.RISE(masks=8, cells=4, keep=1.5)
    with pytest.raises(InputError, match="at least 1 step, got 0"):
        hp.IntegratedGradients(steps=0)
    with pytest.raises(SpecError, match="no score 'logits'; did you mean logit"):
        maps(hp.GradCAM("relu", score="logits"), "modules")  # pyright: ignore[reportArgumentType]


class Squared(Written):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square()


def test_networks_that_an_explainer_cannot_read_are_named() -> None:
    images = torch.rand(2, 3, 6, 6)
    with pytest.raises(ModelError, match="no global average of class maps over layer 'relu'"):
        hp.CAM("relu")(hp.Classifier(Squared("modules").eval(), input_size=6), images)
    flat = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    with pytest.raises(ModelError, match=r"returned \(2, 3, 6, 6\)"):
        hp.LRP()(hp.Classifier(flat.eval(), input_size=6), images)
