"""What a fresh machine relies on: pins, one door to torchvision, import without side effects."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import heatproof

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
    # an extra may name others of the project's own
    assert names - pinned == {"heatproof"}
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().split()
    assert "torchvision==0.28.0" in (ROOT / "constraints.txt").read_text().split()


@pytest.mark.parametrize("first", ["heatproof", "heatproof.metrics.similarity", "heatproof.models.loading"])
def test_torchvision_imports_beside_any_torch(first: str) -> None:
    code = f"import {first}, torchvision, timm; print(torchvision.models.resnet18(weights=None).fc)"
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert told.stdout.startswith("Linear(in_features=512"), told.stderr


def test_importing_the_package_loads_neither_torch_nor_torchvision() -> None:
    code = "import sys, heatproof; print({'torch', 'torchvision', 'typer'} & {*sys.modules}, 'PGD' in dir(heatproof))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "set() True\n"


def test_public_names_are_the_same_for_programs_and_type_checkers() -> None:
    """What is written for type checkers, what ``*`` brings and what is found when it is asked for."""
    tree = ast.parse(Path(heatproof.__file__).read_text("utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    written = {alias.name: node.module for node in imports for alias in node.names}
    assert sorted(written) == sorted(heatproof.__all__)
    for name, module in written.items():
        assert f"heatproof.{heatproof._HOME_OF[name]}" == module
        assert getattr(heatproof, name) is getattr(sys.modules[str(module)], name)
    brought: dict[str, object] = {}
    exec("from heatproof import *", brought)
    assert set(heatproof.__all__) <= set(brought)
    assert set(heatproof.__all__) <= set(dir(heatproof))
    with pytest.raises(AttributeError, match="has no attribute 'GradCM'"):
        heatproof.GradCM  # type: ignore[attr-defined]  # noqa: B018


def test_torchvision_without_its_operators_is_given_their_schemas(tmp_path: Path) -> None:
    """A torchvision that stops at its first import as a wheel for CUDA does beside a torch for the CPU."""
    (tmp_path / "torchvision").mkdir()
    text = "import torch\nif not hasattr(torch.ops.torchvision, 'nms'):\n    raise RuntimeError({!r})\nwhole = True\n"
    for said, wanted in (("operator torchvision::nms does not exist", "True"), ("something else", "RuntimeError")):
        (tmp_path / "torchvision" / "__init__.py").write_text(text.format(said))
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
        code += "\nimport heatproof, torchvision\nprint(torchvision.whole)"
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert wanted in (told.stdout or told.stderr.splitlines()[-1])


def test_the_package_is_small() -> None:
    package = ROOT / "src" / "heatproof"
    data = list(package.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in data) < 3 * 2**20
