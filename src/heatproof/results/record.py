"""The record of a run: what ``run.json`` holds when it begins."""

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from heatproof.results.reading import FORMAT
from heatproof.results.whole import plain


def now() -> str:
    """The time, to the second, with its zone."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("heatproof", "torch", "torchvision", "timm"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def fresh(asked: Mapping[str, Any], options: Mapping[str, Any] | None, old: Mapping[str, Any] | None) -> dict[str, Any]:
    """A new record; of a run that is gone on with it keeps what was described, and remembers the earlier starts."""
    before = old or {}
    resumed = [*(before.get("resumed") or []), {"start": before.get("start"), "versions": before.get("versions")}]
    return {
        "format": FORMAT,
        **asked,
        "options": plain(options or {}),
        "versions": _versions(),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        "model": before.get("model") or [],
        "data": before.get("data"),
        "start": now(),
        "end": None,
        "status": "running",
        "error": None,
        "resumed": resumed if old else [],
    }
