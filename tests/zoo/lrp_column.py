"""LRP's column of the zoo: does the default composite, or else attnlrp, make a map, or refuse by name?

>>> lrp_works("resnet18")
'works'
"""

from typing import Any

import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof.vision import torchvision


def built(name: str) -> tuple[nn.Module, int]:
    """A network with random weights, batch norm's among them, and its side in pixels; ``timm.NAME`` is timm's."""
    torch.manual_seed(0)
    if name.startswith("timm."):
        # after heatproof.vision, which lets torchvision be imported
        import timm

        network: Any = timm.create_model(name.removeprefix("timm."), pretrained=False)
        size = int(network.pretrained_cfg["input_size"][-1])
    else:
        extra = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        network, size = torchvision.models.get_model(name, weights=None, **extra), 299 if "inception" in name else 224
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            nn.init.normal_(module.get_buffer("running_mean"), 0, 0.2)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
    for parameter in network.parameters():
        # heads and layer scales that start at nothing
        if parameter.numel() > 1 and parameter.detach().abs().max() < 1e-3:
            nn.init.normal_(parameter, 0, 0.05)
    return network.eval(), size


def images_for(network: nn.Module, size: int) -> Tensor:
    """One image of 64 pixels where the network takes it, which is many times faster, else of its own size."""
    for side in (64, size):
        images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
        try:
            with torch.no_grad():
                network(images)
        except Exception:
            if side == size:
                raise
        else:
            return images
    raise AssertionError


def lrp_works(name: str) -> str:
    """``works``, ``works: attnlrp`` where only that composite has all the rules, or ``refused: ...`` with the sentence.

    A map that is not finite, or all zero, or whose logits are not the network's, is an AssertionError: it is wrong.
    """
    network, size = built(name)
    images = images_for(network, size)
    model = hp.Classifier(network, (0.5,) * 3, (0.25,) * 3, input_size=size)
    attributes = [dict(vars(module)) for module in network.modules()]
    said = ""
    for composite in ("lrp", "attnlrp"):
        try:
            found = hp.LRP(composite=composite)(model, images)
        except hp.HeatproofError as error:
            said = said or f"refused: {error}"
            continue
        assert found.heatmaps.isfinite().all(), f"{name}: a map that is not finite"
        assert found.heatmaps.abs().sum() > 0, f"{name}: an empty map"
        torch.testing.assert_close(found.logits, model(images).detach(), rtol=1e-3, atol=1e-3)
        said = "works" if composite == "lrp" else "works: attnlrp"
        break
    for before, module in zip(attributes, network.modules(), strict=True):
        after = vars(module)
        assert list(before) == list(after), f"{name}: attributes came or went"
        assert all(after[key] is value for key, value in before.items()), f"{name}: an attribute changed"
    return said
