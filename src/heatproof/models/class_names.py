"""Which of a model's classes a name means, and what is said where that could have been another."""

import warnings
from collections.abc import Sequence

from heatproof.errors import InputError, NoSuchClass, Remark, callers_level, did_you_mean


def find_class(text: str, classes: Sequence[str], model: str) -> int:
    """The class of that name: as it is written, without case, or of which it is a part, if of no other.

    Some names belong to several classes (ImageNet's crane, a bird and a machine; maillot, twice). The first is taken,
    with a remark that names the others.

    Args:
        model: the model's name, for messages.

    Raises:
        NoSuchClass: none is meant, or several by a part.

    >>> find_class("tabb", ["tiger", "tabby"], "net")
    1
    """
    folded = [name.casefold() for name in classes]
    for names, wanted in ((classes, text), (folded, text.casefold())):
        if places := [place for place, name in enumerate(names) if name == wanted]:
            if len(places) > 1:
                more = " and ".join(str(place) for place in places[1:])
                others = f"the other is {more}" if len(places) == 2 else f"the others are {more}"
                warnings.warn(
                    Remark(
                        f"{text!r} is the name of {len(places)} classes of {model}: {places[0]} is taken, {others}; "
                        "give another by its number"
                    ),
                    stacklevel=callers_level(),
                )
            return places[0]
    parts = [place for place, name in enumerate(folded) if text.casefold() in name]
    if len(parts) == 1:
        return parts[0]
    if parts:
        shown = ", ".join(f"{classes[place]} ({place})" for place in parts[:6])
        raise NoSuchClass(f"{text!r} fits several classes of {model}: {shown}; give one in full or by number")
    raise NoSuchClass(f"{model} has no class {text!r}; {did_you_mean(text, classes)}")


def read_as(wanted: str, name: str, index: int) -> str:
    """What is said of a class that was not given in full, as it is called and numbered; empty for one that was.

    >>> read_as("tabb", "tabby", 1), read_as("tabby", "tabby", 1), read_as("1", "tabby", 1)
    ('tabb: tabby (1)', '', '')
    """
    plain = wanted.strip().casefold()
    return "" if plain in (str(index), name.casefold()) else f"{wanted.strip()}: {name} ({index})"


def no_class(got: str) -> InputError:
    """What is said where something else than a class is asked for."""
    return InputError(
        f"a target is a class, by its number or its name, got {got}; where other libraries take "
        "ClassifierOutputTarget(281), give 281"
    )
