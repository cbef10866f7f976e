"""Execute a notebook's cells and keep what they show, without Jupyter: ``python docs/run_notebook.py FILE.ipynb``."""

import ast
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def run(cells: list[dict[str, Any]], space: dict[str, Any]) -> None:
    """Execute the code cells in order, in one namespace; each cell's outputs are replaced by what it shows now."""
    count = 0
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        count += 1
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(tree, f"cell {count}", "exec"), space)
            value = None if last is None else eval(compile(ast.Expression(last.value), f"cell {count}", "eval"), space)
        printed = [{"name": "stdout", "output_type": "stream", "text": said.getvalue().splitlines(True)}]
        shown = {"data": shows(value), "execution_count": count, "metadata": {}, "output_type": "execute_result"}
        cell["outputs"] = [*(printed if said.getvalue() else []), *([shown] if value is not None else [])]
        cell["execution_count"] = count


def shows(value: Any) -> dict[str, Any]:
    """What a notebook shows of a value: its picture, its table, its text."""
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(True)}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_().splitlines(True)
    if hasattr(value, "_repr_png_"):
        data["image/png"] = base64.b64encode(value._repr_png_()).decode()
    return data


if __name__ == "__main__":
    file = Path(sys.argv[1])
    notebook = json.loads(file.read_text(encoding="utf-8"))
    run(notebook["cells"], {"__name__": "__main__"})
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
