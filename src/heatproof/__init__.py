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
from heatproof.attacks.gradient import FGSM, PGD
from heatproof.attacks.noise import GaussianNoise, RandomSign
from heatproof.attacks.objectives import misclassify, move_heatmap, reach
from heatproof.errors import HeatproofError, InputError, LayerError, ModelError, RunError, SpecError
from heatproof.explainers.cam import CAM, GradCAM
from heatproof.explainers.gradient import IntegratedGradients, SimpleGrad, SmoothGrad
from heatproof.explainers.guided import GuidedBackprop, GuidedGradCAM
from heatproof.explainers.lrp.propagation import LRP
from heatproof.explainers.occlusion import RISE, Occlusion
from heatproof.explainers.together import explain_together
from heatproof.heatmaps import center_of_mass, is_empty, mass, normalise, resize, topk_mask
from heatproof.manipulation.backdoor import Backdoor
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.penalties import ActiveSwap, CenterMass, Location, TargetMap, TopK
from heatproof.manipulation.trigger import Trigger
from heatproof.manipulation.weight_edit import WeightEdit
from heatproof.metrics.fooling import fooling_success_rate
from heatproof.metrics.shift import mod, vid, vid_per_image
from heatproof.metrics.similarity import nissim, psnr, spearman, ssim, topk_intersection
from heatproof.models.classifier import Classifier
from heatproof.models.layers import default_layer, list_layers
from heatproof.models.loading import load
from heatproof.training.settings import FineTune
from heatproof.types import Explanation

__version__ = "0.1.0"
__all__ = [
    "CAM",
    "FGSM",
    "LRP",
    "PGD",
    "RISE",
    "ActiveSwap",
    "Backdoor",
    "CenterMass",
    "Classifier",
    "Explanation",
    "FineTune",
    "GaussianNoise",
    "GradCAM",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HeatproofError",
    "InputError",
    "IntegratedGradients",
    "LayerError",
    "Location",
    "ModelError",
    "Occlusion",
    "RandomSign",
    "RunError",
    "SimpleGrad",
    "SmoothGrad",
    "SpecError",
    "TargetMap",
    "TopK",
    "Trigger",
    "WeightEdit",
    "center_of_mass",
    "default_layer",
    "explain_together",
    "fine_tune",
    "fooling_success_rate",
    "is_empty",
    "list_layers",
    "load",
    "mass",
    "misclassify",
    "mod",
    "move_heatmap",
    "nissim",
    "normalise",
    "psnr",
    "reach",
    "resize",
    "spearman",
    "ssim",
    "topk_intersection",
    "topk_mask",
    "vid",
    "vid_per_image",
]
del _vision
