"""The table of contents: one line here makes a thing real.

The command line offers it, a spec can name it, the documentation lists it and the contract tests hold it to its word.
Plain dicts, name -> what to call.
"""

from collections.abc import Callable
from typing import Any

from heatproof.attacks.foreign import Foreign
from heatproof.attacks.gradient import FGSM, PGD
from heatproof.attacks.noise import GaussianNoise, RandomSign
from heatproof.explainers.cam import CAM, GradCAM
from heatproof.explainers.gradient import IntegratedGradients, SimpleGrad, SmoothGrad
from heatproof.explainers.guided import GuidedBackprop, GuidedGradCAM
from heatproof.explainers.lrp.propagation import LRP
from heatproof.explainers.occlusion import RISE, Occlusion
from heatproof.explainers.random_map import RandomMap
from heatproof.manipulation.backdoor import Backdoor
from heatproof.manipulation.penalties import ActiveSwap, CenterMass, Location, TargetMap, TopK
from heatproof.manipulation.trigger import Trigger
from heatproof.manipulation.weight_edit import WeightEdit
from heatproof.metrics.evaluation import Metric
from heatproof.metrics.faithfulness import AOPC, Deletion, Insertion
from heatproof.metrics.localisation import BoxIoU, PointingGame
from heatproof.metrics.randomisation import Randomisation
from heatproof.metrics.road import ROAD
from heatproof.metrics.robustness import Infidelity, SensitivityMax
from heatproof.metrics.similarity import center_distance, nissim, psnr, spearman, ssim, topk_intersection
from heatproof.metrics.stability import Stability
from heatproof.metrics.weight_noise import WeightNoise
from heatproof.studies.adversarial_photo import AdversarialPhoto
from heatproof.studies.audit_benchmark.run import AuditBenchmark
from heatproof.studies.chakraborty2022 import Chakraborty2022
from heatproof.studies.fooling_frontier import FoolingFrontier
from heatproof.studies.gradcam_layers import GradCAMLayers
from heatproof.studies.heo2019.figure4 import Heo2019Figure4
from heatproof.studies.heo2019.figure5 import Heo2019Figure5
from heatproof.studies.heo2019.tables import Heo2019

EXPLAINERS: dict[str, Callable[..., Any]] = {
    "cam": CAM,
    "gradcam": GradCAM,
    "guided_backprop": GuidedBackprop,
    "guided_gradcam": GuidedGradCAM,
    "simple_grad": SimpleGrad,
    "smooth_grad": SmoothGrad,
    "integrated_gradients": IntegratedGradients,
    "lrp": LRP,
    "occlusion": Occlusion,
    "rise": RISE,
}

ATTACKS: dict[str, Callable[..., Any]] = {
    "fgsm": FGSM,
    "pgd": PGD,
    "random_sign": RandomSign,
    "gaussian_noise": GaussianNoise,
    "foreign": Foreign,
}

PENALTIES: dict[str, Callable[..., Any]] = {
    "location": Location,
    "top_k": TopK,
    "center_mass": CenterMass,
    "active_swap": ActiveSwap,
    "target_map": TargetMap,
    "backdoor": Backdoor,
}

TRIGGERS: dict[str, Callable[..., Any]] = {
    "trigger": Trigger,
}

EDITS: dict[str, Callable[..., Any]] = {
    "weight_edit": WeightEdit,
}

METRICS: dict[str, Callable[..., Metric]] = {
    "aopc": AOPC,
    "deletion": Deletion,
    "insertion": Insertion,
    "road": ROAD,
    "infidelity": Infidelity,
    "sensitivity_max": SensitivityMax,
    "stability": Stability,
    "weight_noise": WeightNoise,
    "pointing_game": PointingGame,
    "box_iou": BoxIoU,
    "randomisation": Randomisation,
}
"""What ``heatproof evaluate --metric`` takes."""

SIMILARITIES: dict[str, Callable[..., Any]] = {
    "ssim": ssim,
    "nissim": nissim,
    "spearman": spearman,
    "topk_intersection": topk_intersection,
    "center_distance": center_distance,
    "psnr": psnr,
}
"""Measures of two maps, and of two images: what ``shift`` and ``compare`` measure, and ``stability(by="ssim")``."""

CONTROLS: dict[str, Callable[..., Any]] = {
    "random_map": RandomMap,
}
"""What looks like an explainer and explains nothing; ``evaluate`` takes it where it takes an explainer."""

STUDIES: dict[str, Callable[..., Any]] = {
    "fooling-frontier": FoolingFrontier,
    "gradcam-layers": GradCAMLayers,
    "adversarial-photo": AdversarialPhoto,
    "audit-benchmark": AuditBenchmark,
    "chakraborty2022": Chakraborty2022,
    "heo2019": Heo2019,
    "heo2019-figure4": Heo2019Figure4,
    "heo2019-figure5": Heo2019Figure5,
}
