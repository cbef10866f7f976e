"""What the core leaves to the rooms above it: to open photos, and to show an explanation. They are names until used.

Explainers are pure functions of tensors and import nothing that reads files or draws. Where a user gives a photo to one
or looks at its answer, what is needed is fetched by the name that ``heatproof/__init__.py`` has put here.
"""

from importlib import import_module
from typing import Any

DOORS: dict[str, str] = {}
"""What is asked for -> ``"module:function"``."""


def door(name: str) -> Any:
    """The function that does it.

    >>> DOORS["root"] = "math:sqrt"
    >>> door("root")(9)
    3.0
    >>> del DOORS["root"]
    """
    module, _, attribute = DOORS[name].partition(":")
    return getattr(import_module(module), attribute)
