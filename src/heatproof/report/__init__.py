"""Results for people: figures in one style, and a page that opens from an e-mail. Made from files and arrays alone."""

from heatproof.report.figures import Panel, amplify, explanation_grid, gallery

__all__ = ["Panel", "amplify", "explanation_grid", "gallery"]
