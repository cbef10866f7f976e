"""The square of a photo that tells most against its map: the model looks there, and the map does not."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.commands.audit.covering import MIDDLE, SIDES, squares
from heatproof.explainers.scores import explained
from heatproof.heatmaps import mass, resize
from heatproof.images import blurred
from heatproof.metrics.confidence import ask
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware

ALONG = 7
"""Squares along a side."""
CHANGED = 0.05
Photo = Float[Tensor, "channels height width"]


@dataclass(frozen=True)
class Telling:
    """A square, and what the model says when it is covered.

    Attributes:
        cover: 1 inside of the square, 0 elsewhere.
        covered: the photo, blurred inside of the square.
        before, after: the class's probability of the photo and of the covered one.
        named: the class that is most probable for the covered photo.
        shown: the share of the map's positive mass inside of the square; 0 of a map that shows nothing.
        losses: what the class's lead loses, in logits, when the square around each place is covered.
        loss: likewise, of this square.
    """

    cover: Float[Tensor, "height width"]
    covered: Photo
    before: float
    after: float
    named: int
    shown: float
    losses: Float[Tensor, "rows cols"]
    loss: float

    @property
    def changes(self) -> bool:
        """Whether a reader would say that covering it changed the answer: the probability by a twentieth or more."""
        return self.before - self.after >= CHANGED


def telling_square(
    model: Classifier, photo: Photo, heatmap: Float[Tensor, "rows cols"], target: int, hardware: Hardware = Hardware()
) -> Telling:
    """Of :data:`ALONG` x :data:`ALONG` squares, a quarter of the photo's side each, the one that tells most.

    **Formula** argmax over squares of (c(x) - c(x covered)) (1 - m / max m), c the lead of the class's logit over the
    others' mean and m the map's positive mass inside: a probability near 1 is lost nowhere, and says no place. The
    model is asked about each square, whatever budget the audit itself had. [ours]

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
    logits = logits.float().cpu()
    lead = explained(logits, torch.full((len(logits),), target), "contrast")
    probabilities = logits.softmax(1)[:, target].tolist()
    shown = mass(resize(heatmap[None].float().cpu(), size).expand(len(covers), -1, -1), covers)
    unseen = 1 - shown / shown.max().clamp(min=1e-12)
    losses = lead[0] - lead[1:]
    place = int((losses * unseen).argmax())
    after, named = probabilities[place + 1], int(logits[place + 1].argmax())
    return Telling(
        covers[place],
        covered[place],
        probabilities[0],
        after,
        named,
        float(shown[place]),
        _by_place(losses),
        float(losses[place]),
    )


def _by_place(losses: Float[Tensor, "squares"]) -> Float[Tensor, "rows cols"]:
    """Each place has what is lost with the square whose middle is nearest.

    The middles lie at 1/8, 2/8, ... 7/8 of a side: in sixteenths, those at the edge have three and the others two.
    """
    widths = torch.full((ALONG,), 2)
    widths[[0, -1]] = 3
    return losses.view(ALONG, ALONG).repeat_interleave(widths, 0).repeat_interleave(widths, 1)
