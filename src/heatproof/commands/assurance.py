"""What an explanation's interval or certificate adds to a table and to a picture."""

from collections.abc import Sequence
from typing import Any

from heatproof.explainers.together import Grid
from heatproof.types import Explanation

COLUMNS = ("interval", "interval_level", "certified", "certified_high", "certified_radius", "certified_confidence")
"""Of a table that has any: the interval's mean width over the map's largest magnitude; its level; the share certified;
the share of cells certified to be among the highest; within which l2 radius; with what confidence."""


def any_assurance(grid: Grid) -> bool:
    """Whether one of the explainers gives an interval or a certificate."""
    return any(said.interval or said.certificate for one in grid.explanations for said in one)


def explanation_of(grid: Grid, explainer: int, row: int) -> Explanation | None:
    """What explainer number ``explainer`` said of the class in ``row``, if it was asked on its own."""
    said = grid.explanations[explainer] if grid.explanations else ()
    return said[row] if said else None


def assurance(said: Explanation | None, place: int) -> dict[str, Any]:
    """The columns of photo ``place``; None where there is nothing to say."""
    found: dict[str, Any] = dict.fromkeys(COLUMNS)
    if said is not None and said.interval is not None:
        largest = float(said.heatmaps[place].abs().max())
        width = float((said.interval.upper[place] - said.interval.lower[place]).mean())
        found |= {"interval": width / largest if largest else None, "interval_level": said.interval.level}
    if said is not None and said.certificate is not None:
        certificate = said.certificate
        found |= {
            "certified": float(certificate.share[place]),
            "certified_radius": certificate.radius,
            "certified_confidence": certificate.confidence,
        }
        if certificate.cells is not None:
            found["certified_high"] = float((certificate.cells[place] == 1).double().mean())
    return found


def caption(said: Explanation | None, place: int) -> str:
    """The same in words, for under the picture."""
    found = assurance(said, place)
    if found["interval"] is not None:
        return f"{100 * found['interval_level']:.4g}% intervals, {found['interval']:.0%} of the maximum wide"
    if found["certified"] is not None:
        what = "certified" if found["certified_high"] is not None else "of the top certified"
        return f"{found['certified']:.0%} {what}, l2 {found['certified_radius']:.3g}"
    return ""


def captions(grid: Grid, place: int) -> Sequence[Sequence[str]]:
    """Of photo ``place``, by class and explainer; empty where nothing is to be said of any."""
    if not any_assurance(grid):
        return ()
    explainers, classes = range(len(grid.heatmaps)), range(grid.targets.shape[1])
    return [[caption(explanation_of(grid, one, row), place) for one in explainers] for row in classes]


def certified_cells(grid: Grid, place: int) -> list[list[Any]] | None:
    """Likewise the certified cells, as arrays."""
    if not any_assurance(grid):
        return None
    explainers, classes = range(len(grid.heatmaps)), range(grid.targets.shape[1])
    return [[cells_of(explanation_of(grid, one, row), place) for one in explainers] for row in classes]


def cells_of(said: Explanation | None, place: int) -> Any:
    """The certified cells of photo ``place``, or None."""
    certificate = None if said is None else said.certificate
    if certificate is None or certificate.cells is None:
        return None
    return certificate.cells[place].cpu().numpy()
