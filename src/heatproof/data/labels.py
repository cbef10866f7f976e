"""From a column of labels (numbers, names, WordNet ids) to the model's classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heatproof.data.classes import class_indices, named_indices, unknown_class
from heatproof.data.listing import UNLABELLED
from heatproof.errors import InputError


@dataclass(frozen=True)
class LabelColumn:
    """The labels of a table as they stand in it.

    Attributes:
        table: its name.
        values: numbers, texts, or ``None``.
        names: of the classes that its numbers stand for, where the table holds them.
    """

    table: str
    values: Sequence[Any]
    names: Sequence[str] | None = None


def class_numbers(
    columns: Sequence[LabelColumn], classes: Sequence[str] | None
) -> tuple[list[int], Sequence[str] | None]:
    """The model's class of every row of all columns, or -1, and the class names where they are known.

    Args:
        classes: the model's class names; without them the columns' own names count the classes.

    Raises:
        InputError: a label that is no class, with its row.
    """
    values = [_named(column, row, value) for column in columns for row, value in enumerate(column.values, start=1)]
    texts = [value.strip() for value in values if isinstance(value, str)]
    wanted = [text for text in dict.fromkeys(texts) if text not in ("", "-1")]
    own = columns[0].names
    names: Sequence[str] | None
    if own is not None and all(column.names == own for column in columns):
        names = own if classes is None else list(classes)
        found = named_indices(wanted, own, names)
    else:
        found, names = class_indices(wanted, classes)
        names = None if classes is None and not found else names
    rows = ((column.table, row) for column in columns for row in range(1, len(column.values) + 1))
    return [_number(value, found, names, *where) for value, where in zip(values, rows, strict=True)], names


def _named(column: LabelColumn, row: int, value: Any) -> Any:
    """The name that a number stands for, where the table says so."""
    if column.names is None or not isinstance(value, int) or value == UNLABELLED:
        return value
    if not 0 <= value < len(column.names):
        named = f"and the table names {len(column.names)} classes"
        raise InputError(f"row {row} of {column.table} has the label {value}, {named}")
    return column.names[value]


def _number(value: Any, found: Mapping[str, int], names: Sequence[str] | None, table: str, row: int) -> int:
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, float) and (text != text or text.is_integer()):  # what a gap makes of a column of numbers
        text = None if text != text else int(text)
    if text is None or text in ("", "-1", -1):
        return UNLABELLED
    if isinstance(text, str) and text in found:
        return found[text]
    if isinstance(text, int) and 0 <= text < (len(names) if names else text + 1):
        return int(text)
    if isinstance(text, str) and names and not text.lstrip("-").isdecimal():
        raise InputError(f"row {row} of {table}: {unknown_class(text, names)}")
    expected = f"a number from 0 to {len(names) - 1}, a class name or a WordNet id" if names else "a number"
    raise InputError(f"row {row} of {table} has the label {text!r}: expected {expected}")
