"""What is odd about images that were given as tensors, and the way out, where the network itself cannot know."""

import warnings
from contextlib import suppress
from weakref import WeakSet

from torch import Tensor, nn

from heatproof.errors import InputError, ModelError, Remark, callers_level
from heatproof.types import Images, Targets

GREY_LEVELS = 4.0
"""The highest value of normalised pixels, roughly: what goes beyond and is never negative are grey levels."""

_LOOKED_AT: "WeakSet[nn.Module]" = WeakSet()


def takes_activations(network: nn.Module) -> None:
    """Part of a network: what goes into it are no pixels, so nothing is odd about them."""
    _LOOKED_AT.add(network)


def remark_on_pixels(network: nn.Module, images: Tensor) -> None:
    """Say of a bare network, at its first images, that these look like pixels which nobody normalised.

    A network that does so itself takes no harm: it is said, and goes on.
    """
    if network in _LOOKED_AT:
        return
    _LOOKED_AT.add(network)
    low, high = (float(end) for end in images.detach().aminmax())
    if low < 0 or 1 < high <= GREY_LEVELS:
        return
    name = type(network).__name__
    warnings.warn(
        Remark(
            f"{name} is a bare network, and its images lie in [{low:.3g}, {high:.3g}], as pixels do before they are "
            f"normalised{'' if high <= 1 else ' and even before they are divided by 255'}. If it was trained on "
            "normalised ones, its answers and maps are of something else: hp.Classifier(network, mean=(...), "
            "std=(...)) normalises images in [0, 1] itself"
        ),
        stacklevel=callers_level(),
    )


def no_tensor(given: object) -> str:
    """The sentence for what is no tensor of images, where photos are not opened."""
    return (
        f"images must be a tensor [batch, channels, height, width], got {type(given).__name__}; "
        "hp.open_photo(photo, model) makes one, and explainers take paths, pictures and arrays as they are"
    )


def not_numbers(images: Images) -> str:
    """Half a sentence for pixels that are no numbers: how many, and in which images.

    >>> import torch
    >>> not_numbers(torch.tensor([[[[0.5, float("nan")]]]]))
    '1 of 2 values is no number (NaN), the first of them in image 0'
    """
    missing = images.detach().isnan().flatten(1)
    count, first = int(missing.sum()), int(missing.any(1).int().argmax())
    verb = "is no number" if count == 1 else "are no numbers"
    return f"{count:,} of {missing.numel():,} values {verb} (NaN), the first of them in image {first}"


def outside(targets: Targets, classes: int) -> str:
    """The sentence for targets that are no class.

    >>> import torch
    >>> outside(torch.tensor([3, -1]), 3), outside(torch.tensor([-1]), 1)
    ('targets must lie in 0..2, got 3 and -1', 'the only class is 0, got -1 as a target')
    """
    wrong = list(dict.fromkeys(target for target in targets.tolist() if not 0 <= target < classes))
    got = " and ".join(map(str, wrong[:3])) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    if classes == 1:
        return f"the only class is 0, got {got} as a target"
    return f"targets must lie in 0..{classes - 1}, got {got}"


def check_shape(images: Tensor) -> None:
    """Stop what is no floating-point batch of images.

    Raises:
        InputError: with the way from the usual other forms.
    """
    way = ""
    if images.ndim == 3 and images.is_floating_point():
        way = "; of one image make a batch: images[None]"
    elif images.ndim == 4 and not images.is_floating_point():
        way = "; of grey levels in 0..255: images.float() / 255"
    if images.ndim != 4 or not images.is_floating_point():
        raise InputError(
            "images must be a floating-point batch [batch, channels, height, width], "
            f"got {list(images.shape)} of {str(images.dtype).removeprefix('torch.')}{way}"
        )
    if len(images) == 0:
        raise InputError("there is no image in this batch")


def check_channels(name: str, given: int, wanted: int) -> None:
    """Stop images of other channels than the network's.

    Raises:
        InputError: with the way out for grey photos.
    """
    if given == wanted:
        return
    grey = "; of a grey photo all channels are alike: images.expand(-1, 3, -1, -1)" if (given, wanted) == (1, 3) else ""
    raise InputError(f"{name} takes images of {wanted} channels, got {given}{grey}")


def check_first_convolution(network: nn.Module, images: Tensor) -> None:
    """Stop images of other channels than a bare network takes; where some convolution takes as many, nothing is asked.

    Raises:
        InputError: with the way out for grey photos.
    """
    given = images.shape[1]
    takes = {module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)}
    if not takes or given in takes:
        return
    # which runs the network
    from heatproof.models.channels import input_channels

    name, (rows, cols) = type(network).__name__, images.shape[2:]
    # what the network does not say is left to its own pass
    with suppress(ModelError):
        check_channels(name, given, input_channels(network, (rows, cols), name))


def remark_on_one_cell(layer: str, rows: int, cols: int) -> None:
    """Say of a map of a single cell that it shows no place."""
    if rows * cols == 1:
        warnings.warn(
            Remark(
                f"the map of layer {layer!r} is 1x1: it says how much, not where; choose an earlier layer "
                "(`heatproof list layers`), or larger images"
            ),
            stacklevel=callers_level(),
        )
