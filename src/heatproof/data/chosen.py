"""What a data name says after ``#``: which columns, split and configuration are meant."""

import os
import re
from dataclasses import dataclass, fields

from heatproof.errors import InputError, did_you_mean

_CHOICES = re.compile(r"[a-z]+=[^,]*(,[a-z]+=[^,]*)*")


@dataclass(frozen=True)
class Chosen:
    """The choices in ``train.parquet#image=img,label=fine_label``; ``None`` where nothing is said.

    Attributes:
        image: the column with the encoded photos.
        path: the column with the photos' paths.
        label: the column with the classes.
        id: the column with the photos' names.
        split: of a HuggingFace data set.
        config: of a HuggingFace data set, where it has several.
    """

    image: str | None = None
    path: str | None = None
    label: str | None = None
    id: str | None = None
    split: str | None = None
    config: str | None = None

    @property
    def said(self) -> list[str]:
        """The keys of which something is said."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def only(self, keys: set[str], what: str) -> None:
        """Stop a choice that this kind of data does not have.

        Raises:
            InputError: naming it.
        """
        if odd := [key for key in self.said if key not in keys]:
            offered = f"it takes {', '.join(sorted(keys))}" if keys else "nothing can be chosen there"
            raise InputError(f"{what} has no {odd[0]} to choose with #{odd[0]}=...: {offered}")


def parted_name(name: str) -> tuple[str, Chosen]:
    """A data name without its choices, and these; a file whose own name looks so is that file.

    Raises:
        InputError: a choice that there is not, twice, or empty.

    >>> parted_name("photos/test.parquet#image=img,label=fine_label")[1].label
    'fine_label'
    """
    before, mark, after = name.rpartition("#")
    if not mark or not before or os.path.lexists(name) or not _CHOICES.fullmatch(after):
        return name, Chosen()
    known = [field.name for field in fields(Chosen)]
    found: dict[str, str] = {}
    for choice in after.split(","):
        key, _, value = choice.partition("=")
        if key not in known:
            raise InputError(f"{name} chooses {key!r}, which is no choice: {did_you_mean(key, known)}")
        if key in found or not value:
            raise InputError(f"{name} says {key}= {'twice' if key in found else 'and nothing behind it'}")
        found[key] = value
    return before, Chosen(**found)
