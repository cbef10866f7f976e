"""How the passes of an audit are shared between the explainer's maps and the witness."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import NamedTuple

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
FURTHER = 5
"""Maps of a photo besides its own: of it attacked twice, with a random head, and of a mosaic's two classes."""
BESIDES = 1 + 3 * len(LEVELS) + 1 + 1
"""Forward passes per photo where maps take their own: logits, AOPC in three orders, an attack's gradient, a mosaic."""
ANEW = 3
"""How often a map's first pass may come anew: for a batch, for the mosaics, for a random head."""
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

    Maps of :data:`AFFORDED` passes are made under the witness's middle squares too, where there is room. The draft of
    dearer ones is the fullest whose maps, under at least 3 x 3 squares too, leave the witness :data:`FEWEST` questions;
    where there is none, the fullest without maps under squares.

    Raises:
        InputError: the budget cannot hold, whatever is left out; it says which would.
    """
    if is_cheap(explainer):
        return Plan(budget - OVERHEAD, explainer)
    cost = _cost(explainer, model, hardware)
    left = budget - BESIDES - ANEW * cost.first - cost.map * (len(views(explainer)) + FURTHER)
    if cost.map <= AFFORDED:
        # at most half of the squares are of the middle size
        questions = int(left / (1 + (cost.map - 1) / 2))
        if questions >= FEWEST:
            return Plan(questions, explainer)
    known = [(draft, *_drafted(explainer, draft, cost, model, hardware)) for draft in drafts(explainer)]
    for draft, own, maps in known:
        room = budget - maps - FEWEST
        if cost.map > AFFORDED and room >= own * ALONG[-1] ** 2:
            along = next(a for a in ALONG if a == ALONG[-1] or own * a**2 <= room // 2)
            return Plan(FEWEST + room - own * along**2, draft, along)
    for draft, _, maps in known:
        if budget - maps >= FEWEST:
            return Plan(budget - maps, draft, None)
    least = min(maps for *_, maps in known) + FEWEST
    raise InputError(
        f"a map of {explainer!r} takes {cost.map} forward passes, and an audit of it at least {least} per photo; got a "
        f"budget of {budget}. Give --budget {least}, or another explainer"
    )


def least_budget(explainer: Explainer, model: Classifier, hardware: Hardware = Hardware()) -> int:
    """The fewest forward passes per photo of which an audit of this explainer's maps can tell."""
    if is_cheap(explainer):
        return OVERHEAD + FEWEST
    cost = _cost(explainer, model, hardware)
    return FEWEST + min(_drafted(explainer, draft, cost, model, hardware)[1] for draft in drafts(explainer))


def map_cost(explainer: Explainer, model: Classifier, hardware: Hardware = Hardware()) -> int:
    """Forward passes that one map takes besides the photo's own, counted on a grey photo; 0 where it comes with it."""
    return 0 if is_cheap(explainer) else _cost(explainer, model, hardware).map


class _Cost(NamedTuple):
    """Forward passes of one map, and how many more the first map of images of a shape takes."""

    map: int
    first: int


def _cost(explainer: Explainer, model: Classifier, hardware: Hardware) -> _Cost:
    grey = hardware.bring(torch.full((1, model.channels, *model.input_shape), 0.5))
    target = torch.zeros(1, dtype=torch.long, device=grey.device)
    counts = []
    # a copy, of which nothing is known yet
    fresh = copy.deepcopy(model)
    for _ in range(2):
        with hardware.autocast(), counting(fresh) as passes:
            explainer(fresh, grey, target)
        counts.append(passes.forward)
    return _Cost(counts[1], counts[0] - counts[1])


def _drafted(
    explainer: Explainer, draft: Explainer, cost: _Cost, model: Classifier, hardware: Hardware
) -> tuple[int, int]:
    """Passes of one map of the draft, and of all that is asked but the witness and the maps under squares."""
    if draft == explainer:
        return cost.map, BESIDES + ANEW * cost.first + cost.map * (len(views(explainer)) + FURTHER)
    own = _cost(draft, model, hardware).map
    return own, BESIDES + ANEW * cost.first + cost.map + own * (len(views(explainer)) + FURTHER)


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
