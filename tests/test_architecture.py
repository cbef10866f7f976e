"""Who may import whom: the picture of the house, held against the imports."""

import ast
from pathlib import Path

import pytest

import heatproof

ROOT = Path(heatproof.__file__).parent
GROUND = {"types", "errors", "vision", "processes", "tensor_files", "paths"}
ALLOWED: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "vision": set(),
    "processes": {"errors"},
    "tensor_files": set(),
    "paths": set(),
    "heatmaps": {"types", "errors"},
    "images": {"types"},
    "spec": {"errors"},
    "models": GROUND | {"heatmaps"},
    "data": GROUND | {"heatmaps"},
    "explainers": GROUND | {"heatmaps", "images", "models"},
    "attacks": GROUND | {"heatmaps", "models"},
    "training": GROUND | {"heatmaps", "models", "data"},
    "manipulation": GROUND | {"heatmaps", "models", "metrics", "training"},
    "metrics": GROUND | {"heatmaps", "images", "models"},
    "results": {"types", "errors", "processes", "tensor_files", "paths"},
    # a report is made from files: never a model
    "report": {"types", "errors", "results"},
    "commands": GROUND
    | {
        "heatmaps",
        "images",
        "models",
        "data",
        "explainers",
        "attacks",
        "manipulation",
        "training",
        "metrics",
        "results",
        "report",
    },
}
ALLOWED["studies"] = ALLOWED["commands"] | {"commands"}
ALLOWED["catalog"] = ALLOWED["studies"] | {"studies"}
ALLOWED["cli"] = ALLOWED["catalog"] | {"catalog", "spec"}


def imports_of(path: Path) -> set[str]:
    """The rooms that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "heatproof":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("heatproof.")}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_drawing(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if room in ("__init__", "__main__"):
        return
    forbidden = imports_of(path) - ALLOWED[room] - {room}
    assert not forbidden, f"{room} may not import {sorted(forbidden)}"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_torchvision_has_one_door(path: Path) -> None:
    if path.name == "vision.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.split(".")[0] == "torchvision" for name in names), f"{path.name} line {node.lineno}"


def test_no_file_is_called_utils() -> None:
    assert not [p for p in ROOT.rglob("*.py") if p.stem in ("utils", "helpers", "base", "common")]
