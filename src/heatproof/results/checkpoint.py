"""The state of a training in one file."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from heatproof.errors import RunError
from heatproof.results.whole import write_whole


@dataclass(frozen=True)
class FileCheckpoint:
    """Tensors, numbers and texts in a file that appears whole or not at all."""

    path: Path

    def load(self) -> dict[str, Any] | None:
        """What was saved last, on the CPU; ``None`` where nothing was.

        Raises:
            RunError: the file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise RunError(f"{self.path} is damaged ({error}); delete it to begin anew") from error

    def save(self, state: dict[str, Any]) -> None:
        file = io.BytesIO()
        torch.save(state, file)
        write_whole(self.path, file.getvalue())
