"""What every test may ask for."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights and photos, which the repository does not carry."""
    folder = Path(os.environ.get("HEATPROOF_SHARED") or Path(__file__).parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip(f"no real weights and photos at {folder}; set HEATPROOF_SHARED")
    return folder
