"""What the page's tables and viewer are fed with: columns of values and packed views, small enough for e-mail."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from heatproof.glossary import term
from heatproof.paths import read_file
from heatproof.results import RunFiles
from heatproof.results.viewer import view_key

FIRST = ("image", "label", "target", "prediction_clean", "prediction", "confidence")
"""The columns that come first, as far as there are any."""
APART = (
    *("model", "network", "explainer", "penalty", "attack", "epsilon", "layer", "remedy", "condition", "randomised"),
    *("weight_noise", "run", "panel"),
)
"""Columns that tell the rows of one photo apart: beside its name, as far as they differ."""
MEASURED = ("epsilon", "weight_noise")
"""Those of them that are numbers; others of the same name are results of a verb."""
LEADING = ("nissim", "fooled", "topk_intersection", "aopc", "deletion", "kept", "agrees", "trust", "spearman")
"""Numbers that a verb is asked for; they come before what is said of the classes."""
WORST = (("nissim", True), ("shift", True), ("fooled", True), ("spearman", False), ("confidence", False))
"""What "worst first" means: the first of these columns that the table has, and whether its high end is the bad one."""
CLASSES = ("label", "target", "prediction", "prediction_clean", "prediction_adversarial", "prediction_fooled")
"""Columns of class numbers, which have names where the run knows them."""
KEPT = ("label_kept", "prediction_kept", "same_prediction", "prediction_unchanged")
PAIRS = (
    ("prediction", "prediction_clean"),
    ("prediction_adversarial", "prediction_clean"),
    ("prediction_fooled", "prediction_clean"),
    ("prediction_adversarial", "prediction"),
    ("prediction_fooled", "prediction"),
)
MOVED = 0.1
"""The NISSIM above which a map counts as moved, where ``summary.json`` does not say ``moved_above``."""
ROWS = 20_000
"""The most rows of the table in the page; the rest is in ``images.parquet``."""
CHUNK = 10
"""Views per file beside the page."""
PIECE = 1 << 20
"""Letters of one property in such a file; browsers take two million."""
_SMALL = 256  # cells up to which a map's numbers are written out


def script_json(content: Any) -> str:
    """JSON that may stand inside a script element: no text in it can end the element or begin a comment."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    # half a surrogate pair, from a file name that is no text, can be escaped but not encoded
    return text.encode("utf-8", "backslashreplace").decode()


def views_style(name: str, views: Sequence[dict[str, Any]]) -> str:
    """Views as a style sheet that the page's script reads: a page opened from a disk may load no data, and a style
    sheet, unlike a script, can run nothing whatever somebody makes of it.
    """
    text = base64.b64encode(script_json(views).encode()).decode()
    pieces = (f'--heatproof-{name}-{n // PIECE}:"{text[n : n + PIECE]}";' for n in range(0, len(text), PIECE))
    return f":root{{{''.join(pieces)}}}\n"


def table_payload(
    images: pl.DataFrame,
    summary: dict[str, Any],
    limit: int = ROWS,
    classes: Sequence[str] = (),
    verb: str = "",
) -> tuple[dict[str, Any], list[tuple[str, str]], int]:
    """The table of images as the page's script reads it.

    Args:
        images: one row per image and condition.
        summary: ``summary.json``; its ``worst`` (``{"column", "descending"}``) and ``moved_above`` are honoured.
        limit: rows to keep, the worst.
        classes: their names, which stand beside their numbers.
        verb: whose table it is.

    Returns:
        The payload; the columns that are the same in every row, with their values; how many rows were left out.
    """
    images = images.with_columns(_clean_predictions(images))
    pairs = {name: found for name in CLASSES if (found := _pairs(images, name))}
    images = images.drop(f"{name}_name" for name in pairs)
    images, column, descending = _worst_first(images, summary)
    left_out = max(0, images.height - limit)
    images = images.head(limit)
    # what every row shares is said once, above the table
    same = [name for name in images.columns if name not in FIRST and images.height > 1 and _constant(images[name])]
    quiet = _quiet(images, summary)
    metric = quiet["metric"] if quiet else None
    # what tells rows apart and what they are worst by stand beside the name, where a narrow screen shows them too
    texts = [name for name in APART if name in MEASURED or images.schema.get(name) == pl.String]
    apart = [name for name in (*texts, column, *LEADING) if name not in same or name == column]
    names = [name for name in (FIRST[0], *apart, *FIRST[1:]) if name in images.columns]
    names = list(dict.fromkeys(names))
    names += [name for name in images.columns if name not in names and (name not in same or name == metric)]
    same_values = [
        (term(n, verb).head, _said(images[n][0]))
        for n in same
        # a budget of 0 throughout: nothing was attacked
        if n not in names and images[n][0] is not None and not (n == "epsilon" and images[n][0] == 0)
    ]
    columns = [
        _column(images[name]) | _named(images[name], classes, pairs.get(name, {})) | _in_words(name, verb)
        for name in names
    ]
    if quiet:
        quiet["column"] = names.index(quiet["metric"])
    payload = {
        "count": images.height,
        "columns": columns,
        "sort": {"column": names.index(column) if column in names else -1, "descending": descending},
        "quiet": quiet,
    }
    return payload, same_values, left_out


def read_views(run: RunFiles, order: Sequence[str]) -> Iterator[dict[str, Any] | None]:
    """The viewer's entries of a run, one after the other: those of ``order`` first; None for each damaged file."""
    rest = {path.name: path for path in run.views}
    first = [path for name in dict.fromkeys(order) if (path := rest.pop(f"{view_key(name)}.json", None))]
    for path in [*first, *rest.values()]:
        try:
            yield _packed(json.loads(read_file(path)), path)
        except (OSError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError):
            yield None


def _packed(entry: dict[str, Any], path: Path) -> dict[str, Any]:
    view: dict[str, Any] = {"image": str(entry["image"]), "file": entry["photo"], "photo": _photo(entry["photo"], path)}
    other = entry.get("photo_adversarial")
    view["other"] = None if other is None else _photo(other, path)
    view["maps"] = [_map(given) for given in entry["maps"]]
    return view


def _photo(name: str, beside: Path) -> str:
    file = beside.with_name(name)
    kind = file.suffix.lstrip(".").lower().replace("jpg", "jpeg")
    # a run folder comes from somebody else: its names must not reach for other files
    if Path(name).name != name or kind not in ("webp", "png", "jpeg") or not _is_own(file):
        raise ValueError(f"not the name of a photo: {name!r}")
    return f"data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _is_own(file: Path) -> bool:
    return file.is_file() and not file.is_symlink()


def _map(given: dict[str, Any]) -> dict[str, Any]:
    values = np.array([[np.nan if v is None else float(v) for v in row] for row in given["values"]], dtype=np.float64)
    values[np.isinf(values)] = np.nan
    rows, cols = values.shape
    known = {"name", "signed", "condition", "values", "native"}
    packed: dict[str, Any] = {
        "name": str(given["name"]),
        "signed": bool(given["signed"]),
        "condition": str(given["condition"]),
        "rows": rows,
        "cols": cols,
        "native": [int(size) for size in given.get("native", (rows, cols))],
        "keys": {key: value for key, value in given.items() if key not in known},
    }
    if values.size <= _SMALL:
        packed["values"] = [[_rounded(value, 4) for value in row] for row in values.tolist()]
    else:
        # 16-bit steps of the largest value: a third of the size of numbers, and as exact as colours need
        step = float(np.nanmax(np.abs(values), initial=0.0)) / 32767 or 1.0
        steps = np.where(np.isnan(values), -32768, np.round(values / step)).astype("<i2")
        packed |= {"step": step, "data": base64.b64encode(steps.tobytes()).decode()}
    return packed


def _clean_predictions(images: pl.DataFrame) -> list[pl.Series]:
    """A column ``prediction_clean`` from the rows without an attack, where there are such rows and not the column."""
    names = set(images.columns)
    if "prediction" not in names or "prediction_clean" in names or not {"image", "epsilon"} <= names:
        return []
    if not images.schema["epsilon"].is_numeric():
        return []
    keys = ["image", *(name for name in ("model",) if name in names)]
    clean = images.filter((pl.col("epsilon") == 0) | pl.col("epsilon").is_null())
    if clean.is_empty() or clean.height == images.height:
        return []
    clean = clean.unique(keys, keep="first", maintain_order=True).select(*keys, prediction_clean="prediction")
    return [images.join(clean, on=keys, how="left", maintain_order="left", nulls_equal=True)["prediction_clean"]]


def _worst_first(images: pl.DataFrame, summary: dict[str, Any]) -> tuple[pl.DataFrame, str | None, bool]:
    worst = summary.get("worst")
    wanted = [(worst.get("column"), bool(worst.get("descending", True)))] if isinstance(worst, dict) else []
    for name, descending in (*wanted, *WORST):
        if name in images.columns and (images.schema[name].is_numeric() or images.schema[name] == pl.Boolean):
            if images.schema[name].is_float():
                images = images.with_columns(pl.col(name).fill_nan(None))
            return images.sort(name, descending=descending, nulls_last=True, maintain_order=True), name, descending
    return images, None, False


def _quiet(images: pl.DataFrame, summary: dict[str, Any]) -> dict[str, Any] | None:
    """Which rows kept their label, and which column tells whether the map moved; None where it cannot be said."""
    names = images.columns
    unchanged: pl.Series | None = None
    for name in KEPT:
        if name in names and images.schema[name] == pl.Boolean:
            unchanged = images[name]
            break
    if unchanged is None:
        for now, before in PAIRS:
            if now in names and before in names:
                unchanged = images[now].cast(pl.String) == images[before].cast(pl.String)
                break
    if unchanged is None:
        return None
    flags = unchanged.fill_null(False).cast(pl.Int8).to_list()
    for name in ("moved", "map_moved"):
        if name in names and images.schema[name] == pl.Boolean:
            return {"kept": flags, "metric": name, "threshold": None}
    if "nissim" in names and images.schema["nissim"].is_numeric():
        above = summary.get("moved_above")
        return {
            "kept": flags,
            "metric": "nissim",
            "threshold": above if isinstance(above, int | float) and not isinstance(above, bool) else MOVED,
        }
    return None


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _constant(series: pl.Series) -> bool:
    return not series.dtype.is_nested() and series.n_unique() == 1


def _column(series: pl.Series) -> dict[str, Any]:
    if series.dtype == pl.Boolean:
        return {"name": series.name, "kind": "bool", "values": series.to_list()}
    if series.dtype.is_numeric():
        return {"name": series.name, "kind": "number", "values": [_rounded(value, 6) for value in series.to_list()]}
    texts = [None if value is None else str(value) for value in series.to_list()]
    seen = list(dict.fromkeys(texts))
    if len(seen) > len(texts) // 2:
        return {"name": series.name, "kind": "text", "values": texts}
    place = {text: i for i, text in enumerate(seen)}
    return {"name": series.name, "kind": "text", "values": seen, "index": [place[text] for text in texts]}


def _named(series: pl.Series, classes: Sequence[str], known: Mapping[int, str]) -> dict[str, Any]:
    """The names of the classes that occur, where the column is one of classes.

    Args:
        known: those that the table itself gives.
    """
    if series.name not in CLASSES or not series.dtype.is_integer():
        return {}
    seen = [value for value in series.unique().to_list() if value is not None and 0 <= value < len(classes)]
    names = {str(value): classes[value] for value in seen} | {str(value): name for value, name in known.items()}
    return {"names": names} if names else {}


def _pairs(images: pl.DataFrame, column: str) -> dict[int, str]:
    """The name of each class of a column, where a column of names stands beside it that has one for each."""
    name = f"{column}_name"
    if not {column, name} <= set(images.columns) or not images[column].dtype.is_integer():
        return {}
    pairs = images.select(column, name).unique().drop_nulls().rows()
    return dict(pairs) if pairs and len({number for number, _ in pairs}) == len(pairs) else {}


def _in_words(column: str, verb: str) -> dict[str, str]:
    """What stands above a column, where that is not its name, and what it means."""
    known = term(column, verb)
    said = {"head": known.head, "unit": known.unit, "help": known.meaning}
    return {key: text for key, text in said.items() if text and text != column}


def _rounded(value: Any, digits: int) -> float | int | None:
    if value is None or isinstance(value, int):
        return value
    value = float(value)
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None
