"""Broken and hostile inputs from a seed: what may come in place of a file that we wrote ourselves."""

import json
import os
import random
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fuzz.tally import tried

from heatproof.errors import HeatproofError

CASES = int(os.environ.get("HEATPROOF_FUZZ") or 40)
"""Inputs of each kind."""
LONGEST = 10
"""Seconds that one input may take."""

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**63,
    10**400,
    0.5,
    -1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\x00",
    "../../etc/passwd",
    "evil.py:build",
    "a" * 5000,
    "\ud800",
    "<script>alert(1)</script>",
    [],
    {},
    [None],
    [[[[]]]],
    {"": {}},
    {"a": [1, {"b": None}]},
]


def in_other_words(content: Any, draw: random.Random) -> Any:
    """The content of a JSON file with one to three of its fields missing, of another type, huge, nested or strange."""
    content = json.loads(json.dumps(content))
    for _ in range(draw.randint(1, 3)):
        places = list(_places(content))
        if not places:
            return draw.choice(VALUES)
        holder, key = draw.choice(places)
        turn = draw.random()
        if turn < 0.2:
            del holder[key]
        elif turn < 0.3 and isinstance(holder, dict):
            holder[draw.choice(["", "x", "name", "\ud800", "a" * 300])] = holder.pop(key)
        elif turn < 0.4:
            holder[key] = [holder[key]] * draw.choice([0, 1, 2, 50])
        elif turn < 0.45:
            holder[key] = {"x": holder[key]}
        else:
            holder[key] = draw.choice(VALUES)
    return content if draw.random() > 0.03 else draw.choice(VALUES)


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield content, key
        yield from _places(content[key])


def as_json(content: Any, draw: random.Random) -> bytes:
    """The file of a changed content, now and then torn as well."""
    data = json.dumps(content).encode("utf-8", "backslashreplace")
    return torn(data, draw) if draw.random() < 0.1 else data


def torn(data: bytes, draw: random.Random) -> bytes:
    """Bytes cut off, changed, repeated, or filled with zeros."""
    turn, size = draw.random(), len(data)
    at = draw.randrange(size) if size else 0
    if turn < 0.3:
        return data[:at]
    if turn < 0.4:
        return data[:at] + bytes(draw.randint(1, 4096)) + data[at:]
    if turn < 0.5:
        return data[:at] + data[at : at + draw.randint(1, 300)] + data[at:]
    if turn < 0.55:
        return draw.choice([b"", b"\x00", b"PK\x03\x04", b"PAR1", b"\x80\x02}q\x00.", b"{", b"[" * 100_000, b"nul"])
    changed = bytearray(data)
    # where formats keep their sizes: at the beginning and at the end
    near = [range(min(200, size)), range(max(0, size - 300), size), range(size)]
    for _ in range(draw.randint(1, 12)):
        place = draw.choice(draw.choice(near) or [0]) if size else 0
        if size:
            changed[place] = draw.choice([0, 255, draw.randrange(256), changed[place] ^ (1 << draw.randrange(8))])
    return bytes(changed)


@contextmanager
def hurried() -> Generator[None]:
    """An input that takes too long ends in a :class:`TimeoutError`."""

    def late(*given: Any) -> None:
        raise TimeoutError(f"more than {LONGEST} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def told(
    case: Callable[[random.Random], object], kind: str, canary: Path | None = None, cases: int | None = None
) -> None:
    """Try the case on every seed: it may succeed or end in a sentence of ours, and run nothing.

    Raises:
        AssertionError: with the seeds that did otherwise.
    """
    wrong, refused = [], 0
    cases = CASES if cases is None else cases
    for seed in range(cases):
        try:
            with hurried():
                case(random.Random(f"{kind} {seed}"))
        except HeatproofError as error:
            refused += 1
            if "\n" in str(error) or len(str(error)) > 2000:
                wrong.append(f"{seed}: not one sentence: {str(error)[:300]!r}")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            wrong.append(f"{seed}: {type(error).__name__}: {str(error)[:200]}")
        if canary is not None and canary.exists():
            wrong.append(f"{seed}: code was run")
            canary.unlink()
    for became, count in (("refused", refused), ("wrong", len(wrong)), ("read", cases - refused - len(wrong))):
        if count > 0:
            tried("inputs", kind, became, count)
    assert not wrong, f"{kind}: {len(wrong)} of {cases} inputs:\n" + "\n".join(wrong[:40])
