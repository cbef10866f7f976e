"""Pixels are taken away in the order of a heatmap while the model is watched: orders, fillings, and the watching.

What is random is drawn on the CPU from a seed, one picture and one order for all images, so that an image's curve
depends neither on its neighbours nor on the device.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof.errors import InputError, SpecError, did_you_mean
from heatproof.heatmaps import resize
from heatproof.images import blurred
from heatproof.metrics.confidence import Answer, Model, answers
from heatproof.types import Heatmaps, Images, Targets

Order = Literal["most", "least", "random"]
"""Which goes first: what the map calls the most relevant, the least relevant, or any."""
Filling = float | Literal["noise", "mean", "blur"]
Turns = Int[Tensor, "batch height width"]
"""When each pixel goes; 0 first, pixels of one region together."""


def turns(
    heatmaps: Heatmaps, size: tuple[int, int], region: int, order: Order, *, seed: int = 0, ragged: bool = False
) -> Turns:
    """The turn of every pixel of images of ``size``: square regions by the mean of the map inside, ties from the top.

    Maps are brought to the size of the images bilinearly first.

    Raises:
        InputError: a region that does not divide the image (unless ``ragged``, which lets the last row and column of
            regions be narrower), or maps that are not finite.

    >>> turns(torch.tensor([[[1.0, 2.0], [4.0, 3.0]]]), (2, 2), 1, "most")
    tensor([[[3, 2],
             [0, 1]]])
    """
    if order not in get_args(Order):
        raise SpecError(f"there is no order {order!r}; {did_you_mean(str(order), get_args(Order))}")
    check_region(region, size, ragged)
    if heatmaps.ndim != 3:
        raise InputError(f"expected heatmaps [batch, rows, cols], got {list(heatmaps.shape)}")
    if not torch.isfinite(heatmaps).all():
        raise InputError("the heatmaps hold values that are NaN or infinite, which have no order")
    fine = heatmaps if heatmaps.shape[1:] == size else resize(heatmaps, size)
    relevance = F.avg_pool2d(fine[:, None], region, ceil_mode=True)[:, 0] if region > 1 else fine
    grid = relevance.shape[1:]
    if order == "random":
        line = torch.randperm(grid.numel(), generator=torch.Generator().manual_seed(seed)).to(heatmaps.device)
        places = line.expand(len(heatmaps), -1)
    else:
        # stable: which of two equal regions goes first must not depend on the device or the batch
        places = relevance.flatten(1).argsort(dim=1, descending=order == "most", stable=True)
    turn = torch.arange(grid.numel(), device=heatmaps.device).expand_as(places)
    found = torch.empty_like(places).scatter_(1, places, turn).view(-1, *grid)
    return found.repeat_interleave(region, 1).repeat_interleave(region, 2)[:, : size[0], : size[1]]


def check_region(region: int, size: tuple[int, int], ragged: bool) -> None:
    """Stop a region that does not tile the image.

    Raises:
        InputError: naming the nearest sizes that do.
    """
    rows, cols = size
    if not 1 <= region <= min(rows, cols):
        raise InputError(f"a region is a square of 1 to {min(rows, cols)} pixels, got {region}")
    if ragged or (rows % region == 0 and cols % region == 0):
        return
    fitting = [side for side in range(1, min(rows, cols) + 1) if rows % side == 0 and cols % side == 0]
    near = sorted(sorted(fitting, key=lambda side: abs(side - region))[:3])
    raise InputError(
        f"regions of {region} x {region} pixels do not tile images of {rows} x {cols}; take "
        f"{' or '.join(map(str, near))}, or ragged=True, which lets the last row and column of regions be narrower"
    )


def named(order: Order) -> str:
    """An order in words.

    >>> named("least"), named("random")
    ('least relevant first', 'in random order')
    """
    return "in random order" if order == "random" else f"{order} relevant first"


def unordered(heatmaps: Heatmaps, order: Order) -> Bool[Tensor, "batch"]:
    """Where a map gives no order: it is empty, or equal everywhere; a random order asks no map."""
    flat = heatmaps.flatten(1)
    return (flat.amax(1) == flat.amin(1)) & (order != "random")


def filling(images: Images, fill: Filling, seed: int) -> Images:
    """What is put in the place of what is taken away.

    A grey value · ``noise``: uniform in [0, 1] · ``mean``: the image's own, per channel · ``blur``: the image through
    a Gaussian of sigma 5 on 11 x 11 pixels.

    Raises:
        InputError: another filling, or a grey value outside [0, 1].
    """
    if isinstance(fill, int | float) and not isinstance(fill, bool):
        if not 0 <= fill <= 1:
            raise InputError(f"the fill's grey value must lie in [0, 1], got {fill}")
        return torch.full_like(images, float(fill))
    if fill == "noise":
        return torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(seed)).to(images).expand_as(images)
    if fill == "mean":
        return images.mean((2, 3), keepdim=True).expand_as(images)
    if fill == "blur":
        return blurred(images, 5.0, reach=5, border="replicate")
    raise InputError(f"fill is a grey value in [0, 1], 'noise', 'mean' or 'blur', got {fill!r}")


def together(images: Images) -> int:
    """How many images make a fast forward pass: on a CPU as many as its caches hold, else as many as fill the device.

    >>> together(torch.zeros(1, 3, 224, 224)), together(torch.zeros(1, 3, 32, 32))
    (8, 256)
    """
    # measured with ResNet-18 at 224 pixels on one core: 8 at once take 0.7 of the time of 32
    fitting = (8 if images.device.type == "cpu" else 256) * 224 * 224 // images[0, 0].numel()
    return min(256, max(8, fitting))


def watch(
    model: Model,
    images: Images,
    fill: Images,
    turn: Turns,
    levels: Sequence[int],
    targets: Targets,
    *,
    answer: Answer = "probability",
    at_once: int | None = None,
) -> Float[Tensor, "batch levels"]:
    """The model's answer when the pixels of the first ``level`` turns show the filling, for each level.

    Args:
        at_once: images in one forward pass (memory and speed only); ``None``: :func:`together`.
    """
    steps = torch.tensor(levels, device=images.device)
    last = images.is_contiguous(memory_format=torch.channels_last) and images.shape[1] > 1
    layout = torch.channels_last if last else torch.contiguous_format
    found = []
    for pair in torch.arange(len(images) * len(steps), device=images.device).split(max(1, at_once or together(images))):
        image, level = pair // len(steps), pair % len(steps)
        gone = (turn[image] < steps[level, None, None])[:, None]
        mixed = torch.where(gone, fill[image], images[image]).contiguous(memory_format=layout)
        found.append(answers(model, mixed, targets[image], answer))
    return torch.cat(found).view(len(images), len(steps))
