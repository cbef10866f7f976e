"""Which photos a run could not use, and why: one list for the screen, the summary and the page, also after a kill.

What a source left out when it was opened and what it has met since stand first, then what the parts of the run have
noted, those of earlier starts too. ``skipped.json`` keeps the list, for parts are deleted in the end, and a run that
is gone on with does not read again what it has done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.reading import read_json
from heatproof.results.run import Run

FILE = "skipped.json"


class Skipping(Protocol):
    """Photos of which some may be left out: a source, or anything made of one."""

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def skipped(self) -> Sequence[Mapping[str, str]]: ...


def all_skipped(run: Run, *sources: Skipping) -> list[dict[str, str]]:
    """Everything that this run left out, each thing once, in the order of the data; kept in the run folder.

    Args:
        run: the run folder; only process 0 writes into it.
        sources: the run's data.

    Returns:
        ``{"image", "reason"}``: what is no photo of a source (folders, archives) first, then photos in their order.
    """
    earlier = read_json(run.path(FILE))
    given = [
        *(entry for source in sources for entry in source.skipped),
        *(earlier if isinstance(earlier, list) else []),
        *run.skipped(),
    ]
    pairs = dict.fromkeys(
        (str(entry["image"]), str(entry["reason"]))
        for entry in given
        if isinstance(entry, Mapping) and {"image", "reason"} <= entry.keys()
    )
    places: dict[str, int] = {}
    for source in sources if pairs else ():
        for image in source.ids:
            places.setdefault(image, len(places))
    listed = sorted(pairs, key=lambda pair: (places.get(pair[0], -1), *pair))
    found = [{"image": image, "reason": reason} for image, reason in listed]
    if found and run.process == 0 and not run.done and found != earlier:
        run.write_json(FILE, found)
    return found


@dataclass(frozen=True)
class NotingCheckpoint:
    """A checkpoint that also notes which photos were met in vain: a resumed run may not meet them again."""

    file: FileCheckpoint
    run: Run
    sources: tuple[Skipping, ...]

    def load(self) -> dict[str, Any] | None:
        return self.file.load()

    def save(self, state: dict[str, Any]) -> None:
        self.file.save(state)
        all_skipped(self.run, *self.sources)
