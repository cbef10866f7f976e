"""What the fuzzers have tried, so that the counts in SECURITY.md have a witness: ``make test-fuzz`` ends with them."""

from collections import Counter
from collections.abc import Iterator, Mapping

counts: Counter[str] = Counter()
"""By ``<what was tried>: <kind>: <what became of it>``."""


def tried(what: str, kind: str, became: str, count: int = 1) -> None:
    """Count inputs, runs ended by a signal, writes that failed, full file systems."""
    counts[f"{what}: {kind}: {became}"] += count


def lines(found: Mapping[str, int]) -> Iterator[str]:
    """The sums, and of what they are made.

    >>> list(lines({"inputs: specs: refused": 3, "inputs: specs: read": 2, "inputs: tables: read": 1}))
    ['6 inputs: 3 read, 3 refused', '  specs: 2 read, 3 refused', '  tables: 1 read']
    """
    for what in sorted({name.split(": ")[0] for name in found}):
        kinds: dict[str, Counter[str]] = {}
        for name, count in found.items():
            if name.startswith(f"{what}: "):
                kind, became = name.split(": ")[1:]
                kinds.setdefault(kind, Counter())[became] += count
        yield f"{sum(own.total() for own in kinds.values()):,} {what}: {_said(sum(kinds.values(), Counter()))}"
        yield from (f"  {kind}: {_said(own)}" for kind, own in sorted(kinds.items()))


def _said(became: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(became.items()))
