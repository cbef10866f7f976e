"""What speaks for a class more than for the others, and one side of a signed map."""

from dataclasses import fields, is_dataclass, replace
from typing import Literal, get_args

from torch import nn

from heatproof.defences.noisy import check_wrapped
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.types import Classes, Explainer, Explanation, Images, changed_inside, is_signed, settings

Over = Literal["mean", "softmax"]
Side = Literal["positive", "negative", "magnitude"]


@settings
class Contrast:
    """Any explainer, of the class's logit minus the mean of the others: blind to what is added to every logit.

    **Source** DiffGradCAM, 2025 (arXiv 2506.08514, read in its abstract), which claims that foolings of Grad-CAM do
    not reach it. **Range** that of the explainer. ``contrast(gradcam())`` is ``gradcam(score="contrast")``.

    Args:
        explainer: one that explains a score, or wraps one that does.
        over: the mean of the others, plain or weighted by their ``softmax``.

    Raises:
        InputError: an explainer that explains no score.
    """

    explainer: Explainer = GradCAM()
    over: Over = "mean"

    def __post_init__(self) -> None:
        check_wrapped("contrast", self.explainer)
        if self.over not in get_args(Over):
            raise InputError(f"over is 'mean' or 'softmax', got {self.over!r}")
        if self._contrasting is self.explainer:
            raise InputError(f"{self.explainer!r} has no field score that could be a contrast; wrap one that has")

    @property
    def signed(self) -> bool:
        return is_signed(self._contrasting)

    @property
    def _contrasting(self) -> Explainer:
        return _scored(self.explainer, "contrast" if self.over == "mean" else "softmax_contrast")

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        return self._contrasting(model, images, targets, create_graph=create_graph)  # type: ignore[arg-type]


def _scored(explainer: Explainer, score: str) -> Explainer:
    explainer = changed_inside(explainer, lambda one: _scored(one, score))
    if is_dataclass(explainer) and any(field.name == "score" for field in fields(explainer)):
        return replace(explainer, score=score)  # type: ignore[type-var]
    return explainer


@settings
class OneSided:
    """One side of a signed map: what certificates, which rank cells from zero up, can be given of.

    heatmap = max(0, h) (``positive``: what speaks for the class), max(0, -h) (``negative``) or \\|h\\|
    (``magnitude``). **Range** [0, inf), in the explainer's unit.

    Args:
        explainer: its maps may be signed or not.
        side: which.

    Raises:
        InputError: another side, or something that is no explainer.
    """

    explainer: Explainer = GradCAM(relu=False)
    side: Side = "positive"
    signed = False

    def __post_init__(self) -> None:
        check_wrapped("one_sided", self.explainer)
        if self.side not in get_args(Side):
            raise InputError(f"side is one of {', '.join(get_args(Side))}, got {self.side!r}")

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        found = self.explainer(model, images, targets, create_graph=create_graph)  # type: ignore[arg-type]
        maps = found.heatmaps
        side = {"positive": maps.relu(), "negative": (-maps).relu(), "magnitude": maps.abs()}[self.side]
        return Explanation(side, found.logits, found.targets)
