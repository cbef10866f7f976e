"""How the passes of an audit are shared between the explainer's maps and the witness."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace

import torch

from heatproof.commands.audit.covering import FEWEST
from heatproof.commands.audit.equivariance import DIRECTIONS
from heatproof.commands.audit.faithfulness import LEVELS
from heatproof.commands.audit.mosaic import PER_PHOTO
from heatproof.commands.passes import counting
from heatproof.errors import InputError
from heatproof.explainers.together import LayerExplainer
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.types import Explainer

OVERHEAD = 1 + 3 * len(LEVELS) + 1 + 3 + PER_PHOTO + len(DIRECTIONS)
"""Forward passes per photo besides the witness's: the map, AOPC in three orders, a new head, two attacks, mosaics, the
moved photo."""
AFFORDED = 2
"""Passes that a map may take for the photo to be explained under all of the witness's middle squares."""
ALONG = (5, 4, 3)
"""Squares along a side under which a dearer map is made, as many as the budget has room for."""
FURTHER = 6
"""Maps of a photo besides its own: of it attacked twice, with a random head, and of a mosaic's two classes."""
SAMPLED = ("samples", "steps", "n", "masks")
"""Fields that say how often an explainer asks for one map: a draft asks less often."""


@dataclass(frozen=True)
class Plan:
    """What is asked about each photo.

    Attributes:
        questions: of the witness.
        draft: makes all maps but the photo's own: the explainer itself, or where its maps are dear the same with fewer
            samples or steps.
        along: squares along a side under which the draft's map is made; 0: under the witness's own middle squares;
            ``None``: under none, since the budget has no room.
    """

    questions: int
    draft: Explainer
    along: int | None = 0


def plan(explainer: Explainer, budget: int, model: Classifier, hardware: Hardware = Hardware()) -> Plan:
    """Share the budget: maps that come with a pass cost nothing, others leave the witness what remains.

    The draft is the fullest one whose maps, under at least 3 x 3 squares too, leave the witness :data:`FEWEST`
    questions. Where there is none, nothing is drafted and no map is made under squares.
    """
    if is_cheap(explainer):
        return Plan(budget - OVERHEAD, explainer)
    cost = map_cost(explainer, model, hardware)
    left = budget - (3 + 3 * len(LEVELS)) - cost * (len(views(explainer)) + FURTHER)
    if cost <= AFFORDED:
        # at most half of the squares are of the middle size
        return Plan(max(FEWEST, int(left / (1 + (cost - 1) / 2))), explainer)
    for draft in drafts(explainer):
        own = map_cost(draft, model, hardware)
        maps = len(views(explainer)) + FURTHER - (draft == explainer)
        room = budget - (3 + 3 * len(LEVELS)) - cost - own * maps - FEWEST
        if room >= own * ALONG[-1] ** 2:
            along = next(a for a in ALONG if a == ALONG[-1] or own * a**2 <= room // 2)
            return Plan(FEWEST + room - own * along**2, draft, along)
    return Plan(max(FEWEST, left), explainer, None)


def map_cost(explainer: Explainer, model: Classifier, hardware: Hardware = Hardware()) -> int:
    """Forward passes that one map takes besides the photo's own, counted on a grey photo; 0 where it comes with it."""
    if is_cheap(explainer):
        return 0
    grey = hardware.bring(torch.full((1, model.channels, *model.input_shape), 0.5))
    target = torch.zeros(1, dtype=torch.long, device=grey.device)
    with hardware.autocast():
        # what is asked once for all photos of a shape is no part of a map's cost
        explainer(model, grey, target)
    with hardware.autocast(), counting(model) as passes:
        explainer(model, grey, target)
    return passes.forward


def drafts(explainer: Explainer) -> Iterator[Explainer]:
    """The explainer, and the same with ever half as many samples or steps, down to 2.

    >>> from heatproof.explainers.gradient import SmoothGrad
    >>> [draft.samples for draft in drafts(SmoothGrad(samples=9))]
    [9, 4, 2]
    """
    yield explainer
    known = {field.name for field in fields(explainer)} if is_dataclass(explainer) else set()
    sampled = next((name for name in SAMPLED if name in known), None)
    count = 0 if sampled is None else int(vars(explainer)[sampled])
    while sampled is not None and (count := count // 2) >= 2:
        try:
            yield replace(explainer, **{sampled: count})  # type: ignore[type-var]
        except InputError:  # too few for what it promises
            return


def is_cheap(explainer: Explainer) -> bool:
    """Whether the maps of many classes cost one forward pass together."""
    return isinstance(explainer, LayerExplainer)


def views(explainer: Explainer) -> dict[str, Explainer]:
    """The explainer, the same without ReLU, and for logit differences, as far as it can be told so."""
    found = {"map": explainer}
    known = {field.name for field in fields(explainer)} if is_dataclass(explainer) else set()
    if "relu" in known:
        found["bare"] = replace(explainer, relu=False)  # type: ignore[type-var]
    if "score" in known:
        for score in ("contrast", "softmax_contrast"):
            found[score] = replace(explainer, score=score)  # type: ignore[type-var]
    return found
