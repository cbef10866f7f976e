"""A network of any architecture with random weights, and the pictures that it is asked about."""

from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

import heatproof as hp
from heatproof.vision import torchvision

CLASSES = 16
PLACES = tuple((row, col) for row in (0.2, 0.5, 0.8) for col in (0.2, 0.5, 0.8))
"""Centres of the square, in parts of the image's rows and columns."""
CORNERS = tuple(PLACES[place] for place in (0, 2, 4, 6, 8))
"""Fewer, for what costs more."""
SIDE = 192
"""Pixels of a side where an architecture takes any: maps of 6x6 cells at the least."""
SIDES = {"inception_v3": 299, "googlenet": 224, "timm:inception_v4": 256, "timm:inception_resnet_v2": 256}
"""Where unpadded convolutions leave fewer cells of that."""
SMALLER = {"timm:beit_base_patch16_224": 112, "timm:vit_base_patch16_rope_224": 112}
"""Transformers that are not made small, with fewer tokens."""


def build(name: str, seed: int = 0) -> hp.Classifier:
    """The architecture with random weights and batch norms, for images of the least side that shows enough cells."""
    torch.manual_seed(seed)
    network, native, flexible = _made(name)
    for weights in network.parameters():
        # heads and layer scales that begin at nothing hear nothing of the image
        if weights.numel() > 1 and weights.detach().abs().max() < 1e-3:
            nn.init.normal_(weights, 0, 0.02)
    wanted = SIDES.get(name, SMALLER.get(name, SIDE if flexible else native))
    side = wanted if taken(network, wanted) else native
    _randomise_norms(network, squares(side, PLACES, 0.5) if seed % 2 == 0 else textures(side, seed))
    return hp.Classifier(network.eval(), (0.5,) * 3, (0.25,) * 3, input_size=side, name=name)


def _made(name: str) -> tuple[nn.Module, int, bool]:
    """The network, the side that it is published for, and whether it says that it takes others."""
    more: dict[str, Any]
    if not name.startswith("timm:"):
        more = {"init_weights": True} if name in ("inception_v3", "googlenet") else {}
        made = torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **more)
        return made, 224, not name.startswith(("vit_", "maxvit"))
    # after heatproof.vision, which lets torchvision be imported
    import timm

    more = {"img_size": SMALLER[name]} if name in SMALLER else {}
    network = timm.create_model(name.removeprefix("timm:"), pretrained=False, num_classes=CLASSES, **more)
    published: Any = network.pretrained_cfg
    return network, published["input_size"][-1], not published.get("fixed_input_size", False)


def taken(network: nn.Module, side: int) -> bool:
    """Whether a forward pass takes images of that side."""
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, side, side))
    except Exception:
        return False
    return True


def _randomise_norms(network: nn.Module, images: Tensor) -> None:
    """Random batch norms, about the statistics of the images: about 0 and 1 the signal of a deep network dies out."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
        if norm.affine:
            norm.weight.data.uniform_(0.5, 1.5)
            norm.bias.data.normal_(0, 0.1)
    network.train()
    with torch.no_grad():
        network((images - 0.5) / 0.25)
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.5, 1.5)


def squares(side: int, places: tuple[tuple[float, float], ...] = PLACES, brighter: float = 0.1) -> Tensor:
    """Faint noise, the same with other noise in a square amid it, and with a brighter square at each of the places.

    A glaring square saturates the attention of random weights: every cell then looks at it, wherever it is.
    """
    base, again = 0.5 + 0.02 * torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    images = torch.stack([base] * (2 + len(places)))
    cells = side // 4
    amid = slice((side - cells) // 2, (side + cells) // 2)
    images[1, :, amid, amid] = again[:, amid, amid]
    for image, (row, col) in zip(images[2:], places, strict=True):
        top, left = round(row * side - cells / 2), round(col * side - cells / 2)
        image[:, top : top + cells, left : left + cells] += brighter
    return images.clamp(0, 1)


@lru_cache(maxsize=4)
def textures(side: int, seed: int) -> Float[Tensor, "photos 3 side side"]:
    """Noise with the spectrum of photos, whose amplitude falls with the frequency."""
    frequency = (torch.fft.fftfreq(side)[:, None] ** 2 + torch.fft.rfftfreq(side)[None] ** 2).sqrt()
    noise = torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(seed))
    pink = torch.fft.irfft2(torch.fft.rfft2(noise) / (frequency + 1 / side), s=(side, side))
    pink = pink - pink.mean((2, 3), keepdim=True)
    return (0.5 + 0.15 * pink / pink.std((1, 2, 3), keepdim=True)).clamp(0, 1)
