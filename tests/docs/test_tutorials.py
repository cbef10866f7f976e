"""The tutorials do what they say: every Python block of a page is run, in order."""

import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "tutorials"
TUTORIALS = ("explain", "network", "attack", "live", "fool", "take-the-lie-out", "faithful", "extend", "coming-from")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_tutorial_is_run() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {"index", *TUTORIALS}


@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorial(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = PAGES / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    space = {"__name__": f"tutorial_{name}"}
    for block in BLOCK.finditer(text):
        # as many empty lines before it as on the page, so that an error names the page's own line
        above = "\n" * text.count("\n", 0, block.start(1))
        exec(compile(above + block.group(1), str(page), "exec"), space)
