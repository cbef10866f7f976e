"""Several explainers' maps as one."""

from typing import Literal, get_args

import torch
from torch import nn

from heatproof.defences.noisy import answered, check_wrapped, explanation
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.heatmaps import resize
from heatproof.types import Classes, Explainer, Explanation, Heatmaps, Images, is_signed, settings

Scaled = Literal["sum", "std"]


@settings
class Aggregate:
    """The mean of several explainers' maps, each scaled by itself and resized to the finest.

    heatmap = (1/K) sum_k h_k / s(h_k), with s the sum of magnitudes, or the standard deviation over the cells. An
    attack on one of them moves a K-th of the map.

    **Source** Rieger & Hansen 2020 (the scale from memory [m]). **Differs** maps of other sizes are resized
    bilinearly [ours]. **Range** for ``sum``: magnitudes sum to at most 1; signed where one of the maps is.

    Args:
        explainers: two or more.
        scale: ``sum`` or ``std``; an empty or constant map adds what it is.

    Raises:
        InputError: fewer than two, another scale, or something that is no explainer.
    """

    explainers: tuple[Explainer, ...] = (GradCAM(), SimpleGrad())
    scale: Scaled = "sum"

    def __post_init__(self) -> None:
        # from Python anything may come
        if not isinstance(self.explainers, tuple | list):  # pyright: ignore[reportUnnecessaryIsInstance]
            check_wrapped("aggregate", self.explainers)
            raise InputError(f"aggregate takes two explainers or more in brackets, got {self.explainers!r} alone")
        object.__setattr__(self, "explainers", tuple(self.explainers))
        for explainer in self.explainers:
            check_wrapped("aggregate", explainer)
        if len(self.explainers) < 2:
            raise InputError(f"aggregate takes two explainers or more, got {len(self.explainers)}")
        if self.scale not in get_args(Scaled):
            raise InputError(f"scale is 'sum' or 'std', got {self.scale!r}")

    @property
    def signed(self) -> bool:
        return any(map(is_signed, self.explainers))

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        given = answered(model, images, targets, create_graph=create_graph)
        maps = [one(model, given.images, given.targets, create_graph=create_graph).heatmaps for one in self.explainers]
        size = (max(one.shape[1] for one in maps), max(one.shape[2] for one in maps))
        total = torch.zeros((), device=images.device)
        for one in maps:
            fitted = one if one.shape[1:] == size else resize(one, size)
            total = total + self._scaled(fitted) / len(maps)
        return explanation(given, total, create_graph=create_graph)

    def _scaled(self, heatmaps: Heatmaps) -> Heatmaps:
        if self.scale == "sum":
            scale = heatmaps.abs().sum((1, 2), keepdim=True)
        else:
            around = heatmaps - heatmaps.mean((1, 2), keepdim=True)
            square = around.square().mean((1, 2), keepdim=True)
            # the root of zero has no derivative
            scale = torch.where(square > 0, square, torch.ones_like(square)).sqrt()
        return heatmaps / torch.where(scale > 0, scale, torch.ones_like(scale))
