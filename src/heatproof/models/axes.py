"""Where an image's rows and columns lie in a tensor: dimensions as products of the parts of an axis."""

from math import prod
from typing import NamedTuple

ROWS, COLS, OTHER = "rows", "cols", ""


class Atom(NamedTuple):
    """A factor of a dimension: every ``stride``-th of ``extent`` places along ``axis``, rolled on by ``shift``."""

    axis: str
    size: int
    stride: int = 1
    shift: int = 0
    extent: int = 0


Segment = tuple[Atom, ...]
"""A product of atoms, the slowest first: the grid of a vision transformer is ``(rows 14, cols 14)``."""
Dim = tuple[Segment, ...]
"""Segments one after the other: a class token, and the grid."""
Axes = tuple[Dim, ...]


def other(size: int) -> Dim:
    return ((Atom(OTHER, size),),)


def along(axis: str, size: int) -> Atom:
    """The whole of an axis."""
    return Atom(axis, size, extent=size)


def whole(atom: Atom) -> Atom | None:
    """The atom as a whole axis, where it covers one in its order: all places, or every other one of them."""
    covers = atom.axis != OTHER and atom.shift == 0 and atom.size * atom.stride == atom.extent
    return along(atom.axis, atom.size) if covers else None


def is_other(dim: Dim) -> bool:
    return all(atom.axis == OTHER or atom.size == 1 for segment in dim for atom in segment)


def length(segment: Segment) -> int:
    return prod(atom.size for atom in segment)


def met(one: Dim, two: Dim) -> Dim:
    """Rows plus something without rows stay rows (a residual); rows plus columns are neither."""
    if one == two or is_other(two) or _within(two, one):
        return one
    if is_other(one) or _within(one, two):
        return two
    if sole(one) and sole(one) == sole(two):
        return ((sole(one) or two[0][0],),)
    return other(sum(map(length, one)))


def _within(part: Dim, axis: Dim) -> bool:
    """Whether all that ``part`` says of the places is true of the whole ``axis``: windows in order, mixed inside."""
    if sole(axis) is None or len(part) != 1:
        return False
    atom = axis[0][0]
    step = atom.stride * atom.size
    for inner in part[0]:
        step //= inner.size
        if inner.axis != OTHER and inner != Atom(atom.axis, inner.size, step, 0, atom.extent):
            return False
    return True


def sole(dim: Dim) -> Atom | None:
    """The one axis of the dimension, in its order and not rolled."""
    return whole(dim[0][0]) if len(dim) == 1 and len(dim[0]) == 1 else None


def resized(dim: Dim, size: int) -> Dim:
    """After a convolution, a pooling, a resize or a padding along the dimension."""
    if sum(map(length, dim)) == size:
        return dim
    atom = sole(dim)
    return ((along(atom.axis, size),),) if atom else other(size)
