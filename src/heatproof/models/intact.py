"""Leave the model as it was found, also after an exception."""

from collections.abc import Generator
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
def alone(model: nn.Module) -> Generator[None]:
    """No other thread explains the network inside: flags and hooks are the network's, not the thread's."""
    with _lock(model):
        yield


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
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


@contextmanager
def unchanged(model: nn.Module) -> Generator[None]:
    """Every module's attributes, and the lists and dictionaries among them, are afterwards what they were.

    For a forward pass on something that is no tensor of the user's: what it leaves behind (cached position biases,
    sizes of the last input) must not stay.
    """
    before = [(vars(module), _copied(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for attributes, copied in before:
            _restore(attributes, copied)


_Copied = dict[Any, tuple[Any, Any]]
"""Key -> the value, and a copy of its content where it can change."""


def _copied(attributes: dict[Any, Any]) -> _Copied:
    return {
        key: (value, _copied(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else None)
        for key, value in attributes.items()
    }


def _restore(attributes: dict[Any, Any], copied: _Copied) -> None:
    if [(key, id(value)) for key, value in attributes.items()] != [(k, id(v)) for k, (v, _) in copied.items()]:
        attributes.clear()
        attributes.update({key: value for key, (value, _) in copied.items()})
    for value, content in copied.values():
        if isinstance(value, dict):
            _restore(value, content)
        elif isinstance(value, list) and (len(value) != len(content) or any(map(_differs, value, content))):
            value[:] = content


def _differs(one: Any, other: Any) -> bool:
    return one is not other
