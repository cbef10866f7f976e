"""How far a batch is while it is measured: one of 20 photos may take minutes."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Within:
    """Tells of the work on a batch how many photos it is; at the end neither more nor less than all.

    Args:
        advance: is told of photos and fractions of them.
        photos: of the batch.
        work: how much is expected, in passes, rows or whatever is counted.
    """

    advance: Callable[[float], None]
    photos: int
    work: float
    told: float = 0.0

    def __call__(self, count: float = 1) -> None:
        # what is expected may be less than what comes
        more = min(self.photos * count / self.work, 0.95 * self.photos - self.told)
        if more > 0:
            self.told += more
            self.advance(more)

    def end(self) -> None:
        """The batch is done."""
        self.advance(self.photos - self.told)
