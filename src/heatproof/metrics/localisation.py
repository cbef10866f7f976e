"""Does the heatmap point at the object? Only where somebody has drawn boxes."""

from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.metrics.evaluation import Column, Explained, Finding, Question
from heatproof.types import Heatmaps, PerImage, settings

Boxes = Float[Tensor, "batch objects 4"] | Float[Tensor, "batch 4"]
"""x1, y1, x2, y2 as shares of the image's width and height; a row of NaN where there is no object or annotation."""


def pointing_game(heatmaps: Heatmaps, boxes: Boxes, tolerance: float = 0.0) -> PerImage:
    """1 where the highest cell of the map lies in an annotated object, else 0.

    The centre of the cell counts; between cells a bilinearly enlarged map is never higher.

    **Source** Zhang et al. 2016, section 4.2; Selvaraju et al. 2017. **Differs** no tolerance by default; theirs is 15
    pixels.
    **Range** 0 or 1, the mean is the hit rate; NaN for an empty map and for an image without annotation.

    Args:
        tolerance: how far outside still counts, as a share of the image's sides.

    Raises:
        InputError: no image has an annotation, or boxes of another shape.

    >>> pointing_game(torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]), torch.tensor([[0.5, 0.0, 1.0, 0.4]]))
    tensor([1.])
    """
    boxes = _checked(heatmaps, boxes)
    rows, cols = heatmaps.shape[1:]
    place = heatmaps.flatten(1).argmax(1)
    y = ((place // cols) + 0.5) / rows
    x = ((place % cols) + 0.5) / cols
    x1, y1, x2, y2 = boxes.unbind(2)
    inside = (x[:, None] >= x1 - tolerance) & (x[:, None] <= x2 + tolerance)
    inside &= (y[:, None] >= y1 - tolerance) & (y[:, None] <= y2 + tolerance)
    return inside.any(1).to(heatmaps.dtype).masked_fill(_unknown(heatmaps, boxes), torch.nan)


def box_iou(heatmaps: Heatmaps, boxes: Boxes, threshold: float = 0.15) -> PerImage:
    """Intersection over union of the map's box and the annotated one, the best over an image's objects.

    The map's box is the smallest around the largest connected segment (neighbours share a side) of the cells that
    exceed ``threshold`` of the maximum; at half or more an object counts as found.

    **Source** Selvaraju et al. 2017, section 4.1 (15% of the maximum, largest segment, IoU 0.5). **Differs** at the
    map's own resolution; resize the maps first for boxes in pixels.
    **Range** [0, 1], up is better; NaN for an empty map and for an image without annotation.

    Raises:
        InputError: no image has an annotation, boxes of another shape, or a threshold outside [0, 1).

    >>> box_iou(torch.tensor([[[0.0, 1.0], [0.1, 0.0]]]), torch.tensor([[0.5, 0.0, 1.0, 1.0]]))
    tensor([0.5000])
    """
    if not 0 <= threshold < 1:
        raise InputError(f"the threshold is a share of the map's maximum, in [0, 1), got {threshold}")
    boxes = _checked(heatmaps, boxes)
    own = segment_boxes(heatmaps, threshold)[:, None]
    low, high = torch.maximum(own[..., :2], boxes[..., :2]), torch.minimum(own[..., 2:], boxes[..., 2:])
    common = (high - low).clamp(min=0).prod(2)
    areas = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(2) for box in (own, boxes)]
    union = areas[0] + areas[1] - common
    best = torch.where(union > 0, common / union, torch.zeros_like(union)).nan_to_num(0).amax(1)
    return best.to(heatmaps.dtype).masked_fill(_unknown(heatmaps, boxes), torch.nan)


@settings
class PointingGame:
    """:func:`pointing_game` on the photos that have a box.

    **Range** 0 or 1, up is better; NaN for an empty map and for an image without annotation.

    Args:
        tolerance: how far outside still counts, as a share of the image's sides.
    """

    tolerance: float = 0.0
    question: ClassVar[Question] = "localisation"
    condition: ClassVar[str] = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column("pointing_game", "up", "[0, 1]", "share of photos whose highest cell lies in a box", rate=True),)

    def check(self, model: nn.Module, size: tuple[int, int], boxes: bool) -> None:
        _check_annotated("pointing_game()", boxes)

    def measure(self, explained: Explained) -> list[Finding]:
        if (boxes := _annotated(explained)) is None:
            return [_nothing(explained)]
        return [Finding((pointing_game(explained.heatmaps, boxes, self.tolerance),))]


@settings
class BoxIoU:
    """:func:`box_iou` on the photos that have a box.

    **Range** [0, 1], up is better; NaN for an empty map and for an image without annotation.

    Args:
        threshold: share of the map's maximum above which a cell belongs to its box.
    """

    threshold: float = 0.15
    question: ClassVar[Question] = "localisation"
    condition: ClassVar[str] = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column("box_iou", "up", "[0, 1]", "overlap of the map's box and the annotated one"),)

    def check(self, model: nn.Module, size: tuple[int, int], boxes: bool) -> None:
        _check_annotated("box_iou()", boxes)

    def measure(self, explained: Explained) -> list[Finding]:
        if (boxes := _annotated(explained)) is None:
            return [_nothing(explained)]
        return [Finding((box_iou(explained.heatmaps, boxes, self.threshold),))]


def _check_annotated(name: str, boxes: bool) -> None:
    if not boxes:
        raise InputError(
            f"{name} asks whether the map is on the object, and no boxes were given: take --boxes FILE, boxes=..."
        )


def _annotated(explained: Explained) -> Float[Tensor, "batch objects 4"] | None:
    """The boxes, or nothing where no image of these has one."""
    boxes = explained.boxes
    return None if boxes is None or bool(boxes.isnan().any(2).all()) else boxes


def _nothing(explained: Explained) -> Finding:
    return Finding((torch.full((len(explained.images),), torch.nan, device=explained.images.device),))


def segment_boxes(heatmaps: Heatmaps, threshold: float = 0.15) -> Float[Tensor, "batch 4"]:
    """The box around each map's largest segment above ``threshold`` of its maximum; zeros for an empty map.

    >>> segment_boxes(torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]))
    tensor([[0.5000, 0.0000, 1.0000, 1.0000]])
    """
    # loads slowly, and only boxes need it
    from scipy.ndimage import find_objects, label

    rows, cols = heatmaps.shape[1:]
    found = torch.zeros(len(heatmaps), 4)
    for box, values in zip(found, heatmaps.detach().float().cpu().numpy(), strict=True):
        if values.max() <= 0:
            continue
        segments: np.ndarray = label(values > threshold * values.max())[0]  # type: ignore[index,assignment]
        largest = int(np.bincount(segments.ravel())[1:].argmax())
        down, across = find_objects(segments)[largest]
        box[:] = torch.tensor([across.start / cols, down.start / rows, across.stop / cols, down.stop / rows])
    return found.to(heatmaps.device)


def _checked(heatmaps: Heatmaps, boxes: Boxes) -> Float[Tensor, "batch objects 4"]:
    boxes = boxes[:, None] if boxes.ndim == 2 else boxes
    if heatmaps.ndim != 3 or boxes.ndim != 3 or boxes.shape[2] != 4 or len(boxes) != len(heatmaps):
        raise InputError(
            f"expected maps [batch, rows, cols] and boxes [batch, 4] or [batch, objects, 4], got "
            f"{list(heatmaps.shape)} and {list(boxes.shape)}"
        )
    if bool(boxes.isnan().any(2).all()):
        raise InputError(
            "the pointing game and box localisation need annotations, and no image has a box; give x1, y1, x2, y2 as "
            "shares of the image's sides, a row of NaN where one is missing"
        )
    return boxes.to(heatmaps.device)


def _unknown(heatmaps: Heatmaps, boxes: Float[Tensor, "batch objects 4"]) -> Tensor:
    empty = heatmaps.flatten(1).amax(1) <= 0
    return empty | boxes.isnan().any(2).all(1)
