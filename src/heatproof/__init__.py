"""heatproof: can this network's heatmaps be trusted?

::

    images ─▶ classifier ─▶ explainer ─▶ heatmaps ─▶ metric ─▶ table ─▶ figures, report
       ▲                                    │
       └──── attack ◀──── objective ◀───────┤           changes the pixels
    classifier ◀── manipulation ◀── penalty ◀┘           changes the weights

A heatmap is a differentiable function of pixels and of weights: an attack climbs it over pixels, a manipulation over
weights, and both use the same penalties. Explainers are pure functions that leave the model as they found it.
"""

from heatproof import vision as _vision  # before anything that imports torchvision
from heatproof.errors import (
    HeatproofError,
    InputError,
    LayerError,
    ModelError,
    RunError,
    SpecError,
)
from heatproof.explainers.cam import CAM, GradCAM
from heatproof.explainers.gradient import IntegratedGradients, SimpleGrad, SmoothGrad
from heatproof.explainers.guided import GuidedBackprop, GuidedGradCAM
from heatproof.explainers.occlusion import RISE, Occlusion
from heatproof.explainers.together import explain_together
from heatproof.heatmaps import center_of_mass, is_empty, mass, normalise, resize, topk_mask
from heatproof.models.classifier import Classifier
from heatproof.models.layers import default_layer, list_layers
from heatproof.models.loading import load
from heatproof.types import Explanation

__version__ = "0.1.0"
__all__ = [
    "CAM",
    "RISE",
    "Classifier",
    "Explanation",
    "GradCAM",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HeatproofError",
    "InputError",
    "IntegratedGradients",
    "LayerError",
    "ModelError",
    "Occlusion",
    "RunError",
    "SimpleGrad",
    "SmoothGrad",
    "SpecError",
    "center_of_mass",
    "default_layer",
    "explain_together",
    "is_empty",
    "list_layers",
    "load",
    "mass",
    "normalise",
    "resize",
    "topk_mask",
]
del _vision
