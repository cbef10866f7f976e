"""What a repair pulls the maps to: which parts of a photo the checkpoint's answer hangs on, asked as a black box.

No change of the weights moves these maps without moving the answers, and the answers are what a fooling keeps; one that
answers half-blurred photos otherwise than it would could lie here too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import InputError, RunError
from heatproof.explainers.occlusion import masked_scores
from heatproof.images import blurred
from heatproof.models.hardware import Hardware
from heatproof.models.intact import evaluating
from heatproof.tensor_files import is_finite
from heatproof.training.feeds import Feed
from heatproof.training.state import Checkpoint
from heatproof.types import Heatmaps, Images, PerImage, Targets

CELLS = 8
"""Rows and columns of a witness at most: the questions say nothing finer, and maps are compared at this size."""
GRID = 4
"""Rows and columns of the cells that are kept or blurred together."""
QUESTIONS = 48
"""Per photo, half of them the complements of the others."""
RIDGE = 1.0
"""Of the regression, in questions per cell."""
PART = 64
"""Photos whose witness is asked between two checkpoints."""

Maps = Float[Tensor, "photos down across"]


@dataclass(frozen=True)
class Witness:
    """Black-box maps of photos for the classes that the checkpoint predicts, at the size of its heatmaps.

    Each question keeps about half of the cells of a coarse grid, softly, and blurs the rest; the map is how far each
    cell raises y_c - mean of the other logits, by ridge regression over all questions. **Range** signed, in units of
    the logits.

    Args:
        maps: by position in the feed.
    """

    maps: Maps

    def at(self, positions: Tensor) -> Maps:
        """The maps of these photos."""
        return self.maps[positions.cpu()]

    @property
    def silent(self) -> bool:
        """Whether no part of any photo changes any answer."""
        return bool((self.maps.flatten(1).std(1) < 1e-6).all())


def ask_witness(
    model: torch.nn.Module,
    feed: Feed,
    size: tuple[int, int],
    hardware: Hardware,
    checkpoint: Checkpoint | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Witness:
    """Blur parts of every photo of a feed that does not change.

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
        with torch.no_grad(), evaluating(model):
            targets = model(images).argmax(1)
            with hardware.autocast():
                found = black_box_maps(model, images, targets)
        maps[fed.positions] = F.adaptive_avg_pool2d(found[:, None], (rows, cols))[:, 0].cpu()
        if checkpoint is not None:
            checkpoint.save({"maps": maps, "done": int(fed.positions[-1]) + 1, "questions": QUESTIONS})
        advance(len(fed.positions))
    return Witness(maps)


def black_box_maps(model: torch.nn.Module, images: Images, targets: Targets) -> Maps:
    """How far each cell raises the lead of the class explained, at the resolution of the pixels.

    w = argmin sum over questions q of (s_q - mean s - (z_q - mean z) w)^2 + ridge |w|^2; z_q is 1 for the cells that
    are kept and 0 for those that are blurred, s_q = y_c - mean of the other logits of the photo so blurred. The masks
    are the grids z_q, made as large as the photo bilinearly, as w is; the blur is a Gaussian as wide as a cell.

    **Source** the regression over parts that are kept is Ribeiro et al. 2016 (LIME), soft grids are Petsiuk et al. 2018
    (RISE); complements in pairs, the blur and the lead are ours.
    """
    rows, cols = images.shape[2:]
    kept = grids().to(images)
    masks, filling = blurred_parts(images, kept)
    scored = masked_scores(model, images, filling, masks, targets, "contrast", PART)
    scores = torch.cat([scores for _, scores in scored], 1).float()
    # the complements make the mean of each cell one half, so that the mean of the scores is what nothing explains
    cells = kept.flatten(1).float() - 0.5
    normal = cells.T @ cells + RIDGE * torch.eye(cells.shape[1]).to(cells)
    found = torch.linalg.solve(normal, cells.T @ (scores - scores.mean(1, keepdim=True)).T).T
    return _as_large(found.reshape(-1, GRID, GRID), rows, cols)


def blurred_parts(
    images: Images, kept: Float[Tensor, "questions down across"]
) -> tuple[Float[Tensor, "questions rows cols"], Images]:
    """What each question keeps of every pixel, a share, and what the pixel becomes where it is not kept.

    >>> masks, filling = blurred_parts(torch.rand(2, 3, 8, 8), grids())
    >>> list(masks.shape), list(filling.shape)
    ([48, 8, 8], [2, 3, 8, 8])
    """
    rows, cols = images.shape[2:]
    return _as_large(kept, rows, cols), blurred(images, min(rows, cols) / GRID)


def grids() -> Float[Tensor, "questions down across"]:
    """Which cells each question keeps: drawn once for all, with the complement of each.

    >>> bool((grids().mean(0) == 0.5).all()), len(grids())
    (True, 48)
    """
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.rand((QUESTIONS // 2, GRID, GRID), generator=generator) < 0.5).float()
    return torch.cat([drawn, 1 - drawn])


def questions() -> int:
    """Forward passes per photo.

    >>> questions()
    49
    """
    return 1 + QUESTIONS


def _as_large(cells: Tensor, rows: int, cols: int) -> Tensor:
    return F.interpolate(cells[:, None], size=(rows, cols), mode="bilinear", align_corners=False)[:, 0]


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
    # an older version asked other questions
    same = saved.get("questions") == QUESTIONS
    if not whole or not same or not isinstance(found, Tensor) or not is_finite(found) or type(done) is not int:
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
