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

from heatproof import front as _front
from heatproof import habits as _habits
from heatproof import vision as _vision  # lets torchvision be imported beside any torch

if TYPE_CHECKING:  # what type checkers and editors read; a program gets it from __getattr__
    from heatproof.answers.defending import defend
    from heatproof.answers.explained import Explained
    from heatproof.answers.explaining import explain
    from heatproof.answers.merging import merge
    from heatproof.answers.opened import open_photo
    from heatproof.answers.repairing import repair
    from heatproof.answers.result import Result
    from heatproof.answers.tuning import tune_lrp
    from heatproof.answers.verbs import audit, compare, evaluate, shift
    from heatproof.attacks.balls import project
    from heatproof.attacks.gradient import FGSM, PGD, gradient
    from heatproof.attacks.noise import GaussianNoise, RandomSign
    from heatproof.attacks.objectives import begin, lower_score, misclassify, move_heatmap, reach
    from heatproof.commands.shift.run import Shift, run_shift
    from heatproof.data.scenes import scenes
    from heatproof.data.sources import open_data
    from heatproof.defences.aggregate import Aggregate
    from heatproof.defences.certified_pixels import CertifiedPixels
    from heatproof.defences.contrast import Contrast, OneSided
    from heatproof.defences.median import MedianOfNoisy
    from heatproof.defences.smoothed import Smoothed
    from heatproof.defences.softplus import Softplus
    from heatproof.defences.sparsified import Sparsified
    from heatproof.defences.tangent import Tangent
    from heatproof.errors import HeatproofError, InputError, LayerError, ModelError, RunError, SpecError
    from heatproof.explainers.attention import AttentionRollout, Chefer
    from heatproof.explainers.cam import CAM, GradCAM
    from heatproof.explainers.cam_family import EigenCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
    from heatproof.explainers.gradient import InputXGradient, IntegratedGradients, SimpleGrad, SmoothGrad
    from heatproof.explainers.guided import GuidedBackprop, GuidedGradCAM
    from heatproof.explainers.lrp.propagation import LRP
    from heatproof.explainers.masking_cam import AblationCAM, ScoreCAM
    from heatproof.explainers.occlusion import RISE, Occlusion
    from heatproof.explainers.relevance_cam import RelevanceCAM
    from heatproof.explainers.scores import Likeness, Output
    from heatproof.explainers.together import explain_at_layer, explain_together
    from heatproof.heatmaps import center_of_mass, is_empty, mass, normalise, resize, topk_mask
    from heatproof.live.app import app
    from heatproof.manipulation.adversarial import train_adversarially
    from heatproof.manipulation.backdoor import Backdoor
    from heatproof.manipulation.fine_tune import fine_tune
    from heatproof.manipulation.penalties import ActiveSwap, CenterMass, Location, TargetMap, TopK
    from heatproof.manipulation.trigger import Trigger
    from heatproof.manipulation.weight_edit import WeightEdit
    from heatproof.metrics.faithfulness import AOPC, Deletion, Insertion
    from heatproof.metrics.fooling import fooling_success_rate
    from heatproof.metrics.localisation import pointing_game
    from heatproof.metrics.randomisation import Randomisation
    from heatproof.metrics.robustness import SensitivityMax
    from heatproof.metrics.shift import mod, vid, vid_per_image
    from heatproof.metrics.similarity import nissim, psnr, spearman, ssim, topk_intersection
    from heatproof.metrics.weight_noise import WeightNoise
    from heatproof.models.classifier import Classifier
    from heatproof.models.layers import default_layer, list_layers
    from heatproof.models.loading import load
    from heatproof.models.readings import Detection, OverMask
    from heatproof.report.figures import Panel, gallery
    from heatproof.report.page import write_report
    from heatproof.results.run import Run
    from heatproof.training.adversarial import FreeTraining
    from heatproof.training.settings import FineTune
    from heatproof.types import Explanation, settings

__version__ = "0.2.0"
__all__ = [
    "AOPC",
    "CAM",
    "FGSM",
    "LRP",
    "PGD",
    "RISE",
    "AblationCAM",
    "ActiveSwap",
    "Aggregate",
    "AttentionRollout",
    "Backdoor",
    "CenterMass",
    "CertifiedPixels",
    "Chefer",
    "Classifier",
    "Contrast",
    "Deletion",
    "Detection",
    "EigenCAM",
    "Explained",
    "Explanation",
    "FineTune",
    "FreeTraining",
    "GaussianNoise",
    "GradCAM",
    "GradCAMPlusPlus",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HeatproofError",
    "HiResCAM",
    "InputError",
    "InputXGradient",
    "Insertion",
    "IntegratedGradients",
    "LayerCAM",
    "LayerError",
    "Likeness",
    "Location",
    "MedianOfNoisy",
    "ModelError",
    "Occlusion",
    "OneSided",
    "Output",
    "OverMask",
    "Panel",
    "RandomSign",
    "Randomisation",
    "RelevanceCAM",
    "Result",
    "Run",
    "RunError",
    "ScoreCAM",
    "SensitivityMax",
    "Shift",
    "SimpleGrad",
    "SmoothGrad",
    "Smoothed",
    "Softplus",
    "Sparsified",
    "SpecError",
    "Tangent",
    "TargetMap",
    "TopK",
    "Trigger",
    "WeightEdit",
    "WeightNoise",
    "XGradCAM",
    "app",
    "audit",
    "begin",
    "center_of_mass",
    "compare",
    "default_layer",
    "defend",
    "evaluate",
    "explain",
    "explain_at_layer",
    "explain_together",
    "fine_tune",
    "fooling_success_rate",
    "gallery",
    "gradient",
    "is_empty",
    "list_layers",
    "load",
    "lower_score",
    "mass",
    "merge",
    "misclassify",
    "mod",
    "move_heatmap",
    "nissim",
    "normalise",
    "open_data",
    "open_photo",
    "pointing_game",
    "project",
    "psnr",
    "reach",
    "repair",
    "resize",
    "run_shift",
    "scenes",
    "settings",
    "shift",
    "spearman",
    "ssim",
    "topk_intersection",
    "topk_mask",
    "train_adversarially",
    "tune_lrp",
    "vid",
    "vid_per_image",
    "write_report",
]

# torch loads slowly, and the command line's help needs none: a public name is imported when it is asked for
_HOMES = {
    "answers.defending": "defend",
    "answers.explained": "Explained",
    "answers.explaining": "explain",
    "answers.merging": "merge",
    "answers.opened": "open_photo",
    "answers.repairing": "repair",
    "answers.result": "Result",
    "answers.tuning": "tune_lrp",
    "answers.verbs": "audit compare evaluate shift",
    "attacks.balls": "project",
    "attacks.gradient": "FGSM PGD gradient",
    "attacks.noise": "GaussianNoise RandomSign",
    "attacks.objectives": "begin lower_score misclassify move_heatmap reach",
    "commands.shift.run": "Shift run_shift",
    "data.scenes": "scenes",
    "data.sources": "open_data",
    "defences.aggregate": "Aggregate",
    "defences.certified_pixels": "CertifiedPixels",
    "defences.contrast": "Contrast OneSided",
    "defences.median": "MedianOfNoisy",
    "defences.smoothed": "Smoothed",
    "defences.softplus": "Softplus",
    "defences.sparsified": "Sparsified",
    "defences.tangent": "Tangent",
    "errors": "HeatproofError InputError LayerError ModelError RunError SpecError",
    "explainers.cam": "CAM GradCAM",
    "explainers.cam_family": "EigenCAM GradCAMPlusPlus HiResCAM LayerCAM XGradCAM",
    "explainers.gradient": "InputXGradient IntegratedGradients SimpleGrad SmoothGrad",
    "explainers.guided": "GuidedBackprop GuidedGradCAM",
    "explainers.lrp.propagation": "LRP",
    "explainers.attention": "AttentionRollout Chefer",
    "explainers.masking_cam": "AblationCAM ScoreCAM",
    "explainers.occlusion": "RISE Occlusion",
    "explainers.relevance_cam": "RelevanceCAM",
    "explainers.scores": "Likeness Output",
    "explainers.together": "explain_at_layer explain_together",
    "heatmaps": "center_of_mass is_empty mass normalise resize topk_mask",
    "live.app": "app",
    "manipulation.adversarial": "train_adversarially",
    "manipulation.backdoor": "Backdoor",
    "manipulation.fine_tune": "fine_tune",
    "manipulation.penalties": "ActiveSwap CenterMass Location TargetMap TopK",
    "manipulation.trigger": "Trigger",
    "manipulation.weight_edit": "WeightEdit",
    "metrics.faithfulness": "AOPC Deletion Insertion",
    "metrics.fooling": "fooling_success_rate",
    "metrics.localisation": "pointing_game",
    "metrics.randomisation": "Randomisation",
    "metrics.robustness": "SensitivityMax",
    "metrics.shift": "mod vid vid_per_image",
    "metrics.similarity": "nissim psnr spearman ssim topk_intersection",
    "metrics.weight_noise": "WeightNoise",
    "models.classifier": "Classifier",
    "models.layers": "default_layer list_layers",
    "models.loading": "load",
    "models.readings": "Detection OverMask",
    "report.figures": "Panel gallery",
    "report.page": "write_report",
    "results.run": "Run",
    "training.adversarial": "FreeTraining",
    "training.settings": "FineTune",
    "types": "Explanation settings",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        near = "" if name.startswith("_") else f"; {_habits.public_instead(name, __all__)}"
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{near}")
    found = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_front.DOORS.update(open="heatproof.answers.opened:opened", show="heatproof.answers.explained:explained_of")
del _front, _vision
