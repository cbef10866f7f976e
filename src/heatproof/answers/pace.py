"""How far long work is, and how long it will still take, told by what was measured of it."""

import math
import time
from bisect import bisect_right
from collections.abc import Callable

SAYING = 30
"""A line is said at most once a second, and rarely in long work: not before a thirtieth of its time went by."""

LONG = 10
"""Seconds from which it is said beforehand how long work will take."""


class Pace:
    """Counts what is done, and tells the time that is left.

    **Formula** left = (total - done) / speed - (now - last). The speed is that of the last half of what was done, of
    whole cycles where the work has any: what a start cost, and how fast it was before something slowed it down, are
    no part of it. [ours]

    Args:
        total: what is to be done, in photos or steps; ``None``: unknown.
        resumed: what is told first was done by an earlier start, and took no time now.
        cycle: before the first and after each so many steps comes something that takes longer, an evaluation.
        sharers: processes that share the work, of which this is one.
        clock: seconds since some moment.

    >>> now = 0.0
    >>> pace = Pace(100, clock=lambda: now)
    >>> for now in (3.0, 4.0, 5.0, 6.0):
    ...     pace.add(5)
    >>> pace.left
    16.0
    """

    def __init__(
        self,
        total: float | None,
        *,
        resumed: bool = False,
        cycle: int = 1,
        sharers: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.resumed, self.cycle, self.sharers, self.clock = total, resumed, cycle, sharers, clock
        self.kept = self.done = 0.0
        self.begun = self.said = clock()
        # what was done when
        self._counts, self._times = [0.0], [self.begun]

    def add(self, count: float) -> None:
        """So much more is done. Nothing, told before anything else, means that the work itself begins now."""
        now = self.clock()
        self.done += count
        if self.resumed or (not count and len(self._counts) == 1):
            self.kept = self.done
            self.resumed = False
            self._counts, self._times = [self.done], [now]
        elif count:
            self._counts.append(self.done)
            self._times.append(now)

    @property
    def left(self) -> float | None:
        """Seconds; ``None`` where it cannot be told yet."""
        if self.total is None or len(self._counts) < 2:
            return None
        own = self.kept + (self.total - self.kept) / self.sharers
        return max(0.0, self._seconds(own - self.done) - (self.clock() - self._times[-1]))

    def _seconds(self, rest: float) -> float:
        """That the rest takes."""
        measured = self.done - self._counts[0]
        if measured < self.cycle and len(self._counts) > 2:
            # what comes after each cycle came before the first step too
            single = self._single(1)
            before = self._times[1] - self._times[0] - single * (self._counts[1] - self._counts[0])
            return rest * single + math.ceil(rest / self.cycle) * max(0.0, before)
        wanted = max(measured / 2 // self.cycle * self.cycle, min(measured, self.cycle))
        # a sum of fractions may miss the mark by a little
        first = bisect_right(self._counts, self.done - wanted + 1e-6) - 1
        return rest * self._single(min(first, len(self._counts) - 2))

    def _single(self, first: int) -> float:
        """Seconds of one, since mark number ``first``."""
        return (self._times[-1] - self._times[first]) / (self.done - self._counts[first])

    def due(self) -> bool:
        """Whether it is time to say something again; who asks and is told so says it."""
        now = self.clock()
        if now - self.said < max(1.0, (now - self.begun) / SAYING):
            return False
        self.said = now
        return True

    def counted(self) -> str:
        """``12 of 100``."""
        done = int(self.kept + (self.done - self.kept) * self.sharers + 1e-6)
        return f"{done}" if self.total is None else f"{min(done, int(self.total))} of {self.total:.0f}"

    def words(self, *, at_most: bool = False) -> str:
        """``12 of 100, about 3 min left``.

        Args:
            at_most: the work may end early.
        """
        from heatproof.report.words import duration  # which loads polars

        bound = "at most " if at_most else ""
        return self.counted() + ("" if self.left is None else f", {bound}about {duration(self.left)} left")
