"""What figures and sentences call an explainer, and where a map points, in words."""

from typing import Protocol, runtime_checkable

from heatproof.explainers.cam import GradCAM
from heatproof.models.classifier import Classifier
from heatproof.models.layers import at_named_layer, default_layer
from heatproof.types import AtLayer, Explainer, inside

NAMES = {
    "GradCAM": "Grad-CAM",
    "GradCAMPlusPlus": "Grad-CAM++",
    "XGradCAM": "XGrad-CAM",
    "EigenCAM": "Eigen-CAM",
    "ScoreCAM": "Score-CAM",
    "AblationCAM": "Ablation-CAM",
    "RelevanceCAM": "Relevance-CAM",
    "SimpleGrad": "gradient",
    "InputXGradient": "input x gradient",
    "IntegratedGradients": "integrated gradients",
    "GuidedBackprop": "guided backpropagation",
    "GuidedGradCAM": "guided Grad-CAM",
    "AttentionRollout": "attention rollout",
    "RandomMap": "random map",
}
"""The field's words for explainers whose class is called otherwise."""


@runtime_checkable
class Classless(Protocol):
    """An explainer that says whether its map is the same for every class."""

    @property
    def classless(self) -> bool: ...


def is_classless(explainer: Explainer) -> bool:
    """Whether its map is the same for every class, or those of all that it wraps are."""
    within = inside(explainer)
    if within:
        return all(map(is_classless, within))
    return isinstance(explainer, Classless) and explainer.classless


def column_title(explainer: Explainer, model: Classifier) -> str:
    """What a figure calls an explainer: its method and its layer.

    Grad-CAM's three forms carry the field's own words for them.
    """
    kind = type(explainer).__name__
    name = NAMES.get(kind, kind)
    within = inside(explainer)
    if within:
        return f"{name} of {' + '.join(column_title(one, model) for one in within)}"
    if isinstance(explainer, GradCAM):
        if explainer.counterfactual:
            name = "Counterfactual Grad-CAM"
        elif not explainer.relu:
            name = "Grad-CAM without ReLU"
    layer = at_named_layer(model, explainer).layer if isinstance(explainer, AtLayer) else ""
    if layer is None or layer == "default":
        layer = default_layer(model) if kind != "LRP" or layer else ""
    return f"{name}\n{layer}" if layer else name


def whereabouts(row: float, col: float) -> str:
    """Where in a photo a place lies, by thirds.

    Args:
        row, col: shares of its height and width.

    >>> whereabouts(0.5, 0.45), whereabouts(0.1, 0.5), whereabouts(0.9, 0.95)
    ('in the middle', 'at the top', 'at the bottom right')
    """
    down = ("top", "", "bottom")[min(2, int(3 * row))]
    across = ("left", "", "right")[min(2, int(3 * col))]
    return f"at the {down} {across}".replace("  ", " ").strip() if down or across else "in the middle"
