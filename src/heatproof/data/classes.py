"""From what data calls a class (a name, a WordNet id, a number) to the model's class."""

import re
from collections.abc import Iterable, Sequence
from functools import cache

from heatproof.errors import InputError, did_you_mean

WNID = re.compile(r"n\d{8}")


def class_indices(texts: Iterable[str], classes: Sequence[str] | None) -> tuple[dict[str, int], list[str] | None]:
    """Find the model's class that each text stands for.

    The first of these that fits decides:

    1. the class's name as it stands;
    2. the name but for case, and for ``_``, ``-`` and repeated blanks;
    3. a WordNet id (``n02504458``): the ImageNet-1k number if the model has ImageNet's 1,000 classes, else the class
       that bears one of the id's names (``African elephant``, ``Loxodonta africana``); a class named by its WordNet id
       is found by these names too;
    4. one of several names of a class, parted by commas (``tench, Tinca tinca``);
    5. a whole number from 0 to the number of classes less one.

    Args:
        texts: Labels or names of class folders.
        classes: The model's class names in order. With ``None`` the texts are the classes: numbers stand for
            themselves, names are numbered in sorted order.

    Returns:
        The number of each text that was found, and the class names where they are known.

    Raises:
        InputError: A text fits several classes equally well.

    >>> class_indices(["Red_Panda", "n01440764", "2", "zebra"], ["koala", "red panda", "tench, Tinca tinca"])[0]
    {'Red_Panda': 1, 'n01440764': 2, '2': 2}
    """
    texts = list(dict.fromkeys(texts))
    if classes is None:
        if all(text.isdecimal() for text in texts):
            return {text: int(text) for text in texts}, None
        names = sorted(texts)
        return {name: place for place, name in enumerate(names)}, names
    classes = list(classes)
    found = ((text, _find(text, tuple(classes))) for text in texts)
    return {text: index for text, index in found if index is not None}, classes


def named_indices(texts: Iterable[str], names: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """Find the model's class for names that number the classes of a data set, as :func:`class_indices` does.

    Where data and model both have ImageNet's 1,000 classes in its order, a class is that of the same number, however
    the two call it. Of several names parted by commas that are none of the model's together, one must be.

    Raises:
        InputError: a text fits several classes equally well.

    >>> named_indices(["tench, Tinca tinca"], ["tench, Tinca tinca"], ["goldfish", "tench"])
    {'tench, Tinca tinca': 1}
    """
    wanted = list(dict.fromkeys(texts))
    if len(names) == len(classes) == 1000 and is_imagenet(tuple(names)) and is_imagenet(tuple(classes)):
        places = {name: place for place, name in enumerate(names)}
        return {text: places[text] for text in wanted}
    found, _ = class_indices(wanted, classes)
    for text in wanted:
        if text not in found and "," in text:
            parts = set(class_indices((part.strip() for part in text.split(",")), classes)[0].values())
            if len(parts) == 1:
                found[text] = parts.pop()
    return found


def unknown_class(text: str, classes: Sequence[str]) -> str:
    """Half a sentence for a text that is no class: what the nearest ones are.

    >>> unknown_class("tigr", ["tiger", "tabby"])
    "'tigr' is none of the model's 2 classes; did you mean tiger?"
    """
    return f"{text!r} is none of the model's {len(classes)} classes; {did_you_mean(text, classes)}"


def _find(text: str, classes: tuple[str, ...]) -> int | None:
    exact, folded, parts = _tables(classes)
    for table, key in ((exact, text), (folded, _fold(text))):
        if key in table:
            return _only(text, table[key], classes)
    if WNID.fullmatch(text):
        if is_imagenet(classes):
            return _imagenet()[0].get(text)
        places = sorted({place for name in _names(text) for place in (*folded.get(name, ()), *parts.get(name, ()))})
        return _only(text, places, classes) if places else None
    if _fold(text) in parts:
        return _only(text, parts[_fold(text)], classes)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    return None


def _only(text: str, places: Sequence[int], classes: tuple[str, ...]) -> int:
    if len(places) > 1:
        named = " and ".join(f"{place} ({classes[place]})" for place in places[:4])
        raise InputError(f"{text!r} stands for classes {named}; use a number or a WordNet id in its place")
    return places[0]


def _fold(text: str) -> str:
    return " ".join(re.sub(r"[_\-]", " ", text).casefold().split())


@cache
def _tables(classes: tuple[str, ...]) -> tuple[dict[str, list[int]], dict[str, list[int]], dict[str, list[int]]]:
    """Places by exact name, by folded name, and by the parts of names."""
    exact: dict[str, list[int]] = {}
    folded: dict[str, list[int]] = {}
    parts: dict[str, list[int]] = {}
    for place, name in enumerate(classes):
        exact.setdefault(name, []).append(place)
        folded.setdefault(_fold(name), []).append(place)
        names = _names(name) if WNID.fullmatch(name) else {_fold(part) for part in name.split(",")}
        for part in names:
            parts.setdefault(part, []).append(place)
    return exact, folded, parts


@cache
def is_imagenet(classes: tuple[str, ...]) -> bool:
    """Whether these are ImageNet's 1,000 classes in its order, by their names or, unnamed, by their number."""
    if len(classes) != 1000:
        return False
    if all(name == str(place) for place, name in enumerate(classes)):
        return True
    # libraries differ in some names (torchvision's "crane bird"), so most must agree, not all
    agreeing = sum(
        bool(_names(wnid) & {_fold(part) for part in name.split(",")}) or name == wnid
        for wnid, name in zip(_imagenet()[0], classes, strict=True)
    )
    return agreeing >= 900


@cache
def _imagenet() -> tuple[dict[str, int], dict[str, str]]:
    """ImageNet-1k's number by WordNet id, in order, and the names of 21,844 WordNet ids."""
    import heatproof.vision  # noqa: F401  before timm

    # isort: split
    from timm.data import ImageNetInfo

    # of timm's subsets this one holds every WordNet id of the others
    one_k, all_of_it = ImageNetInfo(), ImageNetInfo("imagenet-21k-goog")
    numbers = {wnid: place for place, wnid in enumerate(one_k.label_names())}
    wnids = dict.fromkeys([*one_k.label_names(), *all_of_it.label_names()])
    return numbers, {wnid: one_k.label_name_to_description(wnid) for wnid in wnids}


def _names(wnid: str) -> set[str]:
    return {_fold(name) for name in _imagenet()[1].get(wnid, "").split(",") if name}
