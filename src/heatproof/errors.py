"""One family of exceptions for what a user can cause; the command line prints their sentence, never a traceback.

HeatproofError
├── InputError       images, labels, targets or data that do not fit
│   └── NoSuchClass  a class that the model does not have
├── ModelError       a model that cannot be had, read, or used as a classifier
│   └── NoSuchModel  a name by which no model is known
├── LayerError       a layer that does not exist or has no map
├── AddressError     a store at an address that does not answer, or refuses
├── SpecError        a text such as ``pgd(epsilon=8/255)`` that cannot be read, or a name that is not in the catalog
└── RunError         a run folder that cannot be made, resumed or read
"""

import difflib
import inspect
import re
from collections.abc import Iterable
from types import FrameType

# an apostrophe within a word is no quotation mark
_QUOTED = re.compile(r"(?<!\w)'[^'\n]{201,}'(?!\w)|(?<!\w)\"[^\"\n]{201,}\"(?!\w)")
_UNBROKEN = re.compile(r"[^\s]{201,}")


LONGEST_QUOTE = 200
"""Letters of a user's text that a message quotes."""


class HeatproofError(Exception):
    """Something a user can mend; the text says what was expected, what came, and the way out.

    Attributes:
        usage: whether the command itself is wrong, with which status 2 the command line then leaves, else with 1;
            ``None``: it is where nothing was begun yet, and else something failed on the way.
    """

    usage: bool | None = None

    def __init__(self, *texts: object) -> None:
        super().__init__(*(shortened(text) if isinstance(text, str) else text for text in texts))


def shortened(text: str) -> str:
    """A message in which nothing that was quoted is longer than :data:`LONGEST_QUOTE` letters.

    What stands without a blank is cut, and so is what stands in quotation marks.

    >>> len(shortened(f"there is no explainer {'x' * 5000!r}; did you mean lrp?"))
    236
    """
    if len(text) <= LONGEST_QUOTE:
        return text
    text = _QUOTED.sub(lambda found: _cut(found[0]), text)
    return _UNBROKEN.sub(lambda found: _cut(found[0]), text)


def _cut(text: str) -> str:
    return f"{text[: LONGEST_QUOTE - 43]}... ({len(text):,} letters) ...{text[-15:]}"


class InputError(HeatproofError, ValueError):
    """Images, labels, targets or data that do not fit."""


class ModelError(HeatproofError, RuntimeError):
    """A model that cannot be had, read, or used as a classifier."""


class NoSuchModel(ModelError):
    """A name by which no model is known."""

    usage = True


class NoSuchClass(InputError):
    """A class that the model does not have, or a name that fits several."""

    usage = True


class LayerError(HeatproofError, LookupError):
    """A layer that does not exist or has no map."""

    usage = True


class SpecError(HeatproofError, ValueError):
    """A spec that cannot be read, or a name that is not in the catalog."""

    usage = True


class AddressError(HeatproofError, OSError):
    """A store at an address that does not answer, or refuses: the run stops there, and the same command goes on."""

    usage = False


class RunError(HeatproofError, RuntimeError):
    """A run folder that cannot be made, resumed or read."""


class Remark(UserWarning):
    """What was taken for granted or chosen of several, and how to choose otherwise; the result is what it says."""


def callers_level() -> int:
    """``stacklevel`` of a warning that points at the user's own line, however deep in the package it is given."""
    own = inspect.currentframe()
    frame = None if own is None else own.f_back
    # what checks types stands between, in tests
    while frame is not None and _checks_types(frame):
        frame = frame.f_back
    # the frame of whoever warns is level 1
    level = 1
    while frame is not None and (_of(frame) in ("heatproof", "torch") or _checks_types(frame)):
        frame, level = frame.f_back, level + 1
    return level


def _of(frame: FrameType) -> str:
    """The package whose code runs in a frame."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _checks_types(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith("<@") or _of(frame) in ("jaxtyping", "beartype")


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """At most three known names that resemble ``name``, nearest first; the letters count, not their case."""
    by_folded = {entry.casefold(): entry for entry in known}
    return [by_folded[entry] for entry in difflib.get_close_matches(name.casefold(), list(by_folded), n=3)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A half-sentence naming the nearest known names, or the first few where none is near.

    >>> did_you_mean("layr4", ["layer3", "layer4", "fc"])
    'did you mean layer4 or layer3?'
    """
    known = list(known)
    near = nearest(name, known)
    if near:
        return f"did you mean {' or '.join(near)}?"
    shown = ", ".join(known[:12]) + (f", ... ({len(known)} in all)" if len(known) > 12 else "")
    return f"there are: {shown}" if known else "there are none"
