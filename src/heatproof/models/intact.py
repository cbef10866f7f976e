"""Leave the model as it was found, also after an exception."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from heatproof.models.classifier import Classifier, unwrap

_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_NEW = Lock()


def _lock(model: nn.Module) -> Any:
    """One for each network, whatever it is wrapped in."""
    network = model.network if isinstance(model, Classifier) else unwrap(model)
    with _NEW:
        return _LOCKS.setdefault(network, RLock())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode inside, each one's own training flag again outside.

    Explanations are made in eval mode: an image's heatmap must not depend on its neighbours (batch norm) or on chance
    (dropout), and running statistics must not move. Threads that explain one network wait for each other: flags and
    hooks are the network's, not the thread's.
    """
    with _lock(model):
        training = [module for module in model.modules() if module.training]
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True
