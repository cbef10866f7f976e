"""Leave the model as it was found, also after an exception."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode inside, each one's own training flag again outside.

    Explanations are made in eval mode: an image's heatmap must not depend on its neighbours (batch norm) or on chance
    (dropout), and running statistics must not move.
    """
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
