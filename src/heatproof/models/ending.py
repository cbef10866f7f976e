"""How a network ends and begins, where it matters: in a softmax or sigmoid, and with a normalisation of its own."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from heatproof.errors import HeatproofError
from heatproof.models.intact import evaluating
from heatproof.models.outputs import looks_like_probabilities
from heatproof.types import Logits

Ending = Literal["softmax", "sigmoid"]

PASSING = (
    *("View", "UnsafeView", "ReshapeAlias", "Alias", "Squeeze", "Unsqueeze", "Select", "Slice", "Clone", "ToCopy"),
    *("Cat", "Stack", "Permute", "Transpose", "T", "Expand", "Contiguous", "Unbind", "Split"),
)
"""Nodes of the graph that hand numbers on as they are."""


def ending_of(outputs: Logits) -> Ending | None:
    """Whether the numbers are a softmax's or a sigmoid's own, by the graph that made them.

    Where there is no graph (a forward pass under ``no_grad``) a softmax is known by its rows, which lie in [0, 1] and
    sum to 1; a sigmoid is not, for logits may lie in [0, 1] too.

    >>> z = torch.tensor([[0.2], [0.9]], requires_grad=True)
    >>> ending_of(z.sigmoid().squeeze(1)[:, None]), ending_of(z * z.sigmoid()), ending_of(z.sigmoid().logit())
    ('sigmoid', None, None)
    """
    ways, seen = [outputs.grad_fn], set()
    while ways:
        node = ways.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = node.name().removesuffix("0").removesuffix("1").removesuffix("Backward")
        if name in ("Softmax", "Sigmoid"):
            return "softmax" if name == "Softmax" else "sigmoid"
        if name in PASSING:
            ways += [following for following, _ in node.next_functions]
    return "softmax" if looks_like_probabilities(outputs.detach()) else None


ARITHMETIC = ("sub", "add", "mul", "div", "rsub")
FEW = 64
"""So many numbers at most are a constant of all channels."""
HANDING_ON = (
    "view",
    "_unsafe_view",
    "select",
    "slice",
    "unbind",
    "clone",
    "_to_copy",
    "expand",
    "unsqueeze",
    "squeeze",
)


class _Start(TorchDispatchMode):
    """Follows the image until anything but arithmetic with constants is done with it."""

    def __init__(self, image: Tensor, weights: set[int]):
        super().__init__()
        self.places, self.weights = {_place(image)}, weights
        self.alive: list[Tensor] = [image]
        """So that no place is given to another tensor."""
        self.derived: set[Any] = set()
        """Few numbers made of the image (its mean), which are no constants."""
        self.shifted = self.scaled = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::").removesuffix("_")
        given = [value for value in args if isinstance(value, Tensor)]
        own = [value for value in given if _place(value) in self.places]
        derived = any(_place(value) in self.derived for value in given)
        if own or derived:
            self._derive(result)
        if not own:
            return result
        others = [value for value in args if not any(value is one for one in own)]
        constant = not derived and all(_is_constant(other, self.weights) for other in others)
        if name in ARITHMETIC and constant and len(others) > 0:
            self.shifted |= name in ("sub", "add", "rsub")
            self.scaled |= name in ("mul", "div")
        elif name not in HANDING_ON:
            return result
        for made in result if isinstance(result, tuple | list) else [result]:
            self.places.add(_place(made))
            self.alive.append(made)
        return result

    def _derive(self, result: Any) -> None:
        for made in result if isinstance(result, tuple | list) else [result]:
            if isinstance(made, Tensor) and made.numel() <= FEW:
                self.derived.add(_place(made))
                self.alive.append(made)


def _place(tensor: Tensor) -> Any:
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape)  # pyright: ignore[reportPrivateUsage]


def _is_constant(value: Any, weights: set[int]) -> bool:
    """A number, or a few numbers per channel that are no weight."""
    if isinstance(value, Tensor):
        return value.untyped_storage()._cdata not in weights and value.numel() <= FEW  # pyright: ignore[reportPrivateUsage]
    return isinstance(value, int | float)


def normalises_itself(network: nn.Module, image: Tensor) -> bool:
    """Whether the network begins with (x - mean) / std, or x * a - b, whose constants are no weights of its own.

    By one pass over one image; what that pass raises says nothing here.

    >>> class Own(nn.Module):
    ...     def forward(self, x):
    ...         return ((x - 0.5) / 0.25).mean((2, 3))
    >>> normalises_itself(Own(), torch.rand(1, 3, 8, 8)), normalises_itself(nn.Flatten(), torch.rand(1, 3, 8, 8))
    (True, False)
    """
    weights = {weight.untyped_storage()._cdata for weight in network.parameters()}  # pyright: ignore[reportPrivateUsage]
    with torch.no_grad(), evaluating(network), _Start(image, weights) as start:
        try:
            network(image)
        except HeatproofError:
            raise
        except Exception:  # told where images are first explained
            return False
    return start.shifted and start.scaled
