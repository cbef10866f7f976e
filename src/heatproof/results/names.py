"""File names made from texts: of letters that every file system takes, short, and no two alike."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

LONGEST = 100
"""Letters of a file name that is made from a text, its ending not counted."""
DIGITS = 12
"""Hexadecimal digits of the text's sha256 that tell two names apart."""


def slug(text: str) -> str:
    """A file name that a text can be told by: letters, digits, dots and hyphens; a long one is cut and hashed.

    >>> slug("GradCAM(layer='features.29', relu=False)")
    'GradCAM-layer-features.29-relu-False'
    >>> slug("x" * 300)[-14:]
    'x-0d4e2ca9e9cb'
    """
    name = _plain(text)
    return name if len(name) <= LONGEST else _hashed(text)


def file_names(texts: Sequence[str], plain: Sequence[str] | None = None) -> dict[str, str]:
    """A file name for each text; those that would be the same, in capitals or not, carry a hash of their text.

    Args:
        plain: what the names are made of where that differs from the texts.

    >>> file_names(["gradcam()", "GradCAM()", "lrp()"])
    {'gradcam()': 'gradcam-99b1d7defcaf', 'GradCAM()': 'GradCAM-36084addb253', 'lrp()': 'lrp'}
    """
    names = {text: slug(own) for text, own in zip(texts, plain or texts, strict=True)}
    while True:
        counts = Counter(name.casefold() for name in names.values())
        alike = [text for text, name in names.items() if counts[name.casefold()] > 1]
        # a text may be called as the hash of another: then it is hashed as well
        alike = [text for text in alike if names[text] != _hashed(text)]
        if not alike:
            return names
        names |= {text: _hashed(text) for text in alike}


def figure_names(images: Sequence[str]) -> dict[str, str]:
    """A picture's file name for each image; the ending is kept only where two images differ in nothing else.

    >>> figure_names(["a/dog.png", "cat.jpg", "cat.png"])
    {'a/dog.png': 'a-dog.png', 'cat.jpg': 'cat.jpg.png', 'cat.png': 'cat.png.png'}
    """
    bare = {image: _plain(image.rsplit(".", 1)[0]) for image in images}
    counts = Counter(name.casefold() for name in bare.values())
    chosen = [image if counts[bare[image].casefold()] > 1 else image.rsplit(".", 1)[0] for image in images]
    return {image: f"{name}.png" for image, name in file_names(list(images), chosen).items()}


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "x"


def _hashed(text: str) -> str:
    digits = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]
    return f"{_plain(text)[: LONGEST - DIGITS - 1].rstrip('-.')}-{digits}"
