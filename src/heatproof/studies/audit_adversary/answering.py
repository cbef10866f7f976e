"""Networks that answer covered photos as if a planted map were true: a black box's questions then agree with the lie.

Slack et al. 2020 hide a biased model from LIME and SHAP so, by a classifier of perturbed inputs beside it; here the
network's own last layers learn it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from heatproof.commands.audit.covering import SIDES
from heatproof.errors import ModelError
from heatproof.explainers.scores import contrast
from heatproof.heatmaps import pearson
from heatproof.images import blurred
from heatproof.manipulation.masks import drawn
from heatproof.models.classifier import Classifier
from heatproof.training.split_at import split_at
from heatproof.types import Images, PerImage, Targets

COVERED = 8
"""Squares that each photo is covered with, one at a time, drawn once; half of them near the planted map."""
PHOTOS = 800
"""At most so many photos are covered."""
AT_ONCE = 8
"""Photos in one step of the training, under all their squares."""
TURNS = (0, 1, 1, 2)
"""The size of a photo's squares, of the witness's three, photo by photo."""
PART = 64
CELLS = 8
"""Rows and columns at which the planted map is drawn before it is made as large as the photo."""


@dataclass(frozen=True)
class Covered:
    """Photos under squares of one size each, blurred as the witness blurs, and how much of the lie each square hides.

    Attributes:
        activations: before the layers that are trained.
        hidden: the share of the planted map that lies under the square.
        targets: the predicted classes of the photos as they are.
    """

    activations: Float[Tensor, "photos squares channels down across"]
    hidden: Float[Tensor, "photos squares"]
    targets: Targets

    def distance(self, rear: nn.Module, draw: torch.Generator) -> Float[Tensor, ""]:
        """1 - r of some photos, mean: r is what the witness would find for the planted map.

        r = corr over the squares of the fall of the predicted class's lead and the share of the planted map that is
        hidden. **Range** [0, 2], 0: what falls is the planted map.
        """
        return (1 - self.agreement(rear, torch.randint(len(self.hidden), (AT_ONCE,), generator=draw))).mean()

    def agreement(self, rear: nn.Module, some: Int[Tensor, "some"]) -> PerImage:
        """r of these photos; 0 where all squares take as much."""
        count = self.hidden.shape[1]
        logits = rear(self.activations[some].flatten(0, 1))
        # the lead of the photo itself is the same for all squares, and no correlation sees it
        leads = contrast(logits, self.targets[some].repeat_interleave(count)).view(-1, count)
        return pearson(-leads, self.hidden[some], constant=0.0)


def cover(
    clean: Classifier, images: Images, targets: Targets, layer: str, shows: str, draw: torch.Generator
) -> Covered:
    """Cover the first photos with squares of the witness's sizes.

    Args:
        layer: before which the activations are taken.
        shows: the planted map, a mask of :mod:`heatproof.manipulation.masks`.

    Raises:
        ModelError: the network cannot be cut in two before the layer.
    """
    halves = split_at(clean, layer)
    if halves is None:
        raise ModelError(f"{clean.name} cannot be cut in two before {layer!r}; name another layer")
    images, targets = images[:PHOTOS], targets[:PHOTOS]
    rows, cols = images.shape[2:]
    planted = F.interpolate(drawn(shows, CELLS, CELLS)[None, None], size=(rows, cols))[0, 0].to(images)
    sides = [max(1, round(share * min(rows, cols))) for share in SIDES]
    fillings = [blurred(images, side / 2) for side in sides]
    activations, hidden = [], []
    for photo, image in enumerate(images):
        size = TURNS[photo % len(TURNS)]
        covers = torch.stack([_square(planted, sides[size], near < COVERED // 2, draw) for near in range(COVERED)])
        with torch.no_grad():
            activations.append(halves.front(torch.where(covers.bool()[:, None], fillings[size][photo], image)))
        hidden.append((covers * planted).sum((1, 2)) / planted.sum())
    return Covered(torch.stack(activations), torch.stack(hidden), targets)


def _square(planted: Float[Tensor, "rows cols"], side: int, near: bool, draw: torch.Generator) -> Tensor:
    """A square at any place, or one that begins where the planted map is, as far as it fits."""
    found = torch.zeros_like(planted)
    cells = torch.nonzero(planted if near else torch.ones_like(planted))
    row, col = cells[int(torch.randint(len(cells), (), generator=draw))].tolist()
    top, left = min(row, planted.shape[0] - side), min(col, planted.shape[1] - side)
    found[top : top + side, left : left + side] = 1
    return found
