"""The documentation is whole: every entry of the catalog stands in it, and what it points at exists."""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main

from heatproof import catalog
from heatproof.cli.verbs import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FOR_PEOPLE = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")]
PAGES = sorted([*DOCS.rglob("*.md"), *FOR_PEOPLE])
DOTTED = re.compile(r"(?<![\w/.-])heatproof(?:\.[A-Za-z_]\w*)+")
MOVED = re.compile(r"^\| `(heatproof[\w.]+)` \| `(heatproof[\w.]+)` \|$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = {
    "explainers": catalog.EXPLAINERS,
    "scores": catalog.SCORES,
    "attacks": catalog.ATTACKS,
    "penalties": catalog.PENALTIES,
    "metrics": {**catalog.METRICS, **catalog.SIMILARITIES},
    "repair": catalog.REPAIRS,
    "robust-training": catalog.TRAININGS,
}
STAGES = (
    *(
        "models",
        "data",
        "explainers",
        "lrp",
        "defences",
        "attacks",
        "manipulation",
        "training",
        "repairs",
        "robust",
        "metrics",
    ),
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


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or what an attribute of one holds."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            known = find_spec(".".join(parts[:length])) is not None
        except ModuleNotFoundError:
            known = False
        if known:
            found = import_module(".".join(parts[:length]))
            for part in parts[length:]:
                if not hasattr(found, part):
                    return False
                found = getattr(found, part)
            return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_modules_and_names_shown_exist(page: Path) -> None:
    names = set(DOTTED.findall(page.read_text(encoding="utf-8")))
    assert sorted(name for name in names if not is_there(name)) == []


def test_a_name_that_is_not_there_is_seen() -> None:
    text = "from heatproof.audits.shift import run_shift; heatproof.metrics.shift.mod(x)"
    assert [(name, is_there(name)) for name in DOTTED.findall(text)] == [
        ("heatproof.audits.shift", False),
        ("heatproof.metrics.shift.mod", True),
    ]
    assert not is_there("heatproof.metrics.shift.mode")


def test_what_moved_is_where_the_changelog_says() -> None:
    moved = MOVED.findall((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert len(moved) > 40
    assert [new for _, new in moved if not is_there(new)] == []
    # a module that became a folder is there still
    assert [old for old, new in moved if is_there(old) and not new.startswith(f"{old}.")] == []


def test_every_verb_is_described() -> None:
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for pages in ([ROOT / "README.md"], sorted(DOCS.rglob("*.md"))):
        text = "".join(page.read_text(encoding="utf-8") for page in pages)
        assert [verb for verb in verbs if not re.search(rf"\bheatproof {verb}\b", text)] == []


def test_the_citation_names_the_last_release() -> None:
    released = re.search(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert released is not None
    assert cited is not None
    assert cited[1] == released[1]


def test_pictures_are_small() -> None:
    assert [named(picture) for picture in DOCS.rglob("*.png") if picture.stat().st_size > 300_000] == []
