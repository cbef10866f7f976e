"""The documentation is whole: every entry of the catalog stands in it, and what it points at exists."""

import re
from pathlib import Path

import pytest
import typer.main

from heatproof import catalog
from heatproof.cli.verbs import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = {
    "explainers": catalog.EXPLAINERS,
    "attacks": catalog.ATTACKS,
    "penalties": catalog.PENALTIES,
    "metrics": catalog.METRICS,
}
STAGES = (
    *("models", "data", "explainers", "lrp", "attacks", "manipulation", "training", "metrics"),
    *("commands", "studies", "results"),
)


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("kind", NAMED)
def test_every_method_has_its_formula(kind: str) -> None:
    text = (DOCS / "methods" / f"{kind}.md").read_text(encoding="utf-8")
    assert [name for name in NAMED[kind] if f"`{name}`" not in text] == []


def test_every_study_is_in_the_reproduction() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reproduction").glob("*.md"))
    assert [name for name in catalog.STUDIES if not re.search(rf"heatproof study {re.escape(name)}\b", text)] == []


@pytest.mark.parametrize("stage", [*STAGES, "report"])
def test_every_stage_has_a_page_from_its_docstrings(stage: str) -> None:
    text = (DOCS / "reference" / f"{stage}.md").read_text(encoding="utf-8")
    assert re.search(rf"^::: heatproof\.\S*{stage}$", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_and_images_exist(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    targets = [link for link in LINK.findall(text) if not link.startswith(("https://", "#"))]
    assert [link for link in targets if not (page.parent / link.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_shown_exist(page: Path) -> None:
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = [line for block in SHELL.findall(page.read_text(encoding="utf-8")) for line in block.splitlines()]
    for line in lines:
        words = line.partition("#")[0].split()
        if words[:1] != ["heatproof"]:
            continue
        assert words[1] in verbs or words[1].isupper(), line
        if words[1] in verbs:
            known = {option for parameter in verbs[words[1]].params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, line


def test_pictures_are_small() -> None:
    assert [named(picture) for picture in DOCS.rglob("*.png") if picture.stat().st_size > 300_000] == []
