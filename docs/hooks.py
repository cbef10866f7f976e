"""What the build of the documentation needs besides mkdocs.yml."""

import re
import sys
from pathlib import Path
from typing import Any

import griffe

import heatproof

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from formulas import marked, typeset  # noqa: E402 these lie beside this file, which is loaded by its path
from generated import filled  # noqa: E402

ROLE = re.compile(r":(?:mod|class|func|meth|data|attr):`~?([^`]+)`")
PAGES = re.compile(r"<!-- pages: (\S+) -->")
TABLE = re.compile(r"(?ms)^=+ +=[= ]*$.*^=+ +=[= ]*$")
DOCTEST = re.compile(r"(?m)^(?:>>> .*\n?(?:.+\n?)*)")


def on_config(config: Any) -> Any:
    """Fill ``Section: folder/`` in the navigation with the folder's pages, the index first."""
    for entry in config["nav"]:
        for title, target in entry.items():
            if isinstance(target, str) and target.endswith("/"):
                pages = sorted((DOCS / target).glob("*.md"), key=lambda page: (page.name != "index.md", page.name))
                entry[title] = [page.relative_to(DOCS).as_posix() for page in pages]
    return config


def on_page_markdown(text: str, *, page: Any, **known: Any) -> str:
    """Put what is generated, and links to the pages that exist, in the place of their marks."""
    folder = (DOCS / page.file.src_uri).parent

    def links(found: re.Match[str]) -> str:
        pages = sorted(folder.glob(f"{found.group(1)}.md"))
        titles = [next(iter(re.findall(r"(?m)^# (.+)$", page.read_text("utf-8"))), page.stem) for page in pages]
        return "\n".join(f"- [{title}]({page.name})" for title, page in zip(titles, pages, strict=True)) or "None yet."

    return marked(PAGES.sub(links, filled(text)))


def on_page_content(html: str, **known: Any) -> str:
    """Formulas, those of docstrings too, as they are drawn."""
    return typeset(html)


def markdown(docstring: str) -> str:
    """A docstring as Markdown: Sphinx roles become code, doctests and tables become blocks.

    >>> markdown("see :class:`~heatproof.types.Images`")
    'see `heatproof.types.Images`'
    """
    # a line that begins with "> 0" is no quotation
    docstring = re.sub(r"(?m)^> ", r"\> ", ROLE.sub(r"`\1`", docstring))
    docstring = TABLE.sub(lambda found: f"```text\n{found.group()}\n```", docstring)
    return DOCTEST.sub(lambda found: f"```pycon\n{found.group().rstrip()}\n```\n", docstring)


def imported(name: str, module: str) -> str:
    """How a name is reached, in a line: what is public through ``hp``, all else from its module.

    >>> imported("GradCAM", "heatproof.explainers.cam")
    'Import: `hp.GradCAM` (`import heatproof as hp`).'
    >>> imported("ask", "heatproof.metrics.confidence")
    'Import: `from heatproof.metrics.confidence import ask`.'
    """
    if name in heatproof.__all__:
        return f"Import: `hp.{name}` (`import heatproof as hp`)."
    return f"Import: `from {module} import {name}`."


class Plain(griffe.Extension):
    """Docstrings as Markdown, and ``@settings`` classes as the dataclasses they are."""

    def on_class_members(self, *, cls: griffe.Class, **known: Any) -> None:
        if any(str(decorator.value) == "settings" for decorator in cls.decorators):
            known_name = griffe.ExprName("dataclasses.dataclass")
            cls.decorators.append(griffe.Decorator(known_name, lineno=None, endlineno=None))

    def on_object(self, *, obj: griffe.Object, **known: Any) -> None:
        if obj.docstring is None:
            return
        of_module = obj.parent is not None and obj.parent.is_module
        if of_module and obj.is_attribute and obj.name.isupper() and obj.module.path != "heatproof.catalog":
            # a module's constant is nobody's to rely on; the catalog's lists are
            obj.docstring = None
            return
        obj.docstring.value = marked(markdown(obj.docstring.value))
        if of_module and (obj.is_class or obj.is_function):
            obj.docstring.value += f"\n\n{imported(obj.name, obj.module.path)}"
