"""Half and double networks get photos of their type, which are read in single precision."""

import pytest
import torch
from torch import nn

import heatproof as hp


def made() -> hp.Classifier:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    return hp.Classifier(nn.Sequential(*layers), input_size=8, name="net").eval()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_first_layer_gets_its_own_type_and_maps_are_those_of_single(dtype: torch.dtype) -> None:
    seen: list[torch.dtype] = []
    photos = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    targets, explainer = torch.tensor([0, 1, 2, 0]), hp.GradCAM(layer="1", relu=False)
    wanted = explainer(made(), photos, targets).heatmaps
    other = hp.Classifier(made().network.to(dtype), input_size=8).eval()
    other.network[0].register_forward_pre_hook(lambda module, given: seen.append(given[0].dtype))  # type: ignore[index]
    found = explainer(other, photos, targets)
    assert set(seen) == {dtype}
    tolerance = {torch.float16: 5e-3, torch.bfloat16: 5e-2, torch.float64: 1e-5}[dtype]
    torch.testing.assert_close(
        found.heatmaps.float(), wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max())
    )
