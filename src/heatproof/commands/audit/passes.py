"""What an audit really asks of a network: the photos that went through it, forwards and backwards."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from heatproof.models.layers import network_of


@dataclass
class Passes:
    """Photos that went through the network so far.

    Attributes:
        forward: counted where they enter the first layer with weights, so that an explainer that walks the layers
            itself is counted too.
        backward: gradients that came back to the logits.
    """

    forward: int = 0
    backward: int = 0


@contextmanager
def counting(model: nn.Module) -> Generator[Passes]:
    """Count the passes of this network inside, those of its copies too."""
    passes, network = Passes(), network_of(model)

    # closures: a copy of the network counts into the same numbers
    def enter(module: nn.Module, inputs: Any) -> None:
        passes.forward += _count(inputs[0]) if inputs else 0

    def back(gradient: Tensor) -> None:
        passes.backward += len(gradient)

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(back)

    hooks = [_first(network).register_forward_pre_hook(enter), network.register_forward_hook(leave)]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


def _count(value: Any) -> int:
    return len(value) if isinstance(value, Tensor) and value.ndim else 0


def _first(network: nn.Module) -> nn.Module:
    """The first module with weights of its own, else the network."""
    own = (module for module in network.modules() if next(iter(module.parameters(recurse=False)), None) is not None)
    return next(own, network)
