"""What a repair pulls the maps to: which squares of a photo the checkpoint's answer hangs on, asked as a black box.

No change of the weights moves these maps without moving the answers, and the answers are what a fooling keeps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import InputError, RunError
from heatproof.explainers.occlusion import Occlusion, patch_places
from heatproof.models.hardware import Hardware
from heatproof.models.intact import evaluating
from heatproof.tensor_files import is_finite
from heatproof.training.feeds import Feed
from heatproof.training.state import Checkpoint
from heatproof.types import Heatmaps, PerImage

CELLS = 8
"""Rows and columns of a witness at most: the squares say nothing finer, and maps are compared at this size."""
SQUARES = ((1 / 4, 3 / 4), (3 / 8, 5 / 6), (1 / 2, 1 / 2))
"""Sides as shares of the photo's shorter side, and steps as shares of the side: 43 questions for a square photo."""
PART = 64
"""Photos whose witness is asked between two checkpoints."""

Maps = Float[Tensor, "photos down across"]


@dataclass(frozen=True)
class Witness:
    """Occlusion maps of photos for the classes that the checkpoint predicts, at the size of its heatmaps.

    Mean over squares of three sizes of the fall of y_c - mean of the other logits when the square is filled with a
    blurred version of the photo. **Range** signed, in units of the logits.

    Args:
        maps: by position in the feed.
    """

    maps: Maps

    def at(self, positions: Tensor) -> Maps:
        """The maps of these photos."""
        return self.maps[positions.cpu()]

    @property
    def silent(self) -> bool:
        """Whether no square of any photo changes any answer."""
        return bool((self.maps.flatten(1).std(1) < 1e-6).all())


def ask_witness(
    model: torch.nn.Module,
    feed: Feed,
    size: tuple[int, int],
    hardware: Hardware,
    checkpoint: Checkpoint | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Witness:
    """Cover squares of every photo of a feed that does not change.

    Args:
        size: rows and columns of the heatmaps that will be compared.
        checkpoint: makes it resumable.
        advance: called with the number of photos that were asked about.

    Raises:
        RunError: the checkpoint holds something else.
    """
    rows, cols = (min(side, CELLS) for side in size)
    maps = torch.zeros(len(feed), rows, cols)
    done = _resume(checkpoint, maps)
    advance(done)
    for fed in feed.ordered(PART):
        if int(fed.positions[-1]) < done:
            continue
        images = fed.images.to(hardware.place)
        with torch.no_grad(), evaluating(model), hardware.autocast():
            targets = model(images).argmax(1)
            found = [square(model, images, targets).heatmaps for square in squares(*images.shape[2:])]
        fine = torch.stack(found).mean(0).float()
        maps[fed.positions] = F.adaptive_avg_pool2d(fine[:, None], (rows, cols))[:, 0].cpu()
        if checkpoint is not None:
            checkpoint.save({"maps": maps, "done": int(fed.positions[-1]) + 1})
        advance(len(fed.positions))
    return Witness(maps)


def squares(rows: int, cols: int) -> list[Occlusion]:
    """The occlusions that are averaged, for photos of this size.

    >>> [(square.patch, square.stride) for square in squares(32, 32)]
    [(8, 6), (12, 10), (16, 8)]
    """
    sides = [(max(1, round(side * min(rows, cols))), step) for side, step in SQUARES]
    return [
        Occlusion(patch=side, stride=max(1, round(side * step)), fill="blur", score="contrast") for side, step in sides
    ]


def questions(rows: int, cols: int) -> int:
    """Forward passes per photo.

    >>> questions(32, 32)
    44
    """
    return 1 + sum(len(patch_places(rows, cols, s.patch or 1, s.stride or 1)) for s in squares(rows, cols))


def likeness(heatmaps: Heatmaps, witness: Float[Tensor, "batch down across"]) -> PerImage:
    """Cosine of the signed maps, each without its mean, at the witness's size.

    **Range** [-1, 1], up is better; 0 where one of the two is the same everywhere.

    >>> witness = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    >>> [round(likeness(maps, witness).item(), 4) for maps in (witness * 5 + 2, -witness)]
    [1.0, -1.0]
    """
    coarse = heatmaps
    if heatmaps.shape[1:] != witness.shape[1:]:
        coarse = F.adaptive_avg_pool2d(heatmaps[:, None], (witness.shape[1], witness.shape[2]))[:, 0]
    centred = [maps.flatten(1) - maps.flatten(1).mean(1, keepdim=True) for maps in (coarse, witness.to(coarse))]
    return F.cosine_similarity(*centred, dim=1, eps=1e-12)


def _resume(checkpoint: Checkpoint | None, maps: Maps) -> int:
    saved = checkpoint.load() if checkpoint is not None else None
    if saved is None:
        return 0
    found, done = saved.get("maps"), saved.get("done")
    whole = isinstance(found, Tensor) and found.shape == maps.shape and found.dtype == maps.dtype
    if not whole or not isinstance(found, Tensor) or not is_finite(found) or type(done) is not int:
        raise RunError(f"{checkpoint} holds no witness of these {len(maps)} photos; delete it to begin anew")
    if not 0 <= done <= len(maps):
        raise RunError(f"{checkpoint} says {done} of {len(maps)} photos were asked about; delete it to begin anew")
    maps.copy_(found)
    return done


def check_hearing(witness: Witness, predicted: Tensor, name: str) -> None:
    """Stop photos of which the model knows nothing.

    Raises:
        InputError: it calls all of them the same, or nothing in any of them matters to it.
    """
    if len(predicted.unique()) < 2:
        raise InputError(
            f"{name} calls all {len(predicted)} photos the same class, so they are not of the kind that it knows; give "
            "photos such as those that it is used on, of several classes"
        )
    if witness.silent:
        raise InputError(
            f"nothing in any of the photos changes what {name} answers, so they say nothing of what it looks at; give "
            "photos such as those that it is used on"
        )
