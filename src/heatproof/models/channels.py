"""How many channels a network takes: asked of the first layer that runs, not of the first that is listed."""

from contextlib import suppress

import torch
from torch import Tensor, nn

from heatproof.errors import ModelError
from heatproof.models.intact import evaluating

TRIED = (3, 1, 4, 2)
"""Channels that are tried in turn, most likely first; then what the network's convolutions take."""


class _Reached(Exception):
    """A convolution has run: the pass need not go on."""

    def __init__(self, module: nn.Conv2d, channels: int):
        super().__init__()
        self.takes, self.given = module.in_channels, channels


def input_channels(network: nn.Module, size: tuple[int, int], name: str, likely: int | None = None) -> int:
    """The channels of the images that ``network`` takes.

    A pass is begun with 3 channels, or as many as are likely, and ends at the first convolution that runs. If that one
    takes as many, so does the network; otherwise the same is tried with what it takes, and with others. A network
    without a convolution is run to its end.

    Args:
        size: (rows, cols) of the images.
        name: what the error calls the network.
        likely: how many its mean and std are of; a network that takes any number takes these.

    Raises:
        ModelError: a pass ends in none of them.

    >>> input_channels(nn.Sequential(nn.Conv2d(6, 4, 3), nn.Flatten(), nn.LazyLinear(2)), (8, 8), "mine")
    6
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    wanted = [
        *([] if likely is None else [likely]),
        *TRIED,
        *dict.fromkeys(module.in_channels for module in convolutions),
    ]
    hooks = [module.register_forward_pre_hook(_stop) for module in convolutions]
    tried: list[int] = []
    try:
        with evaluating(network), torch.no_grad():
            while wanted:
                channels = wanted.pop(0)
                if channels in tried:
                    continue
                tried.append(channels)
                reached = _first(network, channels, size)
                if reached is True or (reached and reached.given == reached.takes):
                    return channels
                if reached:
                    wanted.insert(0, reached.takes)
    finally:
        for hook in hooks:
            hook.remove()
    raise ModelError(
        f"{name} takes images of none of {', '.join(map(str, sorted(tried)))} channels at {size[0]}x{size[1]} pixels; "
        "say what it takes: Classifier(network, channels=..., input_size=...), or the flags --channels and --input-size"
    )


def _first(network: nn.Module, channels: int, size: tuple[int, int]) -> "_Reached | bool":
    """The first convolution that an image of so many channels comes to; whether the pass ends where there is none."""
    parameter = next((value for value in network.parameters() if value.is_floating_point()), torch.zeros(()))
    image = torch.full((1, channels, *size), 0.5, device=parameter.device, dtype=parameter.dtype)
    try:
        network(image)
    except _Reached as found:
        return found
    except Exception:  # whatever a network raises at images that are not its own
        return False
    return True


def _stop(module: nn.Module, given: tuple[Tensor, ...]) -> None:
    with suppress(AttributeError, IndexError):
        raise _Reached(module, given[0].shape[1])  # type: ignore[arg-type]
