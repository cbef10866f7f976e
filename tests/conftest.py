"""What every test may ask for."""

import os
from pathlib import Path

import hypothesis
import pytest

# the same examples in every run: a gate that fails by luck teaches to press the button again. Others are looked for
# with HYPOTHESIS_PROFILE=default
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights and photos, which the repository does not carry."""
    folder = Path(os.environ.get("HEATPROOF_SHARED") or Path(__file__).parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip(f"no real weights and photos at {folder}; set HEATPROOF_SHARED")
    return folder
