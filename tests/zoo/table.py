"""The zoo's table in the docs, made from what was found; ``python -m zoo.table`` writes it."""

import re
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from zoo.columns import MADE_BY, Cell
from zoo.families import NAMES
from zoo.harness import cells, kept, tidy

PAGE = Path(__file__).parents[2] / "docs" / "methods" / "zoo.md"
BEGIN, END = "<!-- made by make test-zoo -->\n", "<!-- end of what make test-zoo made -->\n"
HEADS = {
    "Grad-CAM": ("gradcam",),
    "its family": ("gradcam_plus_plus", "xgradcam", "layercam", "hirescam"),
    "gradients": MADE_BY["gradients"],
    "LRP": ("lrp",),
    "`attnlrp`": ("attnlrp",),
    "occlusion": ("occlusion",),
}
Found = Mapping[str, Mapping[str, Cell]]


def found() -> Found:
    """Architecture -> explainer -> cell, of all that the file holds."""
    every: dict[str, dict[str, Cell]] = {name: {} for name in NAMES}
    for (name, _), line in kept().items():
        if name in every:
            every[name] |= cells(line)
    return every


def table(every: Found) -> str:
    """The counts, the table, and what a family leaves open."""
    lines = [*_counts(every), "", f"| architecture | {' | '.join(HEADS)} | default layer |", "|---" * 8 + "|"]
    for name, row in every.items():
        said = [_cell([row[key] for key in keys if key in row], len(keys)) for keys in HEADS.values()]
        layer = row["gradcam"].layer if "gradcam" in row else ""
        lines.append(f"| {name} | {' | '.join(said)} | {f'`{layer}`' if layer else '-'} |")
    return "\n".join([*lines, "", *_open(every), ""])


def _counts(every: Found) -> list[str]:
    lines = []
    for head, keys in HEADS.items():
        rows = [[row[key] for key in keys] for row in every.values() if all(key in row for key in keys)]
        if not rows:
            continue
        worst = [_worst(row) for row in rows]
        said = ", ".join(f"{word} {count}" for word in _ORDER if (count := worst.count(word)))
        lines.append(f"- {head}: of {len(rows)} architectures {said}")
    explained = [row for row in every.values() if "lrp" in row]
    by_one = sum(any(row[key].status == "works" for key in ("lrp", "attnlrp")) for row in explained)
    passes = [row["lrp"].passes for row in explained if row["lrp"].passes]
    lines.append(f"- LRP by one of the two composites: works {by_one} of {len(explained)}")
    if passes:
        lines.append(f"- LRP's first call costs {median(passes):.1f} forward and backward passes in the median")
    return lines


_ORDER = ("works", "refused", "cannot tell", "wrong", "error")


def _worst(row: list[Cell]) -> str:
    return max((cell.status for cell in row), key=_ORDER.index)


def _cell(row: list[Cell], wanted: int) -> str:
    if len(row) < wanted:
        return "not made yet"
    statuses = [cell.status for cell in row]
    if len(set(statuses)) > 1:
        return f"{statuses.count('works')} of {len(row)} work"
    refused = next((reason_of(cell) for cell in row if cell.status == "refused"), "")
    return f"refused: {refused}" if refused else statuses[0]


def reason_of(cell: Cell) -> str:
    """The name in a refusal's sentence: of the operator, of the kind of layer, or of what is missing."""
    for pattern in (r"no rule for the function '(\w+)'", r"no rule for layer '[^']+' \((\w+)\)"):
        if match := re.search(pattern, cell.reason):
            return f"`{match[1]}`"
    words = {
        "cannot trace": "not traceable",
        "parallel branches": "parallel branches",
        "no layer that puts out": "no map",
    }
    return next((said for part, said in words.items() if part in cell.reason), cell.reason.split(",")[0][:60])


def _open(every: Found) -> list[str]:
    """What is neither works nor refused, each with its reason."""
    lines = []
    for name, row in every.items():
        reasons: dict[str, list[str]] = {}
        for key, cell in row.items():
            if cell.status not in ("works", "refused"):
                reasons.setdefault(f"{cell.status}: {cell.reason or 'no reason'}", []).append(key)
        lines += [f"- {name}, {', '.join(keys)}: {reason}" for reason, keys in reasons.items()]
    return ["Open:", "", *lines] if lines else []


def page(text: str) -> str:
    """The page with the table in its place."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + table(found()) + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    tidy(NAMES)
    PAGE.write_text(page(PAGE.read_text()))
