"""Logits of networks that answer with maps or detections: a class over a region, the detection that fits a box.

A :class:`~heatproof.models.classifier.Classifier` holds a reading (``reading=``) and hands on what it makes of the
network's output, so that explainers, attacks, penalties and audits ask about the region or the box as they ask about
any class.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof.errors import InputError, ModelError
from heatproof.types import Logits, settings

UNSEEN = 1e-3
"""The score that a detector is said to give what it does not detect; torchvision's hand out nothing below 0.05."""


class OverMask:
    """Each class's mean logit over a region of the image, of a network that segments.

    y_c = mean of z_c over the cells of the region, where z is the map of logits ``[batch, classes, rows, cols]``. With
    a mask the region is the same for all photos and classes. Without one it is, of each class, the cells where the
    network gives it the largest logit, held constant; of a class that has no such cell, the one where it comes nearest
    (the largest z_c minus the strongest other), so that its number never jumps.

    **Source** pytorch-grad-cam's ``SemanticSegmentationTarget`` is the sum over a mask. **Differs** the mean, whose
    unit does not grow with the region. One map z per image is the pair (0, z), as one logit is.
    **Range** the logits' own.

    Args:
        mask: where, ``[rows, cols]`` of what the network sees, true or positive inside, brought to the maps' size. In
            a spec and in the verbs also a picture's file, fitted as photos are, inside where it is brighter than grey.

    Raises:
        InputError: the mask is empty, or has other axes.

    >>> z = torch.tensor([[[[1.0, 5.0]], [[3.0, 1.0]]]])
    >>> OverMask()(z), OverMask(torch.tensor([[0, 1]]))(z)
    (tensor([[5., 3.]]), tensor([[5., 1.]]))
    """

    def __init__(self, mask: Tensor | str | Path | None = None):
        self.file = str(mask) if isinstance(mask, str | Path) else None
        self.mask = mask.detach() > 0 if isinstance(mask, Tensor) else None
        if self.mask is not None and (self.mask.ndim != 2 or not self.mask.any()):
            raise InputError(
                f"a mask is [rows, cols] and somewhere positive, got {list(self.mask.shape)} with "
                f"{int(self.mask.sum())} cells inside"
            )

    def __call__(self, output: Any) -> Logits:
        """``[batch, classes]`` of maps ``[batch, classes, rows, cols]``."""
        if not isinstance(output, Tensor) or output.ndim != 4:
            what = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ModelError(f"{self!r} reads maps of logits [batch, classes, rows, cols], the network returned {what}")
        if self.file is not None:
            raise InputError(f"the mask {self.file} is read by the verbs; give a mask [rows, cols] here")
        maps = torch.cat([torch.zeros_like(output), output], 1) if output.shape[1] == 1 else output
        region = self._region(maps).to(maps.dtype)
        return (maps * region).sum((2, 3)) / region.sum((2, 3))

    def _region(self, maps: Float[Tensor, "batch classes rows cols"]) -> Bool[Tensor, "#batch #classes rows cols"]:
        if self.mask is None:
            return own_region(maps.detach())
        mask = self.mask.to(maps.device, torch.float32)
        region = F.interpolate(mask[None, None], size=maps.shape[2:], mode="area") >= 0.5
        if not region.any():
            raise InputError(
                f"the mask covers no half of any cell of the network's {maps.shape[2]}x{maps.shape[3]} maps; give a "
                "larger one"
            )
        return region

    def __repr__(self) -> str:
        if self.file is not None:
            return f"OverMask({self.file!r})"
        if self.mask is None:
            return "OverMask()"
        digits = hashlib.sha256(self.mask.cpu().contiguous().numpy().tobytes()).hexdigest()[:12]
        rows, cols = self.mask.shape
        return f"OverMask(<{rows}x{cols}, {int(self.mask.sum())} cells inside, sha256 {digits}>)"


def own_region(maps: Float[Tensor, "batch classes rows cols"]) -> Bool[Tensor, "batch classes rows cols"]:
    """Where each class has the largest logit; of a class that has it nowhere, the cell where it comes nearest."""
    best, where = maps.topk(min(2, maps.shape[1]), dim=1)
    leads = F.one_hot(where[:, 0], maps.shape[1]).movedim(-1, 1).bool()
    # against the strongest other: the second where the class itself is first
    margin = maps - torch.where(leads, best[:, -1:], best[:, :1])
    flat = margin.flatten(2)
    nearest = F.one_hot(flat.argmax(2), flat.shape[2]).bool().view_as(maps)
    return torch.where(leads.flatten(2).any(2)[..., None, None], leads, nearest)


@settings
class Detection:
    """The log-odds of the detection of each class that overlaps a box best, of a network that detects.

    y_c = log s / (1 - s), s the score of the detection labelled c whose intersection over union with the box is the
    largest; without a box, of the most certain one. What is not detected has s = 0.001, and no gradient. The network
    returns, of each image, a dict of ``boxes`` ``[n, 4]`` (left, top, right, bottom), ``labels`` and ``scores``
    ``[n]``, as torchvision's do.

    **Source** pytorch-grad-cam's ``FasterRCNNBoxScoreTarget``. **Differs** log-odds instead of the score plus the
    overlap, so that a certain detection keeps a gradient and the softmax over classes means something.
    **Range** from -6.9 (not detected) up to 15.9, in nats.

    Args:
        classes: labels that the network tells apart, counted from 0: 91 of torchvision's, whose label 0 is the
            background.
        box: (left, top, right, bottom), in pixels of what the network sees, as its own boxes are.
        overlap: below this intersection over union a detection is of something else.

    Raises:
        InputError: settings that make no sense.

    >>> found = {"boxes": torch.tensor([[0.0, 0, 4, 4], [6, 6, 9, 9]]), "labels": torch.tensor([1, 1])}
    >>> found["scores"] = torch.tensor([0.5, 0.9])
    >>> Detection(2, box=(0, 0, 4, 5))([found])
    tensor([[-6.9068,  0.0000]])
    """

    classes: int
    box: tuple[float, float, float, float] | None = None
    overlap: float = 0.5

    def __post_init__(self) -> None:
        if type(self.classes) is not int or self.classes < 2:
            raise InputError(f"a detector tells at least 2 labels apart, the background counted, got {self.classes!r}")
        if self.box is not None and not (
            len(self.box) == 4 and self.box[0] < self.box[2] and self.box[1] < self.box[3]
        ):
            raise InputError(f"a box is (left, top, right, bottom) in pixels, got {self.box!r}")
        if not 0 <= self.overlap <= 1:
            raise InputError(f"overlap lies in [0, 1], got {self.overlap}")

    def __call__(self, output: Any) -> Logits:
        """``[batch, classes]`` of a list with a dict for each image."""
        if not isinstance(output, list | tuple) or not output or not all(map(_is_detections, output)):
            raise ModelError(
                f"{self!r} reads, of each image, a dict of boxes [n, 4], labels [n] and scores [n], as torchvision's "
                f"detectors return in eval mode; the network returned a {type(output).__name__}"
            )
        return torch.stack([self._of_image(found) for found in output])

    def _of_image(self, found: Mapping[str, Tensor]) -> Float[Tensor, "classes"]:
        scores, labels = found["scores"], found["labels"].long()
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            raise InputError(f"the network found label {int(labels.max())}, and {self!r} knows 0..{self.classes - 1}")
        fit = scores.detach() if self.box is None else overlaps(found["boxes"].detach(), self.box)
        counts = torch.ones_like(fit, dtype=torch.bool) if self.box is None else fit >= self.overlap
        # a sum of nothing keeps the graph where nothing is detected
        floor = scores.new_tensor(UNSEEN) + 0 * scores.sum()
        chosen = []
        for label in range(self.classes):
            own = (counts & (labels == label)).nonzero()[:, 0]
            chosen.append(scores[own[fit[own].argmax()]] if len(own) else floor)
        probabilities = torch.stack(chosen).clamp(UNSEEN, 1 - torch.finfo(scores.dtype).eps)
        return probabilities.log() - (1 - probabilities).log()


def _is_detections(found: Any) -> bool:
    return isinstance(found, Mapping) and all(
        isinstance(found.get(key), Tensor) for key in ("boxes", "labels", "scores")
    )


def overlaps(boxes: Float[Tensor, "n 4"], box: tuple[float, float, float, float]) -> Float[Tensor, "n"]:
    """Intersection over union of each box with one.

    >>> overlaps(torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2]]), (0, 0, 2, 2))
    tensor([1.0000, 0.3333])
    """
    left, top, right, bottom = boxes.unbind(1)
    wide = (right.clamp(max=box[2]) - left.clamp(min=box[0])).clamp(min=0)
    high = (bottom.clamp(max=box[3]) - top.clamp(min=box[1])).clamp(min=0)
    union = (right - left) * (bottom - top) + (box[2] - box[0]) * (box[3] - box[1]) - wide * high
    return wide * high / union
