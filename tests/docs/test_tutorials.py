"""The tutorials do what they say: every Python block of a page is run, in order; of one its commands too."""

import re
import shlex
from pathlib import Path

import pytest
from tests.command_line import heatproof

PAGES = Path(__file__).parents[2] / "docs" / "tutorials"
WITH_COMMANDS = "audit"
"""Its commands and its Python use the same folders."""
TUTORIALS = (
    *("explain", "network", "attack", "live", "fool", "take-the-lie-out", "faithful", "extend", "coming-from"),
    "cluster",
)
BLOCK = re.compile(r"^```python\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
EITHER = re.compile(
    r"^(?:<!-- (?P<mark>[^>]+) -->\n)?```(?P<kind>python|sh)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


def test_every_tutorial_is_run() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {"index", WITH_COMMANDS, *TUTORIALS}


@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorial(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = PAGES / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    space = {"__name__": f"tutorial_{name}"}
    for block in BLOCK.finditer(text):
        run_python(block, text, page, space)


@pytest.mark.slow
def test_the_audit_tutorial_with_its_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = PAGES / f"{WITH_COMMANDS}.md"
    text = page.read_text(encoding="utf-8")
    space = {"__name__": "tutorial_audit"}
    for block in EITHER.finditer(text):
        if block["kind"] == "python":
            run_python(block, text, page, space)
        elif block["mark"] != "by hand":
            wanted = int((block["mark"] or "exits 0").split()[-1])
            for line in block["text"].splitlines():
                program, *words = shlex.split(line)
                assert (program, heatproof(*words)) == ("heatproof", wanted), line


def run_python(block: re.Match[str], text: str, page: Path, space: dict) -> None:
    # as many empty lines before it as on the page, so that an error names the page's own line
    above = "\n" * text.count("\n", 0, block.start("text"))
    exec(compile(above + block["text"], str(page), "exec"), space)
