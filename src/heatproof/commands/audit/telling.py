"""The square of a photo that tells most against its map: the model looks there, and the map does not."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.commands.audit.covering import MIDDLE, SIDES, STEPS, squares
from heatproof.heatmaps import mass, resize
from heatproof.images import blurred
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware

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
    model: Classifier,
    photo: Photo,
    heatmap: Float[Tensor, "rows cols"],
    witness: Float[Tensor, "high wide"],
    target: int,
    hardware: Hardware = Hardware(),
) -> Telling:
    """The square of a quarter of the photo's side whose share of the witness exceeds that of the map most.

    Shares are of the positive parts. The witness only proposes: the model is asked again about this square. [ours]

    Args:
        photo: as the model takes it, in [0, 1].
        heatmap: of the class, at any resolution, and ``witness`` likewise.
        target: the class.
    """
    size = photo.shape[-2], photo.shape[-1]
    side = max(1, round(SIDES[MIDDLE] * min(size)))
    covers = squares(*size, side, STEPS[MIDDLE])
    shown, looked = (
        mass(resize(found[None].float().cpu(), size).expand(len(covers), -1, -1), covers)
        for found in (heatmap, witness)
    )
    place = int((looked - shown).argmax())
    cover = covers[place]
    blur = blurred(photo[None], side / 2)[0]
    covered = torch.where(cover.bool(), blur, photo)
    with torch.no_grad(), hardware.autocast():
        logits = model(hardware.bring(torch.stack([photo, covered])))
    before, after = logits.float().softmax(1)[:, target].tolist()
    return Telling(cover, covered, before, after, float(shown[place]))
