"""What is odd about images that were given as tensors, and the way out, where the network itself cannot know."""

import warnings
from contextlib import suppress
from weakref import WeakSet

from torch import Tensor, nn

from heatproof.errors import InputError, ModelError, Remark

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
        stacklevel=5,
    )


def no_tensor(given: object) -> str:
    """The sentence for what is no tensor of images, where photos are not opened."""
    return (
        f"images must be a tensor [batch, channels, height, width], got {type(given).__name__}; "
        "hp.open_photo(photo, model) makes one, and explainers take paths, pictures and arrays as they are"
    )


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
            stacklevel=4,
        )
