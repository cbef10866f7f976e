"""Several processes that share one run: ``accelerate launch -m heatproof ...`` starts them, each takes its parts.

A part is a fixed stretch of the data, so that what was done by one number of processes can be gone on with by another,
and the merged rows do not depend on who did what.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from heatproof.data.batches import Batch, batches
from heatproof.data.sources import Photo, Source
from heatproof.results.run import Run

PATIENCE = timedelta(days=7)
"""How long a process waits for the slowest; the default of torch.distributed is half an hour."""


@dataclass(frozen=True)
class Team:
    """The processes of one run, seen by one of them; alone by default.

    Attributes:
        index, count: the rank among so many.
        wait: returns when all have called it.
    """

    index: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None

    @classmethod
    def here(cls, device: str = "auto") -> "Team":
        """What the launcher's environment says: accelerate's, torchrun's, or no launcher at all."""
        if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
            return cls()
        # loads slowly, and only several processes need it
        from accelerate import PartialState

        state = PartialState(cpu=cls.device(device) == "cpu", timeout=PATIENCE)
        return cls(state.process_index, state.num_processes, state.wait_for_everyone)

    @staticmethod
    def device(device: str = "auto") -> str:
        """This process's own device: with ``auto`` and several GPUs the one of its local rank.

        >>> Team.device("cpu")
        'cpu'
        """
        if device != "auto":
            return device
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


@contextmanager
def start_run(out: Path | str, team: Team, **asked: Any) -> Iterator[Run]:
    """:meth:`Run.start` for every process of a team: process 0 first, the others when the folder is there."""
    if team.index:
        team.wait()
    with Run.start(out, process=team.index, **asked) as run:
        if not team.index:
            team.wait()
        yield run


class Part(NamedTuple):
    """One stretch of the data: its number, its photos as far as they can be read, and the others."""

    number: int
    batch: Batch | None
    skipped: list[dict[str, str]]


def parts(source: Source, size: int, count: int, team: Team, done: Callable[[int], bool]) -> Iterator[Part]:
    """The parts of ``count`` photos that this process has yet to do, read ahead in threads.

    Args:
        source: the whole data.
        size: side of the images.
        count: photos in a part; the last one may have fewer.
        team: of its processes this one takes every count-th part.
        done: whether a part need not be done.
    """
    mine = [n for n in range(team.index, -(-len(source) // count), team.count) if not done(n)]
    view = _View(source, [p for n in mine for p in range(n * count, min((n + 1) * count, len(source)))])
    begins = {source.ids[position]: n for n in mine for position in range(n * count, min((n + 1) * count, len(source)))}
    waiting = iter(mine)
    # every part but the last of the data is full, so that batches begin where parts do
    for batch in batches(view, size, count):
        number = begins[batch.ids[0]]
        for earlier in waiting:
            if earlier == number:
                yield Part(number, batch, view.taken(number, begins))
                break
            yield Part(earlier, None, view.taken(earlier, begins))
    for rest in waiting:
        yield Part(rest, None, view.taken(rest, begins))


@dataclass
class _View:
    """Some positions of a source, read as a source of their own; what is skipped is noted in both."""

    source: Source
    positions: Sequence[int]
    reasons: dict[str, str] = field(default_factory=dict)

    @cached_property
    def ids(self) -> Sequence[str]:
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
