"""Black-box maps: they only query the model, so they cannot be fooled without changing what it answers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.explainers.scores import Score, explained
from heatproof.explainers.together import predict
from heatproof.images import blurred
from heatproof.models.classifier import check_images, resolve_targets
from heatproof.types import Classes, Explanation, Images, PerImage, Targets, settings

Masks = Float[Tensor, "masks rows cols"]
"""1 where a pixel is kept, 0 where it is filled."""


@settings
class Occlusion:
    """How far the score falls when a patch is covered.

    heatmap at a pixel = mean of y_c(x) - y_c(x with the patch filled) over the patches that cover it.

    **Source** Zeiler & Fergus 2014. **Range** signed, in the score's unit, at the resolution of the pixels.

    Args:
        patch: side of the square patch in pixels; ``None``: an eighth of the image's shorter side.
        stride: step between patches; ``None``: half the patch. The last patch ends at the border.
        fill: a grey value in [0, 1], ``"mean"`` (the image's own, per channel), or ``"blur"`` (the image through a
            Gaussian as wide as the patch).
        score: the number that is watched.
        at_once: images in one forward pass (memory only; the numbers do not depend on it).
    """

    patch: int | None = None
    stride: int | None = None
    fill: float | Literal["mean", "blur"] = "mean"
    score: Score = "logit"
    at_once: int = 64
    signed = True

    def __post_init__(self) -> None:
        for name, value in (("patch", self.patch), ("stride", self.stride)):
            if value is not None and value < 1:
                raise InputError(f"an occlusion {name} is at least 1 pixel, got {value}")

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        check_images(model, images)
        rows, cols = images.shape[2:]
        patch = self.patch or max(1, min(rows, cols) // 8)
        if patch > min(rows, cols):
            raise InputError(f"an occlusion patch of {patch} pixels does not fit into images of {rows}x{cols}")
        stride = self.stride or max(1, patch // 2)
        if stride > patch:
            raise InputError(
                f"an occlusion stride of {stride} pixels leaves holes between patches of {patch}, where the map would "
                f"be unknown; give a stride of at most {patch}"
            )
        logits = predict(model, images, create_graph=create_graph)
        targets = resolve_targets(logits, targets, model)
        filling = filling_of(images, self.fill, patch)
        total = torch.zeros_like(images[:, 0])
        start = explained(logits, targets, self.score)
        covered = torch.zeros_like(images[0, 0])
        places = patch_places(rows, cols, patch, stride)
        at_once = max(1, self.at_once // len(images))
        for first in range(0, len(places), at_once):
            # only so many masks at a time as images go through the network
            masks = patch_masks(rows, cols, patch, places[first : first + at_once]).to(images)
            for some, scores in masked_scores(
                model, images, filling, masks, targets, self.score, self.at_once, create_graph=create_graph
            ):
                total = total + torch.einsum("nm,mhw->nhw", start[:, None] - scores, 1 - some)
            covered = covered + (1 - masks).sum(0)
        return Explanation(total / covered, logits, targets)


@settings
class RISE:
    """Randomised input sampling: which pixels are kept when the score stays high.

    heatmap = 1/(N p) sum_i y_c(x * m_i) m_i over N random masks: grids of ``cells`` x ``cells`` kept with
    probability p, upsampled bilinearly and shifted at random.

    **Source** Petsiuk et al. 2018, eq. 6. **Range** [0, 1] for probabilities, at the resolution of the pixels.

    Args:
        masks: N; the error of the map falls with its root.
        cells: side of the coarse grid.
        keep: p.
        seed: the masks are the same for every image and every call.
    """

    masks: int = 4000
    cells: int = 7
    keep: float = 0.5
    score: Score = "probability"
    seed: int = 0
    at_once: int = 64

    @property
    def signed(self) -> bool:
        return self.score != "probability"

    def __post_init__(self) -> None:
        if self.masks < 1 or self.cells < 1 or not 0 < self.keep < 1:
            raise InputError(
                "RISE needs masks and cells of at least 1 and keep in (0, 1), "
                f"got {self.masks}, {self.cells}, {self.keep}"
            )

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        check_images(model, images)
        logits = predict(model, images, create_graph=create_graph)
        targets = resolve_targets(logits, targets, model)
        total = torch.zeros_like(images[:, 0])
        black = torch.zeros_like(images)
        for some in self._masks(*images.shape[2:]):
            for group, scores in masked_scores(
                model, images, black, some.to(images), targets, self.score, self.at_once, create_graph=create_graph
            ):
                total = total + torch.einsum("nm,mhw->nhw", scores, group)
        return Explanation(total / (self.masks * self.keep), logits, targets)

    def _masks(self, rows: int, cols: int) -> Iterator[Masks]:
        """The N masks in groups small enough to hold at once."""
        generator = torch.Generator().manual_seed(self.seed)
        cell = (-(-rows // self.cells), -(-cols // self.cells))
        size = ((self.cells + 1) * cell[0], (self.cells + 1) * cell[1])
        for start in range(0, self.masks, 64):
            count = min(64, self.masks - start)
            grids = (torch.rand((count, 1, self.cells, self.cells), generator=generator) < self.keep).float()
            large = F.interpolate(grids, size=size, mode="bilinear", align_corners=False)[:, 0]
            tops = torch.randint(0, cell[0], (count,), generator=generator).tolist()
            lefts = torch.randint(0, cell[1], (count,), generator=generator).tolist()
            yield torch.stack([m[t : t + rows, s : s + cols] for m, t, s in zip(large, tops, lefts, strict=True)])


def patch_places(rows: int, cols: int, patch: int, stride: int) -> list[tuple[int, int]]:
    """Top and left of each patch."""

    def starts(length: int) -> list[int]:
        regular = list(range(0, length - patch + 1, stride))
        return regular if regular[-1] == length - patch else [*regular, length - patch]

    return [(top, left) for top in starts(rows) for left in starts(cols)]


def patch_masks(rows: int, cols: int, patch: int, places: Sequence[tuple[int, int]]) -> Masks:
    masks = torch.ones(len(places), rows, cols)
    for mask, (top, left) in zip(masks, places, strict=True):
        mask[top : top + patch, left : left + patch] = 0
    return masks


def masked_scores(
    model: nn.Module,
    images: Images,
    filling: Images,
    masks: Masks,
    targets: Targets,
    score: Score,
    at_once: int,
    *,
    create_graph: bool = False,
) -> Iterator[tuple[Masks, Float[Tensor, "batch masks"]]]:
    """Scores of every image under every mask, a group of masks at a time."""
    count = len(images)
    for some in masks.split(max(1, at_once // count)):
        # [batch, masks, channels, rows, cols] as one long batch
        mask = some[None, :, None]
        mixed = (images[:, None] * mask + filling[:, None] * (1 - mask)).flatten(0, 1)
        logits = predict(model, mixed, create_graph=create_graph)
        scores: PerImage = explained(logits, targets.repeat_interleave(len(some)), score)
        yield some, scores.view(count, len(some))


def filling_of(images: Images, fill: float | str, patch: int) -> Images:
    """What the pixels under a patch become, for every pixel: see ``fill`` of :class:`Occlusion`.

    Raises:
        InputError: a fill that is none.
    """
    if isinstance(fill, int | float):
        if not 0 <= fill <= 1:
            raise InputError(f"the fill's grey value must lie in [0, 1], got {fill}")
        return torch.full_like(images, float(fill))
    fills: dict[str, Callable[[], Images]] = {
        "mean": lambda: images.mean((2, 3), keepdim=True).expand_as(images),
        "blur": lambda: blurred(images, patch / 2),
    }
    if fill not in fills:
        raise InputError(f"fill is a grey value in [0, 1], 'mean' or 'blur', got {fill!r}")
    return fills[fill]()
