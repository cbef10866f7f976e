"""The notebook of the tutorials runs, and shows what it says it shows."""

import json
from pathlib import Path
from typing import Any

from docs_world import docs_module

DOCS = Path(__file__).parents[2] / "docs"


def kinds(cells: list[dict[str, Any]]) -> list[list[str]]:
    """What each cell shows: the kinds of its outputs."""
    return [
        sorted(kind for output in cell.get("outputs", []) for kind in output.get("data", {output.get("name"): ""}))
        for cell in cells
    ]


def test_the_notebook_is_executed_and_runs(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "tutorials" / "notebook.ipynb").read_text(encoding="utf-8")
    kept, again = json.loads(text)["cells"], json.loads(text)["cells"]
    docs_module("run_notebook").run(again, {"__name__": "notebook"})
    assert kinds(kept) == kinds(again)
    assert sum("image/png" in shown for shown in kinds(again)) == 2
    assert sum("text/html" in shown for shown in kinds(again)) == 6
    assert not list(tmp_path.iterdir())  # no run folder was asked for
