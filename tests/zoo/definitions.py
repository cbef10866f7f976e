"""Maps of pixels worked out anew from their definitions: torch's own gradient of the bare network, and loops.

Nothing of heatproof's explainers is used here. Guided backpropagation clips what torch's own backward kernels of ReLU
are handed, where heatproof puts another function in the place of ReLU.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import heatproof as hp
from heatproof.models.layout import Layout

STD = 0.25
"""Of the networks' normalisation."""
SAMPLES = STEPS = 2
"""Noisy copies and steps along the path."""
Bare = Callable[[Tensor], Tensor]
"""Pixels in [0, 1] to logits."""


def bare(model: hp.Classifier) -> Bare:
    """The network itself behind its normalisation."""
    return lambda images: model.network((images - model.mean) / model.std)


def gradient(score: Bare, images: Tensor, target: int, guided: bool = False) -> Tensor:
    leaf = images.clone().requires_grad_()
    total = score(leaf)[:, target].sum()
    with _Clipped() if guided else nullcontext():
        return torch.autograd.grad(total, leaf)[0]


class _Clipped(TorchDispatchMode):
    """Inside, the backward kernels of ReLU and ReLU6 get the positive part of the gradient."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        relu = func is aten.threshold_backward.default and args[2] == 0
        if relu or (func is aten.hardtanh_backward.default and args[2] == 0):
            args = (args[0].clamp(min=0), *args[1:])
        return func(*args, **(kwargs or {}))


def simple_grad(score: Bare, images: Tensor, target: int) -> Tensor:
    return gradient(score, images, target).abs().sum(1)


def input_x_gradient(score: Bare, images: Tensor, target: int) -> Tensor:
    return (images * gradient(score, images, target)).sum(1)


def smooth_grad(score: Bare, images: Tensor, target: int) -> Tensor:
    drawn = torch.Generator().manual_seed(0)
    noise = [torch.randn(images.shape[1:], generator=drawn) * 0.1 * STD for _ in range(SAMPLES)]
    return torch.stack([gradient(score, images + one, target).abs().sum(1) for one in noise]).mean(0)


def integrated_gradients(score: Bare, images: Tensor, target: int) -> Tensor:
    middles = [(step + 0.5) / STEPS for step in range(STEPS)]
    return (images * torch.stack([gradient(score, part * images, target) for part in middles]).mean(0)).sum(1)


def guided_backprop(score: Bare, images: Tensor, target: int) -> Tensor:
    return gradient(score, images, target, guided=True).sum(1)


def gradcam(score: Bare, layer: nn.Module, layout: Layout, images: Tensor, target: int) -> Tensor:
    """The layer's maps weighted by the means of their gradients, without the ReLU."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, given: Any, output: Tensor) -> Tensor:
        kept.append(output)
        return output.clone()  # what comes next may write into it

    hook = layer.register_forward_hook(keep)
    try:
        total = score(images.clone().requires_grad_())[:, target].sum()
    finally:
        hook.remove()
    (slope,) = torch.autograd.grad(total, kept[-1:])
    return (layout.maps(slope).mean((2, 3), keepdim=True) * layout.maps(kept[-1])).sum(1).detach()


def occlusion(score: Bare, images: Tensor, target: int) -> Tensor:
    """Nine patches of a third of the side, filled with the mean colour."""
    side = images.shape[2]
    patch, stride = -(-side // 3), side // 3
    tops = [*range(0, side - patch + 1, stride)]
    tops += [side - patch] if tops[-1] < side - patch else []
    total, covered = torch.zeros_like(images[:, 0]), torch.zeros(side, side)
    with torch.no_grad():
        start = score(images)[:, target]
        for top in tops:
            for left in tops:
                filled = images.clone()
                place = slice(top, top + patch), slice(left, left + patch)
                filled[:, :, *place] = images.mean((2, 3))[..., None, None]
                total[:, *place] += (start - score(filled)[:, target])[:, None, None]
                covered[*place] += 1
    return total / covered
