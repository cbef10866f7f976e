"""The data in parts, of which each of several processes takes its own.

A part is a fixed stretch of the data, so that what was done by one number of processes can be gone on with by another,
and the merged rows do not depend on who did what.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from heatproof.data.batches import Batch, batches
from heatproof.data.sources import Photo, Photos
from heatproof.preprocessing import Preprocessing
from heatproof.processes import Processes


class Part(NamedTuple):
    """One stretch of the data: its number, its photos as far as they can be read, and the others."""

    number: int
    batch: Batch | None
    skipped: list[dict[str, str]]


def parts(
    source: Photos, size: int | Preprocessing, count: int, processes: Processes, done: Callable[[int], bool]
) -> Iterator[Part]:
    """The parts of ``count`` photos that this process has yet to do, read ahead in threads.

    Args:
        source: the whole data.
        size: how photos come to the model, or the side of the images.
        count: photos in a part; the last one may have fewer.
        processes: of them this one takes its own parts.
        done: whether a part need not be done.
    """
    mine = [n for n in processes.parts(-(-len(source) // count)) if not done(n)]
    view = _View(source, [p for n in mine for p in range(n * count, min((n + 1) * count, len(source)))])
    begins = {source.ids[position]: n for n in mine for position in range(n * count, min((n + 1) * count, len(source)))}
    waiting = iter(mine)
    # every part but the last of the data is full, so that batches begin where parts do
    for batch in batches(view, size, count):
        number = begins[batch.ids[0]]
        while (earlier := next(waiting)) != number:
            yield Part(earlier, None, view.taken(earlier, begins))
        yield Part(number, batch, view.taken(number, begins))
    for rest in waiting:
        yield Part(rest, None, view.taken(rest, begins))


@dataclass
class _View:
    """Some positions of a source, read as a source of their own; what is skipped is noted in both."""

    source: Photos
    positions: Sequence[int]
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> Sequence[str]:
        return self._ids

    @cached_property
    def _ids(self) -> Sequence[str]:
        return [self.source.ids[place] for place in self.positions]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, position: int) -> Photo:
        return self.source[self.positions[position]]

    def skip(self, image: str, reason: str) -> None:
        self.reasons[image] = reason
        self.source.skip(image, reason)

    def taken(self, number: int, begins: Mapping[str, int]) -> list[dict[str, str]]:
        """What was skipped of one part."""
        return [{"image": i, "reason": r} for i, r in self.reasons.items() if begins.get(i) == number]
