"""The state of a training in one file."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from heatproof.errors import RunError
from heatproof.results.whole import write_whole
from heatproof.tensor_files import DamagedFile, read_pickled


@dataclass(frozen=True)
class FileCheckpoint:
    """Tensors, numbers and texts in a file that appears whole or not at all."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def load(self) -> dict[str, Any] | None:
        """What was saved last, on the CPU; ``None`` where nothing was.

        Raises:
            RunError: the file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            state = read_pickled(self.path)
        except DamagedFile as error:
            raise RunError(f"{self.path} {error}; delete it to begin anew") from error
        if not isinstance(state, dict):
            raise RunError(f"{self.path} holds no training, but {type(state).__name__}; delete it to begin anew")
        return state

    def save(self, state: dict[str, Any]) -> None:
        file = io.BytesIO()
        torch.save(state, file)
        write_whole(self.path, file.getvalue())
