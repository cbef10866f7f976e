"""Room for a planted filter: the function stays, and what was there before is found again."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.models.planted import Planting, narrowed, plant

LINEAR = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def network(*head: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 4, 3, bias=False), rest=nn.Sequential(*head), flat=nn.Flatten())
    ).eval()


@pytest.mark.parametrize(
    ("net", "head"),
    [
        (network(*LINEAR, nn.Linear(4, 5)), ["rest.2"]),
        (network(*LINEAR, nn.Linear(4, 5, bias=False)), ["rest.2"]),
        (network(*LINEAR, nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 5)), ["rest.2", "rest.4"]),
        (network(nn.Conv2d(4, 5, 1, bias=False), nn.AdaptiveAvgPool2d(1)), ["rest.0"]),
    ],
    ids=["linear", "without bias", "hidden", "convolution"],
)
def test_the_function_stays_and_the_old_tensors_are_found(net: nn.Module, head: list[str]) -> None:
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        before: Tensor = net(images)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    planting = Planting("conv", 4, 6, 6, head)
    plant(net, planting)
    with torch.no_grad():
        torch.testing.assert_close(net(images), before)
    found = narrowed(net.state_dict(), planting)
    assert found.keys() >= state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_a_head_that_reads_no_whole_channels_is_refused() -> None:
    net = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), head=nn.Linear(7, 2)))
    with pytest.raises(InputError, match="head reads 7 numbers, which are no whole maps of the 4 channels of conv"):
        plant(net, Planting("conv", 4, 6, 6, ["head"]))
