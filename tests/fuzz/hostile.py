"""How every fuzzed case is judged: no error but ours, no hang, no code run, and no photo lost unsaid.

``HEATPROOF_FUZZ=2000`` makes five times as many cases as 400, the number of most kinds.
"""

import faulthandler
import io
import os
import sys
import tarfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from tests.fuzz.tally import tried

from heatproof.data.sources import open_data
from heatproof.errors import HeatproofError, InputError

TIMES = float(os.environ.get("HEATPROOF_FUZZ", "400")) / 400
LONGEST = 10
"""Seconds that one case may take."""


def cases(count: int) -> range:
    """The seeds of a test that has ``count`` cases by default."""
    return range(max(1, round(count * TIMES)))


@contextmanager
def judged(kind: str) -> Generator[None]:
    """One case: it may end well or in a sentence of ours, within ten seconds."""
    begun = time.monotonic()
    faulthandler.dump_traceback_later(6 * LONGEST, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        yield
    except HeatproofError as error:
        tried("inputs", kind, "refused")
        assert 0 < len(str(error).strip()) < 4000  # noqa: PT017 a case may also end well
    else:
        tried("inputs", kind, "read")
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert time.monotonic() - begun < LONGEST


def read_all(name: Path | str | Sequence[Path | str], kind: str, **how) -> tuple[list[str], list[dict[str, str]]]:
    """Open, read and stamp data; every photo that is listed is read or named, and so is every skipped one."""
    source = open_data(name, **how)
    read = [photo.id for photo in source]
    met = {entry["image"] for entry in source.skipped}
    lost = [image for image in source.ids if image not in met and image not in set(read)]
    assert lost == []
    assert len(set(source.ids)) == len(source.ids)
    source.fingerprint()
    for entry in source.skipped:
        assert entry["reason"].strip()
        entry["image"].encode()
        entry["reason"].encode()
    tried("photos", kind, "read", len(read))
    tried("photos", kind, "or stretches named as lost", len(source.skipped))
    return read, source.skipped


def noise(seed: int, rows: int = 24, cols: int = 31, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, cols, channels), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **how) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def png(seed: int) -> bytes:
    return encoded(Image.fromarray(noise(seed, 8, 8)), "png")


def damaged(content: bytes, draw: np.random.Generator) -> bytes:
    """Cut off, some bits turned, a stretch overwritten, removed, doubled or filled."""
    spoiled = bytearray(content)
    for _ in range(int(draw.integers(1, 4))):
        if not spoiled:
            break
        place = int(draw.integers(len(spoiled)))
        length = int(draw.integers(1, max(2, len(spoiled) // 4)))
        match int(draw.integers(7)):
            case 0:
                del spoiled[place:]
            case 1:
                for _ in range(int(draw.integers(1, 9))):
                    spoiled[int(draw.integers(len(spoiled)))] ^= 1 << int(draw.integers(8))
            case 2:
                spoiled[place : place + length] = draw.bytes(len(spoiled[place : place + length]))
            case 3:
                del spoiled[place : place + length]
            case 4:
                spoiled[place:place] = spoiled[place : place + length]
            case 5:
                spoiled[place : place + length] = bytes(len(spoiled[place : place + length]))
            case _:
                # a number that somebody may believe
                spoiled[place : place + 4] = b"\xff\xff\xff\x7f"
    return bytes(spoiled)


def archive(path: Path, entries: Sequence[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


__all__ = ["InputError", "archive", "cases", "damaged", "encoded", "judged", "noise", "png", "read_all"]
