"""The shapes in signatures, checked while tests run: ``--jaxtyping-packages=heatproof,shapes.checked``.

Other types are left to pyright: many tests give a wrong one on purpose, to read what the door says.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, get_args

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, config

RULES = BeartypeConf(is_pep484_tower=True)
"""An int will do where a float is asked for, as in Python's own rules."""


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, a stand-in that jaxtyping makes of a signature, with the hints that hold a shape enforced."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if holds_shape(hint)}
    return beartype(conf=RULES)(function)


def holds_shape(hint: Any) -> bool:
    """Whether an array's shape stands in a hint, at any depth but a callable's, which only calling it could check.

    >>> from heatproof.types import Images
    >>> holds_shape(Images), holds_shape(Images | None), holds_shape(list[Images]), holds_shape(int)
    (True, True, True, False)
    """
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(holds_shape(part) for part in get_args(hint) if not isinstance(part, list))


@contextmanager
def unchecked() -> Generator[None]:
    """For what hands over a wrong shape on purpose, to read what the door says; decorates a test as well."""
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", False)
