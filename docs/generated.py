"""What pages of the documentation take from the program itself when the site is built: nothing is typed twice."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer.main

from heatproof.cli.verbs import app
from heatproof.glossary import ANYWHERE, GLOSSARY, OF_VERB, Term

MARK = re.compile(r"<!-- generated: (\w+) -->")


def commands() -> str:
    """Every verb: what it is for, how it is called, its arguments and options with their defaults."""
    group = typer.main.get_command(app)
    return "\n\n".join(_command(name, group.commands[name]) for name in group.commands)  # type: ignore[attr-defined]


def glossary() -> str:
    """Every column of the verbs' tables in words."""
    rows = [(f"`{column}`", *_told(term)) for column, term in GLOSSARY.items()]
    rows += [
        (f"`{column}` of {verb}", *_told(term)) for verb, columns in OF_VERB.items() for column, term in columns.items()
    ]
    return _table(("column", "on the page", "means", "unit or range"), sorted(rows))


def anywhere() -> str:
    """The columns that mean the same in studies."""
    return ", ".join(f"`{column}`" for column in ANYWHERE)


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "glossary": glossary,
    "anywhere": anywhere,
}


def filled(text: str) -> str:
    """A page with what is generated in the place of its marks, ``<!-- generated: NAME -->``."""
    return MARK.sub(lambda found: PARTS[found[1]](), text)


def _told(term: Term) -> tuple[str, str, str]:
    return term.head, term.meaning, term.unit


def _command(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and "--help" not in one.opts]
    called = " ".join([f"heatproof {name}", *(_argument(one) for one in arguments), "[OPTIONS]"])
    parts = [f"## heatproof {name}", inspect.cleandoc(command.help or ""), f"```text\n{called}\n```"]
    if arguments:
        rows = [(f"`{_named(one)}`", _help(one)) for one in arguments]
        parts.append(_table(("argument", "is"), rows))
    if options:
        rows = [(f"`{', '.join(_spelt(one))}`", _help(one), _default(one)) for one in options]
        parts.append(_table(("option", "is", "default"), rows))
    return "\n\n".join(parts)


def _named(parameter: Any) -> str:
    return (parameter.name or "").rstrip("_").upper()


def _argument(parameter: Any) -> str:
    name = _named(parameter) + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _spelt(parameter: Any) -> list[str]:
    flag = getattr(parameter, "is_flag", False)
    return [spelling if flag or len(spelling) == 2 else f"{spelling} {_kind(parameter)}" for spelling in parameter.opts]


def _kind(parameter: Any) -> str:
    known = str(parameter.type_descriptor.annotation)
    return next((word for kind, word in (("int", "N"), ("float", "X"), ("Path", "PATH")) if kind in known), "TEXT")


def _help(parameter: Any) -> str:
    return getattr(parameter, "help", None) or ""


def _default(parameter: Any) -> str:
    shown = getattr(parameter, "show_default", None)
    if isinstance(shown, str):
        return shown
    if parameter.required:
        return "must be given"
    default = parameter.default
    if callable(default) or default is None or default is False or not isinstance(default, str | int | float | Path):
        return ""
    return f"`{default}`"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
