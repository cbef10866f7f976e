"""What the rules of layer, group, instance and RMS norm read: with the deviation held constant they are linear."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from heatproof.errors import ModelError
from heatproof.explainers.lrp.affine import full
from heatproof.explainers.lrp.kinds import Kind


class Standard(NamedTuple):
    """One call of a norm by the signal's own deviation: z = w (x - mean) / deviation + b."""

    name: str
    rows: Callable[[Tensor], Tensor]
    """The cells that are standardised together, a row each: ``[rows, cells]``."""
    weight: Tensor | float
    """Broadcasts to x."""
    bias: Tensor | float
    eps: float
    centred: bool
    """Whether the mean is taken away; RMS norm leaves it."""

    def deviation(self, x: Tensor) -> Tensor:
        """sqrt(mean square + eps) of each row, of what is left after the mean: ``[rows, 1]``."""
        rows = self.centre(self.rows(x))
        return (rows.square().mean(1, keepdim=True) + self.eps).sqrt()

    def centre(self, rows: Tensor) -> Tensor:
        """Each row without its mean; the matrix of this is its own transpose."""
        return rows - rows.mean(1, keepdim=True) if self.centred else rows

    def output(self, x: Tensor) -> Tensor:
        """z."""
        return (self.centre(self.rows(x)) / self.deviation(x)).view_as(x) * self.weight + self.bias

    def transpose(self, relevance: Tensor, x: Tensor) -> Tensor:
        """W^T relevance, W = w centre / deviation with the deviation as it is at x."""
        return self.centre(self.rows(relevance * self.weight) / self.deviation(x)).view_as(x)


def standard(kind: Kind, module: nn.Module | None, arguments: dict[str, Any], name: str) -> Standard:
    """The view of one call; ``arguments`` are those of the functional form.

    Raises:
        ModelError: for an instance norm by running statistics, which the signal's own deviation is no part of.
    """
    read: Any = arguments.get if module is None else lambda key, default=None: getattr(module, key, default)
    x = arguments["input"]
    if read("track_running_stats", False) or not read("use_input_stats", True):
        raise ModelError(
            f"{name!r} is an instance norm with running statistics, which LRP has no rule for; in eval mode it is what "
            "a batch norm with the same weights and statistics is: put that in its place"
        )
    weight, bias = (None if value is None else full(value) for value in (read("weight"), read("bias")))
    eps, layers = read("eps"), issubclass(kind, (nn.LayerNorm, nn.RMSNorm))
    if eps is None:
        eps = torch.finfo(x.dtype).eps if issubclass(kind, nn.RMSNorm) else 1e-5
    if layers:
        cells = math.prod(read("normalized_shape"))
    else:
        # the cells of a group of channels; an instance norm's groups have one
        cells = x[0].numel() // (read("num_groups") if issubclass(kind, nn.GroupNorm) else x.shape[1])
        across = (-1, *[1] * (x.ndim - 2))
        weight, bias = (None if value is None else value.view(across) for value in (weight, bias))
    return Standard(
        name,
        lambda values: values.reshape(-1, cells),
        1.0 if weight is None else weight,
        0.0 if bias is None else bias,
        eps,
        centred=not issubclass(kind, nn.RMSNorm),
    )
