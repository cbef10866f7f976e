"""The populations that come with the package: one file of thresholds per explainer, for its default settings alone."""

import json
from dataclasses import fields, is_dataclass, replace
from importlib import resources

from heatproof.commands.audit.verdict import Thresholds
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.cam_family import GradCAMPlusPlus, HiResCAM, LayerCAM
from heatproof.explainers.gradient import IntegratedGradients, SimpleGrad, SmoothGrad
from heatproof.explainers.guided import GuidedBackprop
from heatproof.explainers.lrp.propagation import LRP
from heatproof.explainers.relevance_cam import RelevanceCAM
from heatproof.models.classifier import Classifier
from heatproof.models.layers import DEFAULT, PIXELS, default_layer
from heatproof.types import Explainer

POPULATIONS: dict[str, Explainer] = {
    "gradcam": GradCAM(),
    "layercam": LayerCAM(),
    "hirescam": HiResCAM(),
    "gradcam_plus_plus": GradCAMPlusPlus(),
    "relevancecam": RelevanceCAM(),
    "lrp": LRP(),
    "simple_grad": SimpleGrad(),
    "smooth_grad": SmoothGrad(),
    "integrated_gradients": IntegratedGradients(),
    "guided_backprop": GuidedBackprop(),
}
"""By the catalog's names: whose maps the networks of ``thresholds/NAME.json`` were measured with."""


def thresholds_of(name: str) -> Thresholds:
    """The package's thresholds of one of :data:`POPULATIONS`."""
    if POPULATIONS[name] == GradCAM():
        return Thresholds.shipped()
    file = resources.files("heatproof.commands.audit").joinpath("thresholds", f"{name}.json")
    return Thresholds.parsed(json.loads(file.read_text("utf-8")))


def thresholds_for(explainer: Explainer, model: Classifier) -> Thresholds:
    """Those whose population was measured with this explainer; where there is none, the nearest.

    Nearest are those of the same explainer with other settings, else Grad-CAM's. Whether they speak for what is audited
    is another question: :func:`heatproof.commands.audit.scope.outside`.
    """
    own = with_default_layer(explainer, model)
    for name, known in POPULATIONS.items():
        if _are_one(own, known):
            return thresholds_of(name)
    for name, known in POPULATIONS.items():
        if type(own) is type(known):
            return thresholds_of(name)
    return Thresholds.shipped()


def is_population(text: str, explainer: Explainer, model: Classifier) -> bool:
    """Whether thresholds that were measured with the explainer of this text speak for this one.

    An explainer of the package is compared as an object, with its type and all that is set: another one that calls
    itself the same is another.
    """
    own = with_default_layer(explainer, model)
    for known in POPULATIONS.values():
        if text == repr(known):
            return _are_one(own, known)
    return text in (repr(explainer), repr(own))


def _are_one(explainer: Explainer, known: Explainer) -> bool:
    return type(explainer) is type(known) and explainer == known


def with_default_layer(explainer: Explainer, model: Classifier) -> Explainer:
    """The explainer as it is written when it reads the model's default layer and nobody names it."""
    default = {f.name: f.default for f in fields(explainer)} if is_dataclass(explainer) else {}
    layer = getattr(explainer, "layer", None)
    if "layer" not in default or default["layer"] == PIXELS or layer is None or layer == PIXELS:
        return explainer
    if layer == DEFAULT or layer == default_layer(model):
        return replace(explainer, layer=default["layer"])  # type: ignore[type-var]
    return explainer
