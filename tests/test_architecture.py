"""Who may import whom: the picture of the house, held against the imports."""

import ast
from pathlib import Path

import pytest

import heatproof

ROOT = Path(heatproof.__file__).parent
REPOSITORY = Path(__file__).parents[1]
GROUND = {"types", "errors", "vision", "shard", "processes", "tensor_files", "paths", "glossary", "habits", "front"}
ALLOWED: dict[str, set[str]] = {
    "types": {"habits", "front"},
    "front": set(),
    "habits": {"errors"},
    "errors": set(),
    "vision": set(),
    "shard": {"errors"},
    "processes": {"errors", "shard"},
    "tensor_files": {"paths"},
    "paths": set(),
    "glossary": set(),
    "heatmaps": {"types", "errors"},
    "images": {"types"},
    "preprocessing": {"types", "errors"},
    "spec": {"errors", "habits"},
    "models": GROUND | {"heatmaps", "images", "preprocessing"},
    "data": GROUND | {"heatmaps", "preprocessing"},
    "explainers": GROUND | {"heatmaps", "images", "models"},
    "defences": GROUND | {"heatmaps", "preprocessing", "models", "data", "explainers"},
    "attacks": GROUND | {"heatmaps", "models"},
    "training": GROUND | {"heatmaps", "models", "data", "preprocessing"},
    "manipulation": GROUND | {"heatmaps", "models", "metrics", "training"},
    "metrics": GROUND | {"heatmaps", "images", "models"},
    "repairs": GROUND | {"heatmaps", "images", "models", "data", "preprocessing", "explainers", "metrics", "training"},
    "results": {"types", "errors", "shard", "processes", "tensor_files", "paths"},
    "robust": GROUND
    | {"heatmaps", "images", "models", "data", "preprocessing", "attacks", "training", "manipulation", "metrics"},
    # a report is made from files: never a model
    "report": {"types", "errors", "paths", "glossary", "results"},
    "commands": GROUND
    | {
        "heatmaps",
        "images",
        "preprocessing",
        "models",
        "data",
        "explainers",
        "defences",
        "attacks",
        "manipulation",
        "training",
        "repairs",
        "robust",
        "metrics",
        "results",
        "report",
    },
}
ALLOWED["studies"] = ALLOWED["commands"] | {"commands"}
ALLOWED["catalog"] = set()  # names are strings until used
ALLOWED["answers"] = ALLOWED["studies"] | {"studies", "catalog", "spec"}
ALLOWED["live"] = ALLOWED["answers"] | {"answers"}
ALLOWED["cli"] = ALLOWED["live"] | {"live"}
FILE, BODY = 420, 60
"""The most lines of a file, and of a function below its signature and docstring."""
FILES = sorted(ROOT.rglob("*.py"))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


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


@pytest.mark.parametrize("path", FILES, ids=named)
def test_imports_follow_the_drawing(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    forbidden = imports_of(path) - ALLOWED[room] - {room}
    assert not forbidden, f"{room} may not import {sorted(forbidden)}"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_torchvision_has_one_door(path: Path) -> None:
    if path.name == "vision.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        assert not any(name.split(".")[0] == "torchvision" for name in names), f"{path.name} line {node.lineno}"


def drawing() -> list[str]:
    """``ALLOWED`` as CONTRIBUTING.md shows it: a line per room, what lies lowest first."""
    width = max(map(len, ALLOWED)) + 4
    lines = [
        f"{'ground':{width}}{', '.join(room for room in ALLOWED if room in GROUND)}; these import at most each other"
    ]
    for room, allowed in ALLOWED.items():
        # a room that may import what another may, that one, and at most two more
        below = [other for other in ALLOWED if len(ALLOWED[other]) > 5 and ALLOWED[other] | {other} <= allowed]
        rest = allowed - ALLOWED[below[-1]] - {below[-1]} if below else allowed
        if below and len(rest) <= 2:
            told = [*(other for other in ALLOWED if other in rest), f"{below[-1]}, and all that {below[-1]} may import"]
        else:
            told = ["ground"] if allowed >= GROUND else [other for other in ALLOWED if other in allowed & GROUND]
            told += [other for other in ALLOWED if other in allowed - GROUND]
        if room not in GROUND:
            lines.append(f"{room:{width}}{', '.join(told) or 'nothing: names are strings until used'}")
    return lines


def test_the_drawing_in_contributing_is_this_one() -> None:
    assert all(ALLOWED[room] <= GROUND for room in GROUND)
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = text.partition("```text\n")[2].partition("```")[0].splitlines()
    assert shown == drawing(), "CONTRIBUTING.md must show:\n" + "\n".join(drawing())


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Rooms from which one comes back to where one was."""

    def reached(room: str) -> set[str]:
        found: set[str] = set()
        ahead = [room]
        while ahead:
            new = graph.get(ahead.pop(), set()) - found
            found |= new
            ahead += new
        return found

    onward = {room: reached(room) for room in graph}
    found: list[set[str]] = []
    for room in graph:
        together = {other for other in onward[room] if room in onward.get(other, set())}
        if together and together not in found:
            found.append(together)
    return found


def test_rooms_import_in_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        if room_of(path) not in ("__init__", "__main__"):
            graph.setdefault(room_of(path), set()).update(imports_of(path) - {room_of(path)})
    assert circles(graph) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [{"b", "c"}]


def test_files_are_short() -> None:
    assert [named(path) for path in FILES if len(path.read_text().splitlines()) > FILE] == []


def test_functions_are_short() -> None:
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
                if (body[-1].end_lineno or 0) - body[0].lineno >= BODY:
                    found.append(f"{named(path)}:{node.name}")
    assert found == []


def test_no_file_is_called_utils() -> None:
    assert not [path for path in FILES if path.stem in ("utils", "helpers", "base", "common")]
