"""``run.json`` as it begins: what was wanted, by which versions, on which machine."""

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import heatproof
from heatproof.results.reading import FORMAT
from heatproof.results.whole import plain


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str | None]:
    """Of Python and of what numbers depend on; None of a library that is not there."""
    found: dict[str, str | None] = {"python": platform.python_version(), "heatproof": heatproof.__version__}
    for name in ("torch", "torchvision", "timm"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def new_record(wanted: dict[str, Any], options: Mapping[str, Any] | None, old: dict[str, Any] | None) -> dict[str, Any]:
    """A new record; of a run that is gone on with it keeps what was described, and remembers the earlier starts."""
    before = old or {}
    resumed = [*(before.get("resumed") or []), {"start": before.get("start"), "versions": before.get("versions")}]
    return {
        "format": FORMAT,
        **wanted,
        "options": plain(options or {}),
        "versions": versions(),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        "model": before.get("model") or [],
        "data": before.get("data"),
        "start": now(),
        "end": None,
        "status": "running",
        "error": None,
        "resumed": resumed if old else [],
        **({"shards": before["shards"]} if before.get("shards") else {}),
    }
