"""The table of contents: one line here makes a thing real.

The command line offers it, a spec can name it, the documentation lists it and the contract tests hold it to its word.
An entry says where it lies, ``"module:name"``, and is imported when it is asked for; or it is the class or function
itself, as in ``catalog.EXPLAINERS["mine"] = MyExplainer``.
"""

import ast
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any


class Entries(MutableMapping[str, Callable[..., Any]]):
    """Names -> what to call; only the entry that is asked for is imported.

    >>> Entries({"root": "math:sqrt"})["root"](9)
    3.0
    """

    def __init__(self, entries: Mapping[str, str | Callable[..., Any]]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(import_module(module), attribute)
        return entry

    def __setitem__(self, name: str, entry: str | Callable[..., Any]) -> None:
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __repr__(self) -> str:
        return f"Entries({', '.join(self._entries)})"

    def meaning(self, name: str) -> str:
        """The first line of the entry's docstring; of one that nobody asked for yet it is read from the source."""
        entry = self._entries[name]
        text = _docstring(entry) if isinstance(entry, str) else None
        lines = ((self[name].__doc__ if text is None else text) or "").strip().splitlines()
        return lines[0] if lines else ""


def _docstring(place: str) -> str | None:
    """What stands in the source under a class or function; None where it cannot be read without an import."""
    module, _, attribute = place.partition(":")
    spec = find_spec(module)
    read = getattr(spec.loader, "get_source", None) if spec else None
    source = read(module) if read else None
    for node in ast.parse(source or "").body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            return ast.get_docstring(node)
    return None


EXPLAINERS = Entries(
    {
        "cam": "heatproof.explainers.cam:CAM",
        "gradcam": "heatproof.explainers.cam:GradCAM",
        "gradcam_plus_plus": "heatproof.explainers.cam_family:GradCAMPlusPlus",
        "xgradcam": "heatproof.explainers.cam_family:XGradCAM",
        "layercam": "heatproof.explainers.cam_family:LayerCAM",
        "hirescam": "heatproof.explainers.cam_family:HiResCAM",
        "eigencam": "heatproof.explainers.cam_family:EigenCAM",
        "scorecam": "heatproof.explainers.masking_cam:ScoreCAM",
        "ablationcam": "heatproof.explainers.masking_cam:AblationCAM",
        "attention_rollout": "heatproof.explainers.attention:AttentionRollout",
        "chefer": "heatproof.explainers.attention:Chefer",
        "relevancecam": "heatproof.explainers.relevance_cam:RelevanceCAM",
        "guided_backprop": "heatproof.explainers.guided:GuidedBackprop",
        "guided_gradcam": "heatproof.explainers.guided:GuidedGradCAM",
        "input_x_gradient": "heatproof.explainers.gradient:InputXGradient",
        "simple_grad": "heatproof.explainers.gradient:SimpleGrad",
        "smooth_grad": "heatproof.explainers.gradient:SmoothGrad",
        "integrated_gradients": "heatproof.explainers.gradient:IntegratedGradients",
        "lrp": "heatproof.explainers.lrp.propagation:LRP",
        "occlusion": "heatproof.explainers.occlusion:Occlusion",
        "rise": "heatproof.explainers.occlusion:RISE",
        "smoothed": "heatproof.defences.smoothed:Smoothed",
        "median_of_noisy": "heatproof.defences.median:MedianOfNoisy",
        "sparsified": "heatproof.defences.sparsified:Sparsified",
        "certified_pixels": "heatproof.defences.certified_pixels:CertifiedPixels",
        "softplus": "heatproof.defences.softplus:Softplus",
        "contrast": "heatproof.defences.contrast:Contrast",
        "one_sided": "heatproof.defences.contrast:OneSided",
        "aggregate": "heatproof.defences.aggregate:Aggregate",
        "tangent": "heatproof.defences.tangent:Tangent",
    }
)
"""The last nine wrap another explainer: ``smoothed(gradcam(), n=16)``."""

SCORES = Entries(
    {
        "logit": "heatproof.explainers.scores:logit",
        "contrast": "heatproof.explainers.scores:contrast",
        "softmax_contrast": "heatproof.explainers.scores:softmax_contrast",
        "log_probability": "heatproof.explainers.scores:log_probability",
        "probability": "heatproof.explainers.scores:probability",
        "log_odds": "heatproof.explainers.scores:log_odds",
        "output": "heatproof.explainers.scores:Output",
        "likeness": "heatproof.explainers.scores:Likeness",
        "over_mask": "heatproof.models.readings:OverMask",
        "detection": "heatproof.models.readings:Detection",
    }
)
"""What is explained: ``--score``. The last two make logits of maps and of detections (``Classifier(reading=...)``)."""

ATTACKS = Entries(
    {
        "fgsm": "heatproof.attacks.gradient:FGSM",
        "pgd": "heatproof.attacks.gradient:PGD",
        "random_sign": "heatproof.attacks.noise:RandomSign",
        "gaussian_noise": "heatproof.attacks.noise:GaussianNoise",
        "patch": "heatproof.attacks.patch:Patch",
        "nes": "heatproof.attacks.black_box:NES",
        "genetic": "heatproof.attacks.black_box:Genetic",
        "corruption": "heatproof.attacks.corruption:Corruption",
        "foreign": "heatproof.attacks.foreign:Foreign",
    }
)

PENALTIES = Entries(
    {
        "location": "heatproof.manipulation.penalties:Location",
        "top_k": "heatproof.manipulation.penalties:TopK",
        "center_mass": "heatproof.manipulation.penalties:CenterMass",
        "active_swap": "heatproof.manipulation.penalties:ActiveSwap",
        "target_map": "heatproof.manipulation.penalties:TargetMap",
        "hide": "heatproof.manipulation.penalties:Hide",
        "same_map": "heatproof.manipulation.penalties:SameMap",
        "fairwash": "heatproof.manipulation.fairwash:Fairwash",
        "backdoor": "heatproof.manipulation.backdoor:Backdoor",
    }
)

TRIGGERS = Entries(
    {
        "trigger": "heatproof.manipulation.trigger:Trigger",
    }
)

EDITS = Entries(
    {
        "weight_edit": "heatproof.manipulation.weight_edit:WeightEdit",
    }
)

REPAIRS = Entries(
    {
        "truth": "heatproof.repairs.remedies:Truth",
        "rebn": "heatproof.repairs.remedies:ReBN",
        "finetune": "heatproof.repairs.remedies:Finetune",
        "prune": "heatproof.repairs.remedies:Prune",
        "relearn": "heatproof.repairs.remedies:Relearn",
    }
)
"""What takes a lie out of a checkpoint: ``heatproof repair --remedy``."""

TRAININGS = Entries(
    {
        "hessian": "heatproof.robust.methods:Hessian",
        "alignment": "heatproof.robust.methods:Alignment",
        "thickness": "heatproof.robust.methods:Thickness",
        "ssr": "heatproof.robust.methods:SSR",
        "adversarial": "heatproof.robust.methods:Adversarial",
        "weight_decay": "heatproof.robust.methods:WeightDecay",
        "softplus": "heatproof.robust.methods:Softplus",
        "plain": "heatproof.robust.methods:Plain",
    }
)
"""What makes maps hold still: ``heatproof defend --method``. ``plain`` is the control."""

METRICS = Entries(
    {
        "aopc": "heatproof.metrics.faithfulness:AOPC",
        "deletion": "heatproof.metrics.faithfulness:Deletion",
        "insertion": "heatproof.metrics.faithfulness:Insertion",
        "road": "heatproof.metrics.road:ROAD",
        "infidelity": "heatproof.metrics.robustness:Infidelity",
        "sensitivity_max": "heatproof.metrics.robustness:SensitivityMax",
        "stability": "heatproof.metrics.stability:Stability",
        "input_invariance": "heatproof.metrics.invariance:InputInvariance",
        "weight_noise": "heatproof.metrics.weight_noise:WeightNoise",
        "pointing_game": "heatproof.metrics.localisation:PointingGame",
        "box_iou": "heatproof.metrics.localisation:BoxIoU",
        "randomisation": "heatproof.metrics.randomisation:Randomisation",
    }
)
"""What ``heatproof evaluate --metric`` takes."""

SIMILARITIES = Entries(
    {
        "ssim": "heatproof.metrics.similarity:ssim",
        "nissim": "heatproof.metrics.similarity:nissim",
        "spearman": "heatproof.metrics.similarity:spearman",
        "topk_intersection": "heatproof.metrics.similarity:topk_intersection",
        "center_distance": "heatproof.metrics.similarity:center_distance",
        "psnr": "heatproof.metrics.similarity:psnr",
    }
)
"""Measures of two maps, and of two images: what ``shift`` and ``compare`` measure, and ``stability(by="ssim")``."""

CONTROLS = Entries(
    {
        "random_map": "heatproof.explainers.random_map:RandomMap",
    }
)
"""What looks like an explainer and explains nothing; ``evaluate`` takes it where it takes an explainer."""

STUDIES = Entries(
    {
        "fooling-transformers": "heatproof.studies.fooling_transformers:FoolingTransformers",
        "fooling-frontier": "heatproof.studies.fooling_frontier:FoolingFrontier",
        "gradcam-layers": "heatproof.studies.gradcam_layers:GradCAMLayers",
        "adversarial-photo": "heatproof.studies.adversarial_photo:AdversarialPhoto",
        "board": "heatproof.studies.board.run:Board",
        "audit-adversary": "heatproof.studies.audit_adversary.run:AuditAdversary",
        "audit-benchmark": "heatproof.studies.audit_benchmark.run:AuditBenchmark",
        "defended-explainers": "heatproof.studies.defended_explainers:DefendedExplainers",
        "certified-share": "heatproof.studies.certified_share:CertifiedShare",
        "chakraborty2022": "heatproof.studies.chakraborty2022:Chakraborty2022",
        "corruption-ranking": "heatproof.studies.corruption_ranking:CorruptionRanking",
        "false-alarms": "heatproof.studies.false_alarms:FalseAlarms",
        "face-verification": "heatproof.studies.face_verification:FaceVerification",
        "published-map-attacks": "heatproof.studies.published_map_attacks:PublishedMapAttacks",
        "remedies": "heatproof.studies.remedies:Remedies",
        "robust-training": "heatproof.studies.robust_training:RobustTraining",
        "heo2019": "heatproof.studies.heo2019.tables:Heo2019",
        "heo2019-figure4": "heatproof.studies.heo2019.figure4:Heo2019Figure4",
        "heo2019-figure5": "heatproof.studies.heo2019.figure5:Heo2019Figure5",
    }
)
