"""heatproof: can this network's heatmaps be trusted?

::

    images ─▶ classifier ─▶ explainer ─▶ heatmaps ─▶ metric ─▶ table ─▶ figures, report
       ▲                                    │
       └──── attack ◀──── objective ◀───────┤           changes the pixels
    classifier ◀── manipulation ◀── penalty ◀┘           changes the weights

A heatmap is a differentiable function of pixels and of weights: an attack climbs it over pixels, a manipulation over
weights, and both use the same penalties. Explainers are pure functions that leave the model as they found it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heatproof import vision as _vision  # lets torchvision be imported beside any torch

if TYPE_CHECKING:  # what type checkers and editors read; a program gets it from __getattr__
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

__version__ = "0.2.0"
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

# torch loads slowly, and the command line's help needs none: a public name is imported when it is asked for
_HOMES = {
    "attacks.gradient": "FGSM PGD",
    "attacks.noise": "GaussianNoise RandomSign",
    "attacks.objectives": "misclassify move_heatmap reach",
    "errors": "HeatproofError InputError LayerError ModelError RunError SpecError",
    "explainers.cam": "CAM GradCAM",
    "explainers.gradient": "IntegratedGradients SimpleGrad SmoothGrad",
    "explainers.guided": "GuidedBackprop GuidedGradCAM",
    "explainers.lrp.propagation": "LRP",
    "explainers.occlusion": "RISE Occlusion",
    "explainers.together": "explain_together",
    "heatmaps": "center_of_mass is_empty mass normalise resize topk_mask",
    "manipulation.backdoor": "Backdoor",
    "manipulation.fine_tune": "fine_tune",
    "manipulation.penalties": "ActiveSwap CenterMass Location TargetMap TopK",
    "manipulation.trigger": "Trigger",
    "manipulation.weight_edit": "WeightEdit",
    "metrics.fooling": "fooling_success_rate",
    "metrics.shift": "mod vid vid_per_image",
    "metrics.similarity": "nissim psnr spearman ssim topk_intersection",
    "models.classifier": "Classifier",
    "models.layers": "default_layer list_layers",
    "models.loading": "load",
    "training.settings": "FineTune",
    "types": "Explanation",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


del _vision
