"""What is really asked of a network: the photos that went through it, forwards and backwards."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.layers import network_of
from heatproof.models.structure import observer

TIMED = 8
"""Photos of the pass that is timed."""


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
def counting(model: nn.Module, tell: Callable[[int], None] = lambda count: None) -> Generator[Passes]:
    """Count the passes of this network inside, those of its copies too.

    Args:
        tell: is told of each forward pass how many photos it has.
    """
    passes, network = Passes(), network_of(model)

    # closures: a copy of the network counts into the same numbers
    @observer
    def enter(module: nn.Module, inputs: Any) -> None:
        count = _count(inputs[0]) if inputs else 0
        passes.forward += count
        tell(count)

    def back(gradient: Tensor) -> None:
        passes.backward += len(gradient)

    @observer
    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(back)

    hooks = [_first(network).register_forward_pre_hook(enter), network.register_forward_hook(leave)]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


def seconds_per_pass(model: Classifier, hardware: Hardware) -> float:
    """Of one photo forwards, when the network is warm and goes through several at once."""
    grey = hardware.bring(torch.full((TIMED, model.channels, *model.input_shape), 0.5))
    with torch.no_grad(), hardware.autocast():
        # a number on the host: the device is done
        float(model(grey).sum())
        begun = time.perf_counter()
        float(model(grey).sum())
    return (time.perf_counter() - begun) / TIMED


def _count(value: Any) -> int:
    return len(value) if isinstance(value, Tensor) and value.ndim else 0


def _first(network: nn.Module) -> nn.Module:
    """The first module with weights of its own, else the network."""
    own = (module for module in network.modules() if next(iter(module.parameters(recurse=False)), None) is not None)
    return next(own, network)
