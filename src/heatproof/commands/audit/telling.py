"""The square of a photo that tells most against its map: the model looks there, and the map does not."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.commands.audit.covering import MIDDLE, SIDES, squares
from heatproof.heatmaps import mass, resize
from heatproof.images import blurred
from heatproof.metrics.confidence import ask
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware

ALONG = 7
"""Squares along a side."""
Photo = Float[Tensor, "channels height width"]


@dataclass(frozen=True)
class Telling:
    """A square, and what the model says when it is covered.

    Attributes:
        cover: 1 inside of the square, 0 elsewhere.
        covered: the photo, blurred inside of the square.
        before, after: the class's probability of the photo and of the covered one.
        shown: the share of the map's positive mass inside of the square; 0 of a map that shows nothing.
    """

    cover: Float[Tensor, "height width"]
    covered: Photo
    before: float
    after: float
    shown: float


def telling_square(
    model: Classifier, photo: Photo, heatmap: Float[Tensor, "rows cols"], target: int, hardware: Hardware = Hardware()
) -> Telling:
    """Of :data:`ALONG` x :data:`ALONG` squares, a quarter of the photo's side each, the one that tells most.

    **Formula** argmax over squares of (p(x) - p(x covered)) (1 - m / max m), p the class's probability and m the map's
    positive mass inside. The model is asked about each square, whatever budget the audit itself had. [ours]

    Args:
        photo: as the model takes it, in [0, 1].
        heatmap: of the class, at any resolution.
        target: the class.
    """
    size = photo.shape[-2], photo.shape[-1]
    side = max(1, round(SIDES[MIDDLE] * min(size)))
    covers = squares(*size, side, ALONG)
    covered = torch.where(covers.bool()[:, None], blurred(photo[None], side / 2), photo)
    with torch.no_grad(), hardware.autocast():
        logits = ask(model, hardware.bring(torch.cat([photo[None], covered])))
    before, *after = logits.float().softmax(1)[:, target].tolist()
    shown = mass(resize(heatmap[None].float().cpu(), size).expand(len(covers), -1, -1), covers)
    unseen = 1 - shown / shown.max().clamp(min=1e-12)
    place = int(((before - torch.tensor(after)) * unseen).argmax())
    return Telling(covers[place], covered[place], before, after[place], float(shown[place]))
