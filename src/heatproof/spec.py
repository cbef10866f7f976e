"""``pgd(epsilon=8/255, steps=10)`` <-> object: one text for the command line, for records and for Python.

A spec is a name of the catalog, with arguments in Python's own syntax or without any. Names are read without case,
underscores and hyphens, so what ``repr`` prints (``PGD(epsilon=0.03)``) is a spec as well. Nothing is executed: only
literals, the arithmetic of numbers, and further specs are understood.
"""

import ast
import inspect
import operator
import re
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any

from heatproof.errors import HeatproofError, SpecError, did_you_mean
from heatproof.habits import folded, instead_of, unknown_setting

LONGEST = 10_000
"""Letters of a spec."""
DEEPEST = 60
"""Levels of a spec's nesting, names and operators counted."""

_WORDS = re.compile(r"[A-Za-z]\w*(?:(?:[ -]| ?[*] ?)\w+)*")
_BETWEEN = re.compile(r" ?[*] ?|[ -]")
"""What stands between the words of a name: ``gradient * input``, ``guided grad-cam``."""
_ARITHMETIC: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def number(text: str) -> float:
    """A number, or the arithmetic of numbers.

    >>> number("8/255") == 8 / 255
    True
    """
    if text.strip().lower() == "nan":
        return float("nan")  # who asked says what it must be
    value = _value(_parsed(text), text, {})
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(f"a number such as 0.01 or 8/255 was expected, got {text!r}")
    return value


def build(text: str, catalog: Mapping[str, Callable[..., Any]], kind: str = "name") -> Any:
    """The object that ``text`` describes.

    Args:
        catalog: names -> classes or functions that may be called.
        kind: what the entries are ("explainer"), for messages.

    Raises:
        SpecError: for text that cannot be read, a name that is not in the catalog or an argument that it does not
            have, naming the nearest.
    """
    return _call(_call_of(text, kind), text, catalog, kind)


def check(text: str, catalog: Mapping[str, Callable[..., Any]], kind: str = "name") -> None:
    """Refuse what :func:`build` would refuse without calling anything: text that is no spec, names not in the catalog.

    Nothing is imported, so that a misspelt name is told at once.

    >>> check("gradcm(relu=False)", {"gradcam": dict}, "explainer")
    Traceback (most recent call last):
    heatproof.errors.SpecError: there is no explainer 'gradcm'; did you mean gradcam?
    """
    tree = _call_of(text, kind)
    _name(tree, text, catalog, kind)
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and call is not tree:
            _name(call, text, catalog)


def _outermost(catalog: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a spec may begin with: of several catalogs the first, the others hold what stands inside."""
    return catalog.maps[0] if isinstance(catalog, ChainMap) else catalog


def _call_of(text: str, kind: str) -> ast.Call:
    tree = _parsed(_typeable(text))
    if isinstance(tree, ast.Name):
        tree = ast.Call(func=tree, args=[], keywords=[])
    if not isinstance(tree, ast.Call):
        raise SpecError(f"{kind} {text!r} cannot be read; write name(argument=value, ...)")
    return tree


def _typeable(text: str) -> str:
    """Names as papers write them, as Python can read them.

    >>> _typeable("Grad-CAM++(relu=False)"), _typeable("guided grad-cam"), _typeable("input x gradient")
    ('Grad_CAM_plus_plus(relu=False)', 'guided_grad_cam', 'input_x_gradient')
    """
    name, bracket, rest = text.partition("(")
    name = name.strip().replace("++", "_plus_plus")
    if _WORDS.fullmatch(name):
        name = _BETWEEN.sub("_", name)
    return name.replace("-", "_") + bracket + rest


def _depth(tree: ast.AST) -> int:
    """How deep a tree is, counted without recursion."""
    depth, level = 0, [tree]
    while level and depth <= DEEPEST:
        depth, level = depth + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise SpecError(f"a spec has at most {LONGEST:,} letters, got {len(text):,}, beginning with {text[:40]!r}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if _depth(tree) > DEEPEST:
            raise SpecError(f"{text!r} is nested too deeply: expected at most {DEEPEST} levels")
        return tree
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SpecError(
            f"{text!r} cannot be read; write name(argument=value, ...), for example pgd(epsilon=8/255)"
        ) from error


def _name(tree: ast.Call, text: str, catalog: Mapping[str, Callable[..., Any]], kind: str = "name") -> str:
    """The entry of the catalog that a call names."""
    if not isinstance(tree.func, ast.Name):
        raise SpecError(f"{ast.unparse(tree.func)!r} in {text!r} is no {kind}")
    known = {folded(name): name for name in catalog}
    name = known.get(folded(tree.func.id))
    if name is None:
        # as it was typed, where it is not one of those inside
        typed = text.partition("(")[0].strip()
        asked = typed if folded(typed) == folded(tree.func.id) else tree.func.id
        entries = catalog if kind == "name" else _outermost(catalog)
        way = instead_of(tree.func.id, entries) or did_you_mean(tree.func.id, entries)
        raise SpecError(f"there is no {kind} {asked!r}; {way}")
    return name


def _call(tree: ast.Call, text: str, catalog: Mapping[str, Callable[..., Any]], kind: str = "name") -> Any:
    name = _name(tree, text, catalog, kind)
    make = catalog[name]
    if any(keyword.arg is None for keyword in tree.keywords):
        raise SpecError(f"** is not understood in {text!r}; write argument=value")
    arguments = [_value(argument, text, catalog) for argument in tree.args]
    named = {str(keyword.arg): _value(keyword.value, text, catalog) for keyword in tree.keywords}
    signature = inspect.signature(make)
    unknown = [argument for argument in named if argument not in signature.parameters]
    if unknown:
        raise SpecError(unknown_setting(name, unknown[:1], signature.parameters))
    try:
        signature.bind(*arguments, **named)
    except TypeError as error:
        shown = ", ".join(str(parameter) for parameter in signature.parameters.values())
        raise SpecError(f"{text!r}: {error}; {name} takes ({shown})") from error
    try:
        return make(*arguments, **named)
    except HeatproofError:
        raise
    except (TypeError, ValueError) as error:
        raise SpecError(f"{text!r}: {error}") from error


def _value(tree: ast.expr, text: str, catalog: Mapping[str, Callable[..., Any]]) -> Any:
    match tree:
        case ast.Constant(value=value) if value is None or isinstance(value, bool | int | float | str):
            return value
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _ARITHMETIC:
            return _computed(text, _ARITHMETIC[type(op)], _value(operand, text, catalog))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _computed(text, _ARITHMETIC[type(op)], _value(left, text, catalog), _value(right, text, catalog))
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_value(item, text, catalog) for item in items)
        case ast.Name(id="inf"):
            return float("inf")
        case ast.Call():
            return _call(tree, text, catalog)
        case _:
            raise SpecError(f"{ast.unparse(tree)!r} in {text!r} is no value; texts stand in quotes")


def _computed(text: str, how: Callable[..., Any], *values: Any) -> Any:
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        raise SpecError(f"only numbers can be computed with, in {text!r}")
    try:
        return how(*values)
    except (ArithmeticError, ValueError) as error:
        raise SpecError(f"{text!r} cannot be computed: {error}") from error
