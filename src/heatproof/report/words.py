"""The page's words: what was asked, titles, and tables of numbers with their intervals."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from heatproof.glossary import term
from heatproof.report.studies import STUDIES
from heatproof.results import RunFiles
from heatproof.results.strict import is_number
from heatproof.results.table import FEWEST_IMAGES, Mean

Entry = tuple[str, str, str]
"""(term, value, hash) of a list of facts."""
_LONG = 600
"""Characters of a setting that is shown: whole tables of limits are for programs."""
TITLES = {
    "explain": "What the network looks at",
    "shift": "How far heatmaps move under attack",
    "fool": "Fooling the network's heatmaps",
    "compare": "Do two networks' heatmaps show the same?",
    "audit": "Can these heatmaps be trusted?",
    "evaluate": "Explainers side by side",
    "repair": "Was there a lie, and is it out?",
    "defend": "A network trained so that its heatmaps hold still",
    "demo": "Demonstration",
    "app": "What was seen on the live page",
}


def title(runs: Sequence[RunFiles]) -> str:
    """The page's heading."""
    commands = {run.command for run in runs}
    if len(commands) > 1:
        return f"{len(runs)} runs side by side"
    [command] = commands
    if command == "study":
        names = {_study(run) for run in runs}
        [name] = names if len(names) == 1 else [f"{len(names)} studies side by side"]
        return STUDIES.get(name, name if len(names) > 1 else f"Study {name}".strip())
    return TITLES.get(command, f"Run of {command}" if command != "?" else "A run")


def _study(run: RunFiles) -> str:
    settings = _dict(run.record.get("settings"))
    return str(settings.get("name") or str(settings.get("study", "")).partition("(")[0])


def lead(runs: Sequence[RunFiles]) -> str:
    """Model, data and day, in a line."""
    models = list(dict.fromkeys(str(m.get("name", "?")) for run in runs for m in _dicts(run.record.get("model"))))
    data = list(dict.fromkeys(str(_dict(run.record.get("data")).get("name", "")) for run in runs))
    days = sorted({str(run.record.get("start", ""))[:10] for run in runs} - {""})
    parts = [", ".join(models), ", ".join(name for name in data if name), " to ".join(sorted({*days[:1], *days[-1:]}))]
    return " · ".join(part for part in parts if part)


def labels(runs: Sequence[RunFiles]) -> list[str]:
    """A name per run: its folder's, told apart by a number where two share one."""
    names = [run.folder.resolve().name for run in runs]
    return [f"{name} ({i + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def asked(run: RunFiles) -> list[Entry]:
    """Command, model, data and seed, as (term, value, hash)."""
    record = run.record
    if not record:
        return [("run.json", "missing or damaged: what was asked is unknown", "")]
    typed = _dict(record.get("options")).get("typed")
    # what was asked in Python is no command, and its model may have no name
    rows: list[Entry] = (
        [("command", typed, "")] if isinstance(typed, str) else [("asked", f"hp.{run.command}(...)", "")]
    )
    for model in _dicts(record.get("model")):
        layer = f", layer {model['layer']}" if model.get("layer") else ""
        rows.append(("model", f"{model.get('name', '?')}{layer}", _hash(model)))
    data = _dict(record.get("data"))
    if data:
        count = f", {counted(data['count'], 'image')}" if isinstance(data.get("count"), int) else ""
        if run.measured is not None:
            count += f", of which {run.measured:,} were measured"
        rows.append(("data", f"{data.get('name', '?')}{count}", _hash(data)))
    rows.append(("seed", _text(record.get("seed")), ""))
    return rows


def class_names(run: RunFiles) -> list[str]:
    """The names of the classes, where the run's models have the same; else none."""
    found = [model.get("classes") for model in _dicts(run.record.get("model"))]
    first = found[0] if found else None
    same = all(names == first for names in found) and isinstance(first, list)
    return [str(name) for name in first or []] if same else []


def details(run: RunFiles) -> list[Entry]:
    """Settings, versions, machine and times, as (term, value, hash)."""
    record = run.record
    if not record:
        return []
    rows: list[Entry] = []
    for group in ("settings", "options"):
        rows += [
            (name, said if len(said := _setting(name, value)) <= _LONG else _in_short(value), "")
            for name, value in _dict(record.get(group)).items()
            if value is not None and name != "typed"
        ]
    versions = [f"{name} {version}" for name, version in _dict(record.get("versions")).items() if version]
    rows.append(("versions", ", ".join(versions), ""))
    machine = _dict(record.get("machine"))
    rows.append(("machine", f"{machine.get('platform', '?')}, {machine.get('cpus', '?')} CPU cores", ""))
    rows.append(("time", _times(record), ""))
    if record.get("shard"):
        rows.append(("shard", _text(record["shard"]), ""))
    if joined := _dicts(_dict(record.get("shards")).get("joined")):
        rows.append(("shards", f"{len(joined)} of {_text(record['shards'].get('count'))} joined", ""))
    if isinstance(record.get("resumed"), list) and record["resumed"]:
        rows.append(("resumed", counted(len(record["resumed"]), "time"), ""))
    return rows


def number_table(
    rows: Sequence[Mapping[str, Any]],
    first: str | None = None,
    verb: str = "",
    told: Mapping[str, str] | None = None,
) -> dict[str, Any] | None:
    """Rows of a summary as heads and cells; a value with ``_low`` and ``_high`` becomes one cell with its interval.

    Args:
        first: the column that comes first.
        verb: whose rows they are.
        told: what columns mean, as the summary itself says.
    """
    if not rows:
        return None
    keys = list(dict.fromkeys(key for row in rows for key in row))
    known = set(keys)
    parts = {f"{key}{end}" for key in keys for end in ("_low", "_high", "_missing")} | {"bad"}
    # rows are counted per image; the other count matters only where it differs
    same_count = all(row.get("rows") == row.get("count") for row in rows)
    heads = [key for key in keys if key not in parts and not (key == "rows" and same_count)]
    heads.sort(key=lambda key: key != first)
    table = [[cell(row, key, known) for key in heads] for row in rows]
    numeric = [all(row[c]["number"] or not row[c]["text"] for row in table) for c in range(len(heads))]
    terms = [term(key, verb)._asdict() for key in heads]
    return {
        "heads": [
            {**known, "key": key, "number": number, "meaning": (told or {}).get(key, known["meaning"])}
            for key, number, known in zip(heads, numeric, terms, strict=True)
        ],
        "rows": table,
        "intervals": any(cell["under"] for row in table for cell in row),
        "few": any(is_number(row.get("count")) and row["count"] < FEWEST_IMAGES for row in rows) and FEWEST_IMAGES,
    }


def column_help(run: RunFiles, tables: Sequence[dict[str, Any] | None], images: Sequence[str]) -> list[Entry]:
    """What the columns mean: as the summary says, and by the glossary those of the tables and of the images."""
    told = told_columns(run)
    shown = [head["key"] for table in tables if table for head in table["heads"]] + list(images)
    found: dict[str, str] = {}
    for column in dict.fromkeys(shown):
        known = term(column, run.command)
        if known.meaning and column not in told:
            found[known.head] = f"{known.meaning}{f' ({known.unit})' if known.unit else ''}"
    return [(name.replace("_", " "), meaning, "") for name, meaning in {**told, **found}.items()]


def told_columns(run: RunFiles) -> dict[str, str]:
    """What the run's own summary says that its columns mean."""
    entries = _dicts(run.summary.get("columns"))
    return {str(entry.get("column", "?")): str(entry.get("help", "")) for entry in entries}


def number(value: float) -> str:
    """A number of a table with four significant digits.

    >>> [number(v) for v in (0.123456, -2.0, 1e-7, 12345678.0)]
    ['0.1235', '−2', '1.00e−7', '1.23e7']
    """
    if not is_number(value):  # infinite, from a summary that we did not write
        return "\N{EN DASH}"
    if value == 0:
        return "0"
    if 0.0005 <= abs(value) < 1e6:
        text = f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
    else:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "\N{MINUS SIGN}")


def of_check(value: float, low: Any = None, high: Any = None) -> list[str]:
    """A number of an audit, with its interval where it has one: at most three decimals, since 1 is much.

    >>> of_check(1.8e-17, 1.5e-17, 2e-17), of_check(0.9999991, 0.999999, 1.0), of_check(0.774, 0.718, 0.83)
    (['0', '[0, 0]'], ['1.00', '[1.00, 1.00]'], ['0.77', '[0.72, 0.83]'])
    """
    value, *ends = (round(end, 3) + 0.0 for end in (value, low, high) if is_number(end))
    if abs(value) == 1 and all(end == value for end in ends):
        # what is nearly 1 is not written as a count
        one = number(value) + ".00"
        return [one, f"[{one}, {one}]"] if len(ends) == 2 else [one]
    return list(with_interval(value, *ends)) if len(ends) == 2 else [number(value)]


def limit(value: float) -> str:
    """A limit of an audit's number, with the digits of the numbers that it is for.

    >>> limit(0.07485), limit(0.005), limit(-0.17321)
    ('0.075', '0.005', '−0.173')
    """
    return number(round(value, 3) + 0.0)


def with_interval(value: float, low: float, high: float) -> tuple[str, str]:
    """A value and its interval with the digits that the interval deserves: two significant ones of its width.

    >>> with_interval(0.775312, 0.71784, 0.82981)
    ('0.78', '[0.72, 0.83]')
    >>> with_interval(0.5, 0.5, 0.5), with_interval(0.4, 0.4 - 1e-16, 0.4 + 1e-16)
    (('0.5', '[0.5, 0.5]'), ('0.4', '[0.4, 0.4]'))
    >>> with_interval(0.9999998, 0.999999, 1.0), with_interval(0.0, 0.0, 0.001)
    (('1.00', '[1.00, 1.00]'), ('0.000', '[0.000, 0.001]'))
    """
    width = high - low
    # means of equal values differ in their last bits, which are no width
    if not (is_number(width) and width > 1e-12 * max(abs(low), abs(high)) and 1e-4 < max(abs(low), abs(high)) < 1e6):
        return number(value), f"[{number(low)}, {number(high)}]"
    # 0.3 - 0.2 is a little less than 0.1
    digits = min(6, max(0, 1 - math.floor(math.log10(float(f"{width:.3g}")))))
    # nor more than four significant ones of the larger end, as numbers without an interval have
    digits = min(digits, max(0, 3 - math.floor(math.log10(max(abs(low), abs(high))))))
    while digits > 2 and all(f"{end:.{digits}f}".endswith("0") for end in (value, low, high)):
        digits -= 1
    ends = [f"{end:.{digits}f}".replace("-", "\N{MINUS SIGN}") for end in (value, low, high)]
    # a value that rounds to nothing is still said
    return (number(value) if value and not float(f"{value:.{digits}f}") else ends[0]), f"[{ends[1]}, {ends[2]}]"


def measured(mean: Mean) -> str:
    """A mean in a sentence, with the digits and the interval that tables show; of too few images without one.

    >>> measured(Mean(0.775312, 0.71784, 0.82981, 0)), measured(Mean(0.13912, None, None, 0))
    ('0.78 [0.72, 0.83]', '0.139')
    """
    if mean.low is None or mean.high is None:
        return number(round(mean.number, 3)).replace("\N{MINUS SIGN}", "-")
    return " ".join(with_interval(mean.number, mean.low, mean.high)).replace("\N{MINUS SIGN}", "-")


def counted(count: int, thing: str = "photo") -> str:
    """So many of a thing.

    >>> counted(1), counted(1200), counted(2, "image")
    ('1 photo', '1,200 photos', '2 images')
    """
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def points(lost: float) -> str:
    """A difference of two shares in points, in words.

    >>> points(0.0121), points(-0.0121), points(0.0001)
    ('1.2 points lost', '1.2 points gained', 'no points lost')
    """
    size = f"{100 * abs(lost):.1f}"
    return "no points lost" if float(size) == 0 else f"{size} points {'lost' if lost > 0 else 'gained'}"


def epsilon(value: float) -> str:
    """An attack's budget as it is typed: a plain decimal, else a fraction of 255.

    >>> [epsilon(v) for v in (0.05, 8 / 255, 0.123456)]
    ['0.05', '8/255', '0.1235']
    """
    steps = value * 255
    plain = abs(value - round(value, 3)) < 1e-9
    return f"{round(steps)}/255" if not plain and abs(steps - round(steps)) < 1e-4 else number(value)


SHOWN: dict[str, Callable[[float], str]] = {
    "epsilon": epsilon,
    "deviations": lambda value: f"{value:.1f}".replace("-", "\N{MINUS SIGN}"),
    "threshold": limit,
    "doubtful_from": limit,
}
"""How the numbers of some columns are written."""


def in_line(row: Mapping[str, Any], key: str) -> str:
    """A value of a table in one line of plain letters, with its interval where the row has one.

    >>> in_line({"mod": 0.25, "mod_low": 0.214, "mod_high": 0.31}, "mod"), in_line({"epsilon": 8 / 255}, "epsilon")
    ('0.250 [0.214, 0.310]', '8/255')
    """
    value = row.get(key)
    if value is None:
        return "-"
    if not isinstance(value, float):
        return cell(row, key, set())["text"]
    shown = cell(row, key, set())
    return " ".join([shown["text"], *shown["under"][:1]]).replace("\N{MINUS SIGN}", "-")


def cell(row: Mapping[str, Any], key: str, known: set[str]) -> dict[str, Any]:
    """A cell of a table: its text, lines below it such as the interval, and whether it is a number.

    Args:
        known: the keys of all rows.
    """
    value = row.get(key)
    if key == "number" and isinstance(value, str):  # of a check
        value = value.replace("_", " ")
    if value is None:
        return {"text": "" if key not in row else "\N{EN DASH}", "under": [], "number": f"{key}_low" in known}
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {"text": _text(value), "under": [], "number": False}
    low, high, missing = (row.get(f"{key}{end}") for end in ("_low", "_high", "_missing"))
    under = []
    text = str(value) if isinstance(value, int) else SHOWN.get(key, number)(value)
    if key in ("doubtful_from", "threshold") and (side := {"high": "above", "low": "below"}.get(str(row.get("bad")))):
        text = f"{side} {text}"
    if key == "value" and "verdict" in row and is_number(value):
        text, *under = of_check(value, low, high)
    elif is_number(low) and is_number(high) and is_number(value):
        text, span = with_interval(value, low, high)
        under.append(span)
    if missing:
        under.append(f"{missing} missing")
    return {"text": text, "under": under, "number": True}


def _setting(name: str, value: Any) -> str:
    """A setting as it is typed, budgets as fractions of 255 too where they stand within a spec."""
    numbers = value if isinstance(value, list) else [value]
    if name.startswith("epsilon") and all(isinstance(entry, float) for entry in numbers):
        return ", ".join(epsilon(entry) for entry in numbers)
    return re.sub(r"(?<=epsilon=)0\.\d{4,}", lambda found: epsilon(float(found[0])), _text(value))


def _in_short(value: Any) -> str:
    """What a setting too long for the page holds, by the names of its parts."""
    if isinstance(value, dict) and isinstance(value.get("limits"), dict):
        count = f"limits of {counted(len(value['limits']), 'number')}"
        known = _dict(value.get("provenance"))
        parts = [count, *(str(known[name]) for name in ("explainer", "date") if isinstance(known.get(name), str))]
        return f"{', '.join(parts)}; in full in run.json"
    return "in run.json"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(not isinstance(entry, list | dict) for entry in value):
        return ", ".join(_text(entry) for entry in value)
    if value is None:
        return "not given"
    return json.dumps(value, ensure_ascii=False)


def _hash(entry: Mapping[str, Any]) -> str:
    return f"sha256 {entry['sha256']}" if entry.get("sha256") else ""


def _times(record: Mapping[str, Any]) -> str:
    start, end = record.get("start"), record.get("end")
    took = span_of(record)
    return f"{start or '?'} to {end or '?'}" + (f" ({took})" if took else "")


def span_of(record: Mapping[str, Any]) -> str:
    """How long a run took by its record; empty where it does not say."""
    try:
        begun, ended = (datetime.fromisoformat(str(record.get(name))) for name in ("start", "end"))
        return duration((ended - begun).total_seconds())
    except (ValueError, TypeError):
        return ""


def duration(seconds: float) -> str:
    """Seconds in the unit that one says them in.

    >>> [duration(seconds) for seconds in (44.6, 400, 9000)]
    ['45 s', '7 min', '2.5 h']
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
