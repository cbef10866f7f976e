"""The witness of an audit: it only asks the model, so no change of the weights fools it without changing the answers.

Squares of three sizes are filled with a blurred version of the photo, and the model says how much of its answer goes.
What was compared with it is written down in docs/methods/audit.md.
"""

from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import InputError
from heatproof.explainers.scores import Score, explained
from heatproof.explainers.together import LayerExplainer
from heatproof.heatmaps import resize
from heatproof.images import blurred
from heatproof.metrics.agreement import patch_correlation
from heatproof.metrics.confidence import ask
from heatproof.metrics.removal import together
from heatproof.models.classifier import Classifier
from heatproof.models.fused import FusedConvolutions
from heatproof.types import Explainer, Heatmaps, Images, Logits, PerImage, Targets

SIDES = (1 / 8, 1 / 4, 3 / 8)
"""Of the squares, as shares of the photo's shorter side."""
STEPS = (11, 9, 8)
"""Places of each size along a side, for 266 questions; fewer questions take fewer places of every size."""
SCORES: tuple[Score, ...] = ("probability", "contrast")
"""What is watched: the probability sees what decides, the logit's lead over the others what adds to a sure answer."""
MIDDLE = 1
"""Which size of the squares the map is asked about as well."""
JUMP, UNSEEN, LEAST = 0.7, 2.0, 1e-3
FEWEST = 17
"""Questions: with fewer, a size has less than two places along a side."""

AT_ONCE = 64
"""Photos in one forward pass on a CPU: measured with ResNet-20 at 32 pixels, 64 take 0.6 of the time of 256."""

Covers = Float[Tensor, "patches height width"]


class Answers(NamedTuple):
    """What the model said of the photos and of the photos under every square; sizes follow each other.

    Attributes:
        logits: of the photos.
        covers: 1 where a square covers.
        covered: the logits under the squares.
        maps: under some squares the maps of the photos' classes; ``None`` without an explainer.
        beneath: which squares these are; ``None``: those of the middle size.
    """

    logits: Logits
    covers: Covers
    covered: Float[Tensor, "batch patches classes"]
    sizes: tuple[int, ...]
    maps: Float[Tensor, "batch some rows cols"] | None = None
    beneath: Covers | None = None

    def drops(self, targets: Targets, score: Score) -> Float[Tensor, "batch patches"]:
        """How far the score of each image's class fell under the squares."""
        count, patches = self.covered.shape[:2]
        after = explained(self.covered.flatten(0, 1), targets.repeat_interleave(patches), score)
        return explained(self.logits, targets, score)[:, None] - after.view(count, patches)


def places(questions: int) -> tuple[int, ...]:
    """Along a side, for each size of the squares, so that all together are at most so many questions.

    >>> places(266), places(100)
    ((11, 9, 8), (7, 5, 5))

    Raises:
        InputError: fewer than :data:`FEWEST`.
    """
    if questions < FEWEST:
        raise InputError(f"the witness needs at least {FEWEST} questions per photo, got {questions}")
    share = (questions / sum(step**2 for step in STEPS)) ** 0.5
    found = [max(2, int(share * step + 1e-9)) for step in STEPS]
    for size in range(len(found)):
        if sum(step**2 for step in found) + 2 * found[size] + 1 <= questions:
            found[size] += 1
    return tuple(found)


def squares(rows: int, cols: int, side: int, along: int) -> Covers:
    """``along`` x ``along`` squares, evenly spread from border to border, where fewer fit as many as fit."""

    def starts(length: int) -> list[int]:
        return sorted({round(place * (length - side) / max(1, along - 1)) for place in range(along)})

    corners = [(top, left) for top in starts(rows) for left in starts(cols)]
    covers = torch.zeros(len(corners), rows, cols)
    for cover, (top, left) in zip(covers, corners, strict=True):
        cover[top : top + side, left : left + side] = 1
    return covers


def question(
    model: Classifier,
    images: Images,
    questions: int,
    logits: Logits | None = None,
    explainer: Explainer | None = None,
    targets: Targets | None = None,
    along: int = 0,
) -> Answers:
    """Ask the model about every photo with every square covered.

    Args:
        questions: forward passes per photo, at most.
        logits: of the photos themselves, where they are known already.
        explainer: also keep its maps of ``targets`` under squares.
        along: so many of these lie along a side, and are large enough to reach every place; 0: they are the witness's
            own of the middle size, whose logits come along.
    """
    rows, cols = images.shape[2:]
    logits = ask(model, images) if logits is None else logits
    found: list[tuple[Covers, Tensor]] = []
    maps, asked = None, FusedConvolutions()
    for size, (share, steps) in enumerate(zip(SIDES, places(questions), strict=True)):
        side = max(1, round(share * min(rows, cols)))
        covers = squares(rows, cols, side, steps).to(images)
        middle = explainer if size == MIDDLE and not along and targets is not None else None
        # maps are read from a layer, which is then computed otherwise than where nobody reads it
        fused = asked if middle is None else FusedConvolutions()
        after, own = _covered(model, images, blurred(images, side / 2), covers, middle, targets, fused)
        found.append((covers, after))
        maps = own if middle is not None else maps
    covers, covered = torch.cat([c for c, _ in found]), torch.cat([s for _, s in found], 1)
    beneath = None
    if along and explainer is not None and targets is not None:
        side = max(1, ceil(max(SIDES[MIDDLE], 1 / along) * max(rows, cols)))
        beneath = squares(rows, cols, min(side, rows, cols), along).to(images)
        _, maps = _covered(model, images, blurred(images, side / 2), beneath, explainer, targets, None)
    return Answers(logits, covers, covered, tuple(len(c) for c, _ in found), maps, beneath)


def _covered(
    model: Classifier,
    images: Images,
    filling: Images,
    covers: Covers,
    explainer: Explainer | None,
    targets: Targets | None,
    fused: FusedConvolutions | None,
) -> tuple[Float[Tensor, "batch patches classes"], Tensor | None]:
    logits, maps = [], []
    gone = covers.bool()[:, None]
    pairs = torch.arange(len(images) * len(covers), device=images.device)
    at_once = min(AT_ONCE, together(images)) if images.device.type == "cpu" else together(images)
    if explainer is not None and not isinstance(explainer, LayerExplainer):
        # some make sure of every new shape by a pass more: no shape but the batch's own
        at_once = min(at_once, len(images))
    for some in pairs.split(at_once):
        image, cover = some // len(covers), some % len(covers)
        # channels last: a third faster on a CPU, and the weights may stay as they lie
        mixed = torch.where(gone[cover], filling[image], images[image]).contiguous(memory_format=torch.channels_last)
        if explainer is None or targets is None:
            passed = partial(ask, model, mixed)
            logits.append(passed() if fused is None else fused.run(passed))
        else:
            made = partial(explainer, model, mixed, targets[image])
            # drafts of dear maps hook, repeat and differentiate passes as they like
            explanation = made() if fused is None else fused.run(made)
            logits.append(explanation.logits.detach().float())
            maps.append(explanation.heatmaps.detach().float())
    shape = (len(images), len(covers))
    heat = torch.cat(maps) if maps else None
    return torch.cat(logits).unflatten(0, shape), None if heat is None else heat.unflatten(0, shape)


def agreement(
    heatmaps: Heatmaps, answers: Answers, targets: Targets, scores: Sequence[Score] = SCORES, *, pooled: bool = False
) -> PerImage:
    """How well the map foretells the witness: patch correlations, averaged over the sizes and the scores.

    **Range** [-1, 1], 1: the map's mass under every square says what the model loses there; NaN for a map or answers
    that are equal everywhere.

    Args:
        pooled: one correlation over the squares of all sizes. Larger squares hold more of any map and take more of any
            answer, which lifts the value of all networks alike; it tells photos apart better, and networks worse.
    """
    found = []
    for score in scores:
        drops = answers.drops(targets, score)
        parts = [(drops, answers.covers)]
        if not pooled:
            parts = list(zip(drops.split(answers.sizes, 1), answers.covers.split(answers.sizes), strict=True))
        found += [patch_correlation(heatmaps, own, covers) for own, covers in parts]
    # squares under which nothing happens tell nothing, and leave it to the others
    return torch.stack(found).nanmean(0)


def jump(heatmap: Heatmaps, answers: Answers) -> PerImage:
    """How much more the map changes beside one square than beside most: what a covered trigger does.

    log of (d_max + 0.001) / (d_median + 0.001), d = |h - h_m| / |h| over the cells that square m leaves open, h the map
    of the photo and h_m that of the photo under the square. What goes with the covered cells themselves does not count:
    an honest map loses there what the square hides.
    **Range** [0, inf), 0: all squares change it equally; NaN where the maps were not asked for, or the map is empty.
    """
    if answers.maps is None:
        return heatmap.new_full((len(heatmap),), torch.nan)
    first = sum(answers.sizes[:MIDDLE])
    middle = answers.covers[first : first + answers.sizes[MIDDLE]]
    covers = middle if answers.beneath is None else answers.beneath
    rows, cols = heatmap.shape[1:]
    left = 1 - F.adaptive_avg_pool2d(covers[None], (rows, cols)).to(heatmap)
    away = ((heatmap[:, None] - answers.maps) * left).flatten(2).norm(dim=2)
    away = away / heatmap.flatten(1).norm(dim=1)[:, None]
    return ((away.amax(1) + LEAST) / (away.median(1).values + LEAST)).log()


def unseen(heatmaps: Heatmaps, answers: Answers, targets: Targets, score: Score = "probability") -> PerImage:
    """How far the square that takes most of the answer stands out, less what the map shows there.

    max_m [ z(fall of the score)_m - max(z(mass of the map)_m, 0) ] / sqrt(M - 1), both standardised over the M squares
    of one size, averaged over the sizes; sqrt(M - 1) is how far one of M values can stand out. A trigger that decides
    the answer alone is such a square, and the map that hides it does not show it.

    **Range** at most 1: one square alone takes the answer, and the map shows nothing there; 0: the map stands out
    wherever the answer does; NaN for answers that are equal everywhere.
    """
    rows, cols = answers.covers.shape[1:]
    fine = heatmaps if heatmaps.shape[1:] == answers.covers.shape[1:] else resize(heatmaps, (rows, cols))
    shown = torch.einsum("nhw,mhw->nm", fine, answers.covers.to(fine))
    falls = answers.drops(targets, score)
    found = [
        (_standard(fall) - torch.nan_to_num(_standard(mass)).clamp(min=0)).amax(1) / (fall.shape[1] - 1) ** 0.5
        for fall, mass in zip(falls.split(answers.sizes, 1), shown.split(answers.sizes, 1), strict=True)
    ]
    return torch.stack(found).nanmean(0)


def _standard(values: Float[Tensor, "batch squares"]) -> Float[Tensor, "batch squares"]:
    away = values - values.mean(1, keepdim=True)
    return away / away.square().mean(1, keepdim=True).sqrt()


def trust(pooled: PerImage, jump: PerImage, unseen: PerImage) -> PerImage:
    """One number per photo: pooled agreement - 0.7 jump - 2 unseen, without those that are not known.

    A lie that keeps the label shows in the jump, a changed label in what is unseen. How the weights were chosen, and on
    which backdoored networks they were tested, stands in docs/methods/audit.md.
    """
    return pooled - JUMP * torch.nan_to_num(jump, nan=0.0) - UNSEEN * torch.nan_to_num(unseen, nan=0.0)


def witness_map(answers: Answers, falls: Float[Tensor, "batch patches"]) -> Heatmaps:
    """The witness's own map: at each pixel the mean fall over the squares that cover it, averaged over the sizes.

    Args:
        falls: under every square, as :meth:`Answers.drops` tells them.
    """
    maps = []
    for own, covers in zip(falls.split(answers.sizes, 1), answers.covers.split(answers.sizes), strict=True):
        maps.append(torch.einsum("nm,mhw->nhw", own, covers.to(own)) / covers.sum(0).clamp(min=1))
    return torch.stack(maps).mean(0)
