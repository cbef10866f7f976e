"""What a penalty or an edit wants of heatmaps, in words: the same ones in every answer."""

from typing import Any

from heatproof.manipulation.backdoor import Backdoor
from heatproof.manipulation.fairwash import Fairwash
from heatproof.manipulation.penalties import ActiveSwap, CenterMass, Hide, Location, SameMap, TargetMap, TopK
from heatproof.manipulation.weight_edit import RANDOM, WeightEdit

PLACES = {
    "frame": "the frame of the photo",
    "rim": "the rim of the photo",
    "corner": "the upper left corner",
    "center": "the middle of the photo",
    "left": "the left half",
    "right": "the right half",
    "top": "the upper half",
    "bottom": "the lower half",
    "clean": "what the clean network looks at",
    "inverted": "what the clean map shows least",
}
"""Masks, and the maps of a backdoor, by their names."""
WRITTEN = "the map that was written out"


def wanted(lie: Any) -> str:
    """What maps do that lie as the penalty or the edit wants; of one that is not known by its own text.

    >>> wanted(TargetMap("corner")), wanted(TopK())
    ('show the upper left corner', 'show least what the clean map shows most')
    """
    if isinstance(lie, Backdoor):
        return f"show {place(lie.show)} when the trigger is in the photo, and nothing odd without it"
    if isinstance(lie, WeightEdit) and lie.target == RANDOM:
        return "show what a random filter shows"
    if isinstance(lie, WeightEdit):
        return f"show {place(lie.target)}{' when the trigger is in the photo' if lie.trigger is not None else ''}"
    if isinstance(lie, Location):
        return f"lie on {place(lie.mask)}"
    if isinstance(lie, TargetMap | Fairwash):
        return f"show {place(lie.target)}"
    if isinstance(lie, Hide):
        return "show nothing in the box"
    fixed = {
        TopK: "show least what the clean map shows most",
        CenterMass: "have their centre elsewhere than the clean map",
        ActiveSwap: "explain each of two classes by the other",
        SameMap: "are as they were",
    }
    return fixed.get(type(lie), f"are as {lie!r} wants them")


def place(shown: Any) -> str:
    """A mask or a map in words.

    >>> place("corner"), place([[0.0, 1.0]])
    ('the upper left corner', 'the map that was written out')
    """
    return PLACES.get(shown, shown) if isinstance(shown, str) else WRITTEN
