"""What the documentation takes from the program: every verb with every option, every status, every column."""

import re
from pathlib import Path

import typer.main

from docs_world import docs_module
from heatproof.cli import STATUS
from heatproof.cli.verbs import app
from heatproof.glossary import GLOSSARY

DOCS = Path(__file__).parents[2] / "docs"


def page(name: str) -> str:
    return docs_module("generated").filled((DOCS / name).read_text(encoding="utf-8"))


def test_every_verb_stands_with_every_option() -> None:
    text = page("reference/command-line.md")
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in verbs.items():
        part = text.partition(f"\n## heatproof {name}\n")[2].partition("\n## ")[0]
        options = {option for one in command.params for option in one.opts if option.startswith("-")}
        assert {option for option in options if option not in part} == set(), name
    # a default as it is typed
    assert "| `--batch-size N` | Images in one pass. | `16` |" in text
    assert "| `--limit N` |" in text


def test_the_table_of_statuses() -> None:
    # as it lies in the repository, where nothing is filled in
    text = (DOCS / "reference/command-line.md").read_text("utf-8")
    told = re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)
    assert told == [(str(status), meaning) for status, meaning in STATUS.items()]


def test_every_column_is_told_once() -> None:
    text = page("methods/columns.md")
    assert [name for name in GLOSSARY if len(re.findall(rf"^\| `{name}` \|", text, re.MULTILINE)) != 1] == []


def test_no_mark_is_left_and_every_mark_is_known() -> None:
    marked = [path for path in DOCS.rglob("*.md") if "<!-- generated:" in path.read_text("utf-8")]
    assert len(marked) == 2
    for path in marked:
        assert "<!-- generated:" not in docs_module("generated").filled(path.read_text("utf-8"))
        # a table is broken by a line that is none
        assert "\n\n\n|" not in docs_module("generated").filled(path.read_text("utf-8"))
