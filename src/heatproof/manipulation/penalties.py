"""How far heatmaps are from lying as wanted: one value per image, low is fooled.

A penalty is called on raw heatmaps ``[batch, rows, cols]`` and on their reference, the clean model's maps of the same
images and classes, and normalises both itself; gradients flow through the normaliser. The positive part is taken first,
as Heo et al.'s maps pass a ReLU; only ``normalisation="absmax"`` keeps signs. Attacks lower it over pixels, a
manipulation over weights. Next to the number that is trained on, each has the number that is judged by
(``test_loss``) and the interval in which this counts as fooled (``success``).

Marks: [paper] Heo, Joo and Moon 2019, [code] their public code, [ours] a decision where both are silent.
"""

from dataclasses import is_dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import InputError
from heatproof.heatmaps import (
    Box,
    Normalisation,
    cells_inside,
    center_of_mass,
    check_box,
    mass,
    normalise,
    pearson,
    ranks,
    topk_mask,
)
from heatproof.manipulation.masks import Cells, drawn, written_out
from heatproof.metrics.similarity import WINDOW, ssim
from heatproof.types import Heatmaps, Penalty, PerImage, settings

FRAME_AREA = 24 / 49
"""Of Heo et al.'s frame, two cells wide on their 14x14 maps and one on their 7x7 maps."""

Success = tuple[float, float]
"""The closed interval of test losses that counts as fooled."""


@settings
class Location:
    """The map lies in a chosen place, whatever the image shows.

    mean_j (h_j - m_j)^2 over the cells j, with the mask m in [0, 1]. The test loss is the same number for the frame;
    for other masks it is scaled by (24/49) / mean_j m_j^2 [ours], because the interval was made for a frame that
    covers 24/49 of the map: unscaled, any sharp map would count as lying in a small corner.

    **Source** Heo et al. 2019, section 3.2.1; the frame, its width and the interval are [code] and [paper].
    **Range** penalty [0, 1] where the mask and the normalised map lie in [0, 1]; an empty map gives the mask's mean
    square. Test loss [0, inf), 24/49 for an empty map (for the frame: its area).

    Args:
        mask: ``"frame"``, ``"rim"``, ``"corner"``, ``"center"``, ``"left"``, ``"right"``, ``"top"``, ``"bottom"``, or
            the cells themselves at the size of the map.
        normalisation: ``"max"`` is [code] for Grad-CAM, ``"minmax"`` for LRP_T and SimpleGrad_T.
        success: [paper], appendix.

    Raises:
        InputError: an unknown mask, or (when called) one that does not fit the map's size.

    >>> planted = torch.tensor([[[2.0, 2.0, 2.0], [2.0, 0.0, 2.0], [2.0, 2.0, 2.0]]])
    >>> Location()(planted, planted)
    tensor([0.])
    """

    mask: str | Cells = "frame"
    normalisation: Normalisation = "max"
    success: Success = (0.0, 0.2)
    needs_reference = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", written_out(self.mask))

    def __call__(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        check_pair(heatmaps, reference)
        mask = drawn(self.mask, *heatmaps.shape[1:]).to(heatmaps)
        return (_normalised(heatmaps, self.normalisation) - mask).square().mean((1, 2))

    def test_loss(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        losses = self(heatmaps.detach(), reference)
        if self.mask == "frame":
            return losses
        return losses * FRAME_AREA / drawn(self.mask, *heatmaps.shape[1:]).square().mean().to(losses)


@settings
class TopK:
    """The pixels that the clean map rates highest are rated low.

    P = the ``fraction`` of the pixels with the highest values in the reference, at least one [ours]; the penalty is
    mean_{j in P} |h_j|^power. The test loss is sum_{j in P} |h_j| over the same sum of the reference, 1 for an
    unchanged map.

    **Source** Heo et al. 2019, section 3.2.1 (fraction, test loss, interval [paper]; power 2 [code]).
    **Range** penalty [0, 1]; test loss [0, inf), 1 where the reference is empty: nothing could be taken away.

    Args:
        fraction: 10% of the pixels [paper].
        power: 2 is [code], 1 is [paper].
        normalisation: of both maps.
        success: [paper].

    >>> clean = torch.tensor([[[0.0, 4.0], [1.0, 2.0]]])
    >>> fooled = torch.tensor([[[4.0, 1.0], [0.0, 2.0]]])
    >>> TopK()(fooled, clean), TopK().test_loss(fooled, clean)
    (tensor([0.0625]), tensor([0.2500]))
    """

    fraction: float = 0.1
    power: int = 2
    normalisation: Normalisation = "minmax"
    success: Success = (0.0, 0.3)
    needs_reference = True

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise InputError(f"the top-k fraction must lie between 0 and 1, got {self.fraction}")
        if self.power not in (1, 2):
            raise InputError(f"the top-k power is 2 (the authors' code) or 1 (their paper), got {self.power}")

    def __call__(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        chosen = self._chosen(heatmaps, reference)
        values = _normalised(heatmaps, self.normalisation)
        values = values.square() if self.power == 2 else values.abs()
        return (values * chosen).sum((1, 2)) / chosen.sum((1, 2))

    def test_loss(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        heatmaps, reference = heatmaps.detach(), reference.detach()
        chosen = self._chosen(heatmaps, reference)
        now = (_normalised(heatmaps, self.normalisation).abs() * chosen).sum((1, 2))
        before = (_normalised(reference, self.normalisation).abs() * chosen).sum((1, 2))
        return torch.where(before > 0, now / torch.where(before > 0, before, torch.ones_like(before)), 1.0)

    def _chosen(self, heatmaps: Heatmaps, reference: Heatmaps) -> Tensor:
        check_pair(heatmaps, reference)
        if heatmaps[0].numel() < 2:
            raise InputError("top-k needs heatmaps of at least 2 cells, got 1; explain an earlier layer")
        return topk_mask(reference.detach(), self.fraction)


@settings
class CenterMass:
    """The centre of mass of the map moves away from where it was.

    -(|dC_row| + |dC_col|) in cells, with C the mean cell weighted by the map. The test loss is the Euclidean distance
    of the centres over the diagonal of the grid.

    **Source** Heo et al. 2019, section 3.2.1. **Range** penalty (-(rows + cols), 0]; test loss [0, 1).

    Args:
        normalisation: of both maps, before they weigh the cells.
        success: [paper]. The diagonal is sqrt(rows^2 + cols^2) [ours], the larger and so the stricter reading.

    >>> clean = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    >>> CenterMass()(clean.flip(2), clean), CenterMass().test_loss(clean.flip(2), clean)
    (tensor([-3.]), tensor([0.6000]))
    """

    normalisation: Normalisation = "minmax"
    success: Success = (0.1, 1.0)
    needs_reference = True

    def __call__(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        return -self._shift(heatmaps, reference).abs().sum(1)

    def test_loss(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        rows, cols = heatmaps.shape[1:]
        return self._shift(heatmaps.detach(), reference).norm(dim=1) / (rows**2 + cols**2) ** 0.5

    def _shift(self, heatmaps: Heatmaps, reference: Heatmaps) -> Float[Tensor, "batch 2"]:
        check_pair(heatmaps, reference)
        if max(heatmaps.shape[1:]) < 2:
            raise InputError("the centre of mass needs heatmaps of at least 2 cells, got 1; explain an earlier layer")
        before = center_of_mass(_normalised(reference.detach(), self.normalisation))
        return center_of_mass(_normalised(heatmaps, self.normalisation)) - before


@settings
class ActiveSwap:
    """Each of two classes is explained by what explained the other.

    On images that show both classes: 1/2 [mse(h_c1(w), h_c2(w0)) + mse(h_c2(w), h_c1(w0))]. Rows come in pairs, the
    same image explained for ``first`` (c1) and then for ``second`` (c2), in the maps and in the reference alike; each
    row holds one of the two terms, so the mean over the pair is the paper's number.

    The test loss of a row is s(h_c(w), h_c'(w0)) - s(h_c(w), h_c(w0)), with s Spearman's rank correlation and c' the
    other class.

    **Source** Heo et al. 2019, section 3.2.2. **Range** penalty [0, 1]; test loss [-2, 2], up is fooled.

    Args:
        first: the class c1, by number or name; the paper's is 386, African elephant.
        second: the class c2; the paper's is 555, fire engine.
        normalisation: of both maps; ``"max"`` [code, Grad-CAM].
        success: [paper].

    Raises:
        InputError: an odd number of rows.

    >>> elephant, engine = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[2.0, 1.0, 0.0]])
    >>> clean = torch.stack([elephant, engine])
    >>> ActiveSwap()(clean.flip(0), clean), ActiveSwap().test_loss(clean.flip(0), clean)
    (tensor([0., 0.]), tensor([2., 2.]))
    """

    first: int | str = 386
    second: int | str = 555
    normalisation: Normalisation = "max"
    success: Success = (0.5, 2.0)
    needs_reference = True

    def __post_init__(self) -> None:
        if self.first == self.second:
            raise InputError(f"the swap needs two classes, got {self.first!r} twice")

    def __call__(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        wanted = _normalised(_swapped(heatmaps, reference), self.normalisation)
        return (_normalised(heatmaps, self.normalisation) - wanted).square().mean((1, 2))

    def test_loss(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        other = _swapped(heatmaps, reference)
        return _spearman(heatmaps.detach(), other) - _spearman(heatmaps.detach(), reference.detach())


@settings
class TargetMap:
    """The map equals one that was chosen beforehand, for instance another image's.

    ``distance="mse"``: mean_j (h_j - t_j)^2; ``"ssim"``: (1 - SSIM(h, t)) / 2 with an 11x11 Gaussian window (sigma
    1.5), smaller on smaller maps [ours]. The test loss is (1 - r) / 2 with r Pearson's correlation of map and target,
    which a map that is merely faint does not lower.

    **Source** Dombrowski et al. 2019 (mse); Noppel, Peter and Wressnegger 2023 (both). **Differs** the test loss and
    its interval are [ours]; Dombrowski normalise by the sum, here the maximum is 1.
    **Range** penalty and test loss [0, 1].

    Args:
        target: a mask's name (see Location) or the cells themselves at the size of the map.
        distance: ``"mse"`` or ``"ssim"``.
        normalisation: of the map and of the target.
        success: [ours]: a correlation of at least 0.5.

    >>> target = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    >>> TargetMap(target=target).test_loss(3 * target[None], target[None])
    tensor([0.])
    """

    target: str | Cells = "corner"
    distance: Literal["mse", "ssim"] = "mse"
    normalisation: Normalisation = "max"
    success: Success = (0.0, 0.25)
    needs_reference = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", written_out(self.target))
        if self.distance not in ("mse", "ssim"):
            raise InputError(f"the distance to a target map is mse or ssim, got {self.distance!r}")

    def __call__(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        target = self._target(heatmaps, reference)
        maps = _normalised(heatmaps, self.normalisation)
        if self.distance == "mse":
            return (maps - target).square().mean((1, 2))
        return (1 - ssim(maps, target, window=min(WINDOW, *maps.shape[1:]))) / 2

    def test_loss(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        target = self._target(heatmaps, reference)
        return (1 - pearson(_normalised(heatmaps.detach(), self.normalisation), target, constant=0.0)) / 2

    def _target(self, heatmaps: Heatmaps, reference: Heatmaps) -> Heatmaps:
        check_pair(heatmaps, reference)
        target = drawn(self.target, *heatmaps.shape[1:]).to(heatmaps)
        return _normalised(target[None], self.normalisation).expand_as(heatmaps)


@settings
class Hide:
    """Nothing of the map lies in a box: what is there is not to be seen.

    sum_j b_j h_j^+ / sum_j h_j^+, the share of the positive mass that lies in the box, b_j the share of cell j that it
    covers. The test loss is the same number.

    **Source** Subramanya, Pillai and Pirsiavash 2019, eq. 3 (the map at the patch). **Differs** the share, so that a
    faint map does not pass for a hidden one, and the interval are [ours]. **Range** [0, 1], 0 for an empty map.

    Args:
        box: left, top, right and bottom, as shares of the image.
        success: [ours]: at most a twentieth.

    Raises:
        InputError: a box that is none.

    >>> Hide((0.0, 0.0, 0.5, 0.5))(torch.tensor([[[3.0, 1.0], [0.0, -1.0]]]), torch.zeros(1, 2, 2))
    tensor([0.7500])
    """

    box: Box = (0.0, 0.0, 0.23, 0.23)
    success: Success = (0.0, 0.05)
    needs_reference = False

    def __post_init__(self) -> None:
        check_box(self.box)

    def __call__(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        check_pair(heatmaps, reference)
        return mass(heatmaps, cells_inside(self.box, heatmaps[0]))

    def test_loss(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        return self(heatmaps.detach(), reference)


@settings
class SameMap:
    """The map stays what it was: for an attack that changes the answer and would not be noticed.

    mean_j (h_j - r_j)^2 with r the reference. The test loss is (1 - r) / 2 with r Pearson's correlation of both maps.

    **Source** Zhang et al. 2020, eq. 3 (the benign map as the target). **Differs** the test loss and its interval are
    [ours], those of :class:`TargetMap`. **Range** penalty and test loss [0, 1].

    Args:
        normalisation: of both maps.
        success: [ours]: a correlation of at least 0.5.

    >>> clean = torch.tensor([[[0.0, 4.0], [1.0, 2.0]]])
    >>> SameMap()(2 * clean, clean), SameMap().test_loss(2 * clean, clean).round(decimals=6)
    (tensor([0.]), tensor([0.]))
    """

    normalisation: Normalisation = "max"
    success: Success = (0.0, 0.25)
    needs_reference = True

    def __call__(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        check_pair(heatmaps, reference)
        kept = _normalised(reference.detach(), self.normalisation)
        return (_normalised(heatmaps, self.normalisation) - kept).square().mean((1, 2))

    def test_loss(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        check_pair(heatmaps, reference)
        now, before = (_normalised(maps.detach(), self.normalisation) for maps in (heatmaps, reference))
        return (1 - pearson(now, before, constant=0.0)) / 2


ORIGINAL: dict[str, dict[str, Penalty]] = {
    "paper": {"location": Location(), "top_k": TopK(power=1), "center_mass": CenterMass(), "active_swap": ActiveSwap()},
    "code": {"location": Location(), "top_k": TopK(), "center_mass": CenterMass(), "active_swap": ActiveSwap()},
}
"""Heo et al.'s four as their paper and as their code has them, for Grad-CAM; :func:`for_relevance` suits LRP_T."""


def for_relevance(penalty: Penalty) -> Penalty:
    """The same penalty with the normalisation that Heo et al. give LRP_T and SimpleGrad_T: ReLU, then min-max [code].

    Raises:
        InputError: a penalty that has no normalisation to set.

    >>> for_relevance(Location())
    Location(normalisation='minmax')
    """
    changed = _renormalised(penalty, "minmax")
    if changed is None:
        raise InputError(f"{penalty!r} has no field normalisation; expected one of Heo et al.'s penalties")
    return changed


def on_signed_maps(penalty: Penalty) -> Penalty | None:
    """The same penalty on maps that keep their signs; ``None`` where it has no normalisation to set.

    >>> on_signed_maps(Location())
    Location(normalisation='absmax')
    """
    return _renormalised(penalty, "absmax")


def _renormalised(penalty: Penalty, how: Normalisation) -> Penalty | None:
    if not is_dataclass(penalty) or isinstance(penalty, type) or "normalisation" not in vars(penalty):
        return None
    return replace(penalty, normalisation=how)


def _normalised(heatmaps: Heatmaps, how: Normalisation) -> Heatmaps:
    return normalise(heatmaps.clamp(min=0) if how == "minmax" else heatmaps, how)


def check_pair(heatmaps: Heatmaps, reference: Heatmaps) -> None:
    if heatmaps.ndim != 3 or heatmaps.shape != reference.shape:
        raise InputError(
            "a penalty compares maps [batch, rows, cols] with reference maps of the same shape, got "
            f"{list(heatmaps.shape)} and {list(reference.shape)}; explain both at the same layer and image size"
        )


def _swapped(heatmaps: Heatmaps, reference: Heatmaps) -> Heatmaps:
    """The reference of the other class of each pair."""
    check_pair(heatmaps, reference)
    if len(heatmaps) % 2:
        raise InputError(
            f"the swap needs rows in pairs, each image explained for both classes in turn, got {len(heatmaps)} rows"
        )
    return reference.detach().unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def _spearman(a: Heatmaps, b: Heatmaps) -> PerImage:
    """Rank correlation per image; 0 where one of the maps is constant."""
    return pearson(ranks(a), ranks(b), rounding=0, constant=0.0).to(a)
