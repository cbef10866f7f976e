"""Results for people: figures in one style, and a page that opens from an e-mail. Made from files and arrays alone."""

from heatproof.report.figures import Panel, amplify, explanation_grid, gallery
from heatproof.report.page import write_report
from heatproof.report.plots import Curve, curves, distributions, matrix

__all__ = [
    "Curve",
    "Panel",
    "amplify",
    "curves",
    "distributions",
    "explanation_grid",
    "gallery",
    "matrix",
    "write_report",
]
