"""What a fresh machine relies on: pins, one door to torchvision, import without side effects."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {text.split(">")[0].split("[")[0].strip().lower().replace("_", "-") for text in wanted}
    pinned = {
        line.split("==")[0].strip().lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert names - pinned == set()
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().split()
    assert "torchvision==0.28.0" in (ROOT / "constraints.txt").read_text().split()


@pytest.mark.parametrize("first", ["heatproof", "heatproof.metrics.similarity", "heatproof.models.loading"])
def test_torchvision_imports_beside_any_torch(first: str) -> None:
    code = f"import {first}, torchvision, timm; print(torchvision.models.resnet18(weights=None).fc)"
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert told.stdout.startswith("Linear(in_features=512"), told.stderr


def test_the_package_is_small() -> None:
    package = ROOT / "src" / "heatproof"
    data = list(package.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in data) < 3 * 2**20
