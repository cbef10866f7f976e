"""Where the photos and weights lie that the repository may not carry."""

import os
from pathlib import Path

from heatproof.errors import InputError


def shared(name: str) -> Path:
    """``name`` in the folder of real photos and weights: ``../shared``, or where HEATPROOF_SHARED points.

    Raises:
        InputError: saying where it was looked for and how to name a file of one's own.
    """
    folder = Path(os.environ.get("HEATPROOF_SHARED") or "../shared")
    if not (folder / name).exists():
        raise InputError(
            f"{folder / name} is missing; it is not part of the package. Point HEATPROOF_SHARED at the folder "
            "that holds it, or name a file of your own with --set"
        )
    return folder / name


def named(name: str, what: str = "data") -> str:
    """A name as ``heatproof`` takes it; ``shared:...`` lies in the folder of real photos and weights.

    Raises:
        InputError: there is no name, or nothing of that name in the folder.
    """
    if not name:
        raise InputError(f"this preset needs {what} of your own: --set {what}=NAME; or --preset small")
    if not name.startswith("shared:"):
        return name
    # of "weights/zoo.py:resnet20" the file is before the colon
    path, colon, factory = name.removeprefix("shared:").partition(":")
    return f"{shared(path)}{colon}{factory}"
