"""The networks of the board with their photos, and the rows: which explainer, alone and under which defence."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

from heatproof.defences.aggregate import Aggregate
from heatproof.defences.certified_pixels import CertifiedPixels
from heatproof.defences.contrast import Contrast, OneSided
from heatproof.defences.smoothed import Smoothed
from heatproof.defences.softplus import Softplus
from heatproof.explainers.attention import AttentionRollout, Chefer
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import InputXGradient, SimpleGrad
from heatproof.explainers.guided import GuidedBackprop
from heatproof.explainers.lrp.propagation import LRP
from heatproof.types import Explainer, changed_inside, inside, redrawn


class Network(NamedTuple):
    """A network of the board.

    Attributes:
        model: as ``--model`` takes it; ``shared:`` lies in the shared folder; empty: it has to be named.
        data: labelled photos; half of them is shown to the explainers, the other half holds the accuracy.
        fooling: photos to fool on, without labels.
        region: side in pixels of the squares that AOPC removes.
        kind: which rows it has.
    """

    model: str
    data: str
    fooling: str
    region: int
    kind: str


CIFAR = ("shared:data/cifar10/test", "shared:data/cifar10/train-50000.parquet", 4)
IMAGENET = ("shared:data/imagenet-val/labels.csv", "shared:data/imagenet-sample", 28)
NETWORKS: Mapping[str, Network] = {
    "resnet20": Network("shared:weights/zoo.py:resnet20", *CIFAR, "small"),
    "resnet56": Network("shared:weights/zoo.py:resnet56", *CIFAR, "small"),
    "mobilenet_v2": Network("shared:weights/zoo.py:mobilenet_v2", *IMAGENET, "large"),
    "squeezenet1_1": Network("shared:weights/zoo.py:squeezenet1_1", *IMAGENET, "large"),
    "efficientnet_lite0": Network("shared:weights/zoo.py:efficientnet_lite0", *IMAGENET, "large"),
    "vit": Network("", *CIFAR, "transformer"),
    "demo": Network("demo", "demo", "demo/train", 8, "small"),
}
DEFAULT = tuple(name for name in NETWORKS if name != "demo")
NONE = "none"
"""The defence of an explainer that stands alone."""


class Row(NamedTuple):
    """A row of the board.

    Attributes:
        explainer: the name of the plain explainer, or of what was handed in.
        defence: its name.
        map: the explainer with its settings.
    """

    explainer: str
    defence: str
    map: Explainer

    @property
    def text(self) -> str:
        return repr(self.map)

    @property
    def plain(self) -> Explainer:
        """The explainer inside all that wraps it."""
        return plain_of(self.map)


PIXELS, CAM = SimpleGrad(), GradCAM()


def rows_of(kind: str, copies: int) -> list[Row]:
    """The rows of a kind of network.

    Args:
        copies: noisy copies of a defence that draws some; certificates take three times as many, at least 24.
    """
    smooth = Row("simple_grad", "smoothed", Smoothed(PIXELS, n=copies, sigma=0.12))
    cams = [
        Row("gradcam", NONE, CAM),
        Row("gradcam", "contrast", Contrast(CAM)),
        Row("gradcam", "smoothed", Smoothed(CAM, n=copies, sigma=0.1)),
    ]
    if kind == "transformer":
        return [
            Row("simple_grad", NONE, PIXELS),
            smooth,
            *cams,
            Row("attention_rollout", NONE, AttentionRollout()),
            Row("chefer", NONE, Chefer()),
            Row("attnlrp", NONE, LRP(composite="attnlrp")),
        ]
    several = Aggregate((PIXELS, OneSided(GuidedBackprop(), "magnitude"), CAM))
    votes = CertifiedPixels(PIXELS, n=max(24, 3 * copies), sigma=0.08, tau=0.6, alpha=0.05)
    more = [Row("simple_grad", "aggregate", several), Row("simple_grad", "certified_pixels", votes)]
    return [
        Row("simple_grad", NONE, PIXELS),
        smooth,
        Row("simple_grad", "softplus", Softplus(PIXELS, 0.7)),
        *(more if kind == "small" else []),
        *cams,
        Row("gradcam", "softplus", Softplus(CAM, 1.4)),
        Row("input_x_gradient", NONE, InputXGradient()),
        Row("lrp", NONE, LRP()),
    ]


def plain_of(explainer: Explainer) -> Explainer:
    """What a defence wraps, the first of several.

    >>> plain_of(Smoothed(Softplus(GradCAM())))
    GradCAM()
    """
    within = inside(explainer)
    return plain_of(within[0]) if within else explainer


def is_noisy(explainer: Explainer) -> bool:
    """Whether the map is one draw of many."""
    return redrawn(explainer, 1) != redrawn(explainer, 0)


def seeded(explainer: Any, seed: int) -> Any:
    """The explainer with other draws of its noise, and of what it wraps: its ``seed`` is this one.

    >>> seeded(Smoothed(Smoothed(GradCAM())), 3)
    Smoothed(explainer=Smoothed(seed=3), seed=3)
    """
    explainer = changed_inside(explainer, lambda one: seeded(one, seed))
    if not is_dataclass(explainer) or isinstance(explainer, type):
        return explainer
    known = {field.name for field in fields(explainer)}
    return replace(explainer, seed=seed) if "seed" in known else explainer


def needs_softplus(explainer: Explainer) -> bool:
    """Whether an attacker climbs on softplus copies: the map is a gradient of ReLUs and nothing rounds them off."""
    if isinstance(explainer, Softplus):
        return False
    within = inside(explainer)
    return any(map(needs_softplus, within)) if within else isinstance(explainer, SimpleGrad | InputXGradient)
