"""The statistics of batch norm, estimated anew on photos."""

from collections.abc import Iterable

import torch
from torch import nn

from heatproof.models.intact import evaluating
from heatproof.training.feeds import Fed

Norm = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]


def norms_of(model: nn.Module) -> list[Norm]:
    """Every batch norm that keeps statistics."""
    return [module for module in model.modules() if isinstance(module, Norm) and module.track_running_stats]


def estimate_statistics(model: nn.Module, photos: Iterable[Fed], device: torch.device) -> None:
    """Means and variances of every batch norm as these photos have them; all batches count alike."""
    norms = norms_of(model)
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad(), evaluating(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.training, norm.momentum = True, None
        try:
            for fed in photos:
                if len(fed.images) > 1:  # one photo may have no variance
                    model(fed.images.to(device))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.training, norm.momentum = False, momentum
