"""What stands side by side: runs with a column each and figures of one name, and the explainers of one run."""

from collections.abc import Mapping, Sequence
from typing import Any

from heatproof.glossary import term
from heatproof.report.words import cell, labels, number_table
from heatproof.results import RunFiles
from heatproof.results.strict import is_number

IDENTITIES = ("check", "number", "attack", "epsilon", "explainer", "layer", "penalty", "remedy", "metric", "model")
"""Columns that say what a row is about; those in which the runs have nothing in common say which run it is."""
UNTOLD = ("count", "rows", "threshold", "doubtful_from", "deviations", "seconds")
"""Numbers that are the same for all runs, or none that one compares."""
Row = Mapping[str, Any]


def joint_tables(runs: Sequence[RunFiles]) -> list[dict[str, Any]]:
    """The numbers of each verb's runs together; a run that is the only one of its verb has its own table elsewhere.

    Returns:
        ``title`` (the verb and its runs; empty where all runs are of one verb) and ``table``.
    """
    named = list(zip(runs, labels(runs), strict=True))
    verbs = dict.fromkeys(run.command for run in runs)
    found = []
    for verb in verbs:
        own = [(run, name) for run, name in named if run.command == verb]
        mine, names = [run for run, _ in own], [name for _, name in own]
        table = (numbers_beside(mine, names) or joint_table(mine, names)) if len(own) > 1 else None
        if table is not None:
            found.append({"title": f"{verb}: {', '.join(names)}" if len(verbs) > 1 else "", "table": table})
    return found


def numbers_beside(runs: Sequence[RunFiles], names: Sequence[str] = ()) -> dict[str, Any] | None:
    """A line per number and a column per run; ``None`` where the runs are of several verbs or share no rows.

    Args:
        names: of the runs, by default :func:`~heatproof.report.words.labels`.
    """
    verbs = {run.command for run in runs}
    if len(verbs) != 1 or not all(run.rows for run in runs):
        return None
    keys = [key for key in IDENTITIES if _shared(key, runs)]
    tables = [{tuple(row.get(key) for key in keys): row for row in run.rows} for run in runs]
    if any(len(table) != len(run.rows) for table, run in zip(tables, runs, strict=True)):
        return None
    places = list(dict.fromkeys(place for table in tables for place in table))
    if all(sum(place in table for table in tables) < 2 for place in places):
        return None
    (verb,) = verbs
    varying = [n for n in range(len(keys)) if len({place[n] for place in places}) > 1]
    lines = [line for place in places for line in _lines(place, tables, varying, keys, verb)]
    heads = [_head(term(keys[n], verb).head) for n in varying]
    heads += [_head("number"), *(_head(label, number=True) for label in names or labels(runs))]
    own = len(varying)
    if own and len({line[own]["text"] for line in lines}) == 1:
        # the rows tell apart what is counted: its name would be the same in each
        del heads[own]
        lines = [[*line[:own], *line[own + 1 :]] for line in lines]
    return {"heads": heads, "rows": lines, "intervals": any(cell["under"] for line in lines for cell in line)}


def figures_beside(shown: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Figures that more than one run has under the same name, taken out of the runs' own lists.

    Returns:
        ``caption`` of the first, and ``items``: the figures with the ``label`` of their run.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for run in shown:
        for figure in run.get("figures", []):
            found.setdefault(figure["name"], []).append({**figure, "label": run["label"]})
    several = {name: items for name, items in found.items() if len(items) > 1}
    for run in shown:
        run["figures"] = [figure for figure in run.get("figures", []) if figure["name"] not in several]
    return [{"name": name, "caption": items[0]["caption"], "items": items} for name, items in several.items()]


def _shared(key: str, runs: Sequence[RunFiles]) -> bool:
    """Whether the runs have a value of this column in common."""
    values = [{repr(row[key]) for row in run.rows if row.get(key) is not None} for run in runs]
    return bool(set.intersection(*values))


def _lines(
    place: tuple[Any, ...],
    tables: Sequence[Mapping[tuple[Any, ...], Row]],
    varying: Sequence[int],
    keys: Sequence[str],
    verb: str,
) -> list[list[dict[str, Any]]]:
    rows = [table.get(place, {}) for table in tables]
    known = {key for row in rows for key in row}
    ends = {f"{key}{end}" for key in known for end in ("_low", "_high", "_missing")}
    numbers = dict.fromkeys(key for row in rows for key, value in row.items() if is_number(value))
    about = [cell(dict(zip(keys, place, strict=True)), keys[n], set()) for n in varying]
    return [
        [*about, _text(term(key, verb).head), *(_value(row, key, known) for row in rows)]
        for key in numbers
        if key not in ends and key not in UNTOLD and key not in keys
    ]


def _value(row: Row, key: str, known: set[str]) -> dict[str, Any]:
    shown = cell(row, key, known)
    judged = row.get("verdict") if key == "value" else None
    return {**shown, "number": True, "under": [*shown["under"], *([judged] if isinstance(judged, str) else [])]}


def _text(text: str) -> dict[str, Any]:
    return {"text": text, "under": [], "number": False}


def _head(text: str, *, number: bool = False) -> dict[str, Any]:
    return {"head": text, "meaning": "", "unit": "", "key": text, "number": number}


def side_by_side(run: RunFiles) -> dict[str, Any] | None:
    """The table with a column per explainer, where the summary has one."""
    rows = [{**row, "metric": _metric(row["metric"], run.command)} if "metric" in row else row for row in _side(run)]
    return number_table(rows, verb=run.command)


def rows_not_beside(run: RunFiles) -> list[Mapping[str, Any]]:
    """The rows of a run's table of numbers, without those whose numbers all stand in its table side by side."""
    beside = {str(row.get("metric")) for row in _side(run)}
    if not beside:
        return list(run.rows)

    def numbers(row: Mapping[str, Any]) -> set[str]:
        return {key for key in row if f"{key}_low" in row}

    return [row for row in run.rows if not numbers(row) or not numbers(row) <= beside]


def _side(run: RunFiles) -> list[dict[str, Any]]:
    rows = run.summary.get("side_by_side")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def joint_table(runs: Sequence[RunFiles], names: Sequence[str]) -> dict[str, Any] | None:
    """The summary rows of runs of one verb below each other, each with the name of its run."""
    rows = [{"run": name, **row} for run, name in zip(runs, names, strict=True) for row in run.rows]
    return number_table(rows, first="run", verb=runs[0].command)


def _metric(name: Any, verb: str) -> str:
    """In words, with the name by which it is asked for: ``fall, map's order (aopc)``."""
    asked, comma, condition = str(name).partition(", ")
    head = term(asked, verb).head
    return f"{head}{'' if head == asked else f' ({asked})'}{comma}{condition}"
