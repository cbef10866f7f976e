"""A first look: how many photos and passes it takes."""

QUICK_PHOTOS = 60
"""At most, unless a limit says otherwise: twice as many as the photos' own spread takes to be known."""
QUICK_BUDGET = 37
"""Passes per photo: the fewest of which an audit can tell."""


def looking(quick: bool, limit: int | None) -> int | None:
    """The limit of the photos that a first look means.

    >>> looking(True, None), looking(True, 5), looking(True, 0), looking(False, None)
    (60, 5, 0, None)
    """
    return QUICK_PHOTOS if quick and limit is None else limit
