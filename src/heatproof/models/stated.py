"""What is said of a network when it is wrapped: normalisation and names of classes, in the forms that people use."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from heatproof.errors import ModelError

Values = float | Sequence[float] | NDArray[Any] | Tensor
"""One number for all channels alike, or one for each."""


def channel_values(given: Any, what: str) -> Tensor:
    """``[channels, 1, 1]`` of numbers, an array or a tensor.

    Raises:
        ModelError: it is none.

    >>> channel_values(0.5, "mean").shape, channel_values((0.4, 0.5, 0.6), "mean").shape
    (torch.Size([1, 1, 1]), torch.Size([3, 1, 1]))
    """
    try:
        values = torch.as_tensor(given, dtype=torch.float32).detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{what} is a number for all channels or one for each, got {given!r}") from error
    if not values.numel():
        raise ModelError(f"{what} is a number for all channels or one for each, got none")
    return values.view(-1, 1, 1)


def stated_channels(mean: Any, std: Any) -> int | None:
    """How many channels the values are of; ``None`` where each is one number for all, or changes nothing.

    Raises:
        ModelError: mean and std are of different numbers of channels.

    >>> stated_channels((0.4,), 0.2), stated_channels(0.4, 0.2), stated_channels((0.0,), (1.0,))
    (1, None, None)
    """
    counts = {what: _count(given, idle) for what, given, idle in (("mean", mean, 0.0), ("std", std, 1.0))}
    told = {count for count in counts.values() if count is not None}
    if len(told) > 1:
        raise ModelError(
            f"mean is of {counts['mean']} channels and std of {counts['std']}; give one number (without brackets) for "
            "all channels, or one for each"
        )
    return told.pop() if told else None


def _count(given: Any, idle: float) -> int | None:
    values = torch.as_tensor(given)
    return None if values.ndim == 0 or values.flatten().tolist() == [idle] else values.numel()


def class_names(given: Any) -> list[str] | None:
    """Names of classes in the order of the logits, also of a mapping ``{0: "tench", ...}``.

    Raises:
        ModelError: these are no names, or a mapping lacks a number.

    >>> class_names({1: "cat", 0: "dog"}), class_names(None)
    (['dog', 'cat'], None)
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        names = {int(number): str(name) for number, name in given.items() if str(number).isdigit()}
        if len(names) != len(given) or sorted(names) != list(range(len(names))):
            raise ModelError(
                "classes are names in the order of the logits, or {0: name, 1: name, ...} without gaps, got the keys "
                f"{list(given)[:6]}"
            )
        return [names[number] for number in range(len(names))]
    if isinstance(given, str | int) or not hasattr(given, "__iter__"):
        raise ModelError(
            f'classes are names in the order of the logits, ["cat", "dog"], got {given!r}; without names leave them '
            "out, and classes are called by their number"
        )
    return [str(name) for name in given]
