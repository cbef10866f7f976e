"""Maps of a layer weighted by what the network says when it sees, or loses, each of them: no gradient is asked."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.explainers.scores import Score, explained
from heatproof.explainers.together import predict, signed_without_relu
from heatproof.models.classifier import check_images, resolve_targets
from heatproof.models.intact import evaluating
from heatproof.models.layers import PIXELS, find_layer, layer_name, record
from heatproof.types import Classes, Explanation, Images, Layered, Logits, PerImage, Targets, settings

Maps = Float[Tensor, "batch maps rows cols"]
PerMap = Float[Tensor, "batch maps"]


class Weighing(Protocol):
    """An explainer that gives every map of a layer a weight, by what the network says."""

    @property
    def layer(self) -> Layered: ...

    @property
    def relu(self) -> bool: ...

    def weights(self, seen: "Seen") -> PerMap: ...


@dataclass(frozen=True)
class Seen:
    """A layer's maps of the images, in full precision, with the logits of the same pass and the classes."""

    model: nn.Module
    layer: str
    images: Images
    maps: Maps
    logits: Logits
    targets: Targets
    create_graph: bool


def explain_weighted(
    explainer: Weighing,
    model: nn.Module,
    images: Images,
    targets: Classes | None = None,
    *,
    create_graph: bool = False,
) -> Explanation:
    """The weighted sum of a layer's maps: ``__call__`` of whatever weighs them."""
    check_images(model, images)
    layer = layer_name(model, explainer.layer, images)
    with torch.inference_mode(False), torch.set_grad_enabled(create_graph):
        images = images.clone() if images.is_inference() else images
        seen = _seen(model, images, targets, layer, create_graph)
        heatmaps = (explainer.weights(seen)[:, :, None, None] * seen.maps).sum(1)
        return Explanation(heatmaps.relu() if explainer.relu else heatmaps, seen.logits, seen.targets)


@settings
class ScoreCAM:
    """Each map weighted by the score of the image seen through it.

    w = softmax over k of y_c(x * m_k) with m_k = A^k upsampled bilinearly to the pixels and scaled to [0, 1];
    heatmap = ReLU(sum_k w_k A^k). One forward pass per channel of the layer.

    **Source** Wang et al. 2020, eq. 5 to 7. **Differs** a constant map, which has no scale, shows nothing of the image;
    what a mask hides is black, where packages that mask normalised inputs show the mean colour.
    **Range** [0, inf) with ReLU, signed without; in the layer's unit.

    Args:
        layer: the layer's own name, or the module; ``None``: the model's default.
        relu: keep only what is positive.
        score: the number that is watched.
        at_once: images in one forward pass (memory only; the numbers do not depend on it).
    """

    layer: Layered = None
    relu: bool = True
    score: Score = "logit"
    at_once: int = 64
    signed = signed_without_relu
    __call__ = explain_weighted

    def weights(self, seen: Seen) -> PerMap:
        masks = _scaled(F.interpolate(seen.maps, seen.images.shape[2:], mode="bilinear", align_corners=False))
        parts = []
        for some in masks.split(max(1, self.at_once // len(seen.images)), dim=1):
            mixed = (seen.images[:, None] * some[:, :, None].to(seen.images.dtype)).flatten(0, 1)
            passed = predict(seen.model, mixed, create_graph=seen.create_graph)
            parts.append(_scores(passed, seen.targets, self.score, len(seen.images)))
        return torch.cat(parts, 1).to(seen.maps.dtype).softmax(1)


@settings
class AblationCAM:
    """Each map weighted by what the score loses without it.

    w_k = (y_c - y_c without A^k) / y_c, the map set to zero; heatmap = ReLU(sum_k w_k A^k). One forward pass per
    channel of the layer.

    **Source** Desai and Ramaswamy 2020, eq. 3 and 4. **Range** [0, inf) with ReLU, signed without; in the layer's unit.

    Args:
        layer: the layer's own name, or the module; ``None``: the model's default.
        relu: keep only what speaks for the class.
        score: the number that is watched; where it is negative, all weights turn their sign.
        at_once: images in one forward pass (memory only; the numbers do not depend on it).
    """

    layer: Layered = None
    relu: bool = True
    score: Score = "logit"
    at_once: int = 64
    signed = signed_without_relu
    __call__ = explain_weighted

    def weights(self, seen: Seen) -> PerMap:
        if seen.layer == PIXELS:
            raise InputError("ablation_cam needs a layer of the network, not the pixels; occlusion() covers pixels")
        images, channels = seen.images, seen.maps.shape[1]
        # all channels first, then all but one
        passing = 1 - F.pad(torch.eye(channels, device=images.device, dtype=images.dtype), (0, 0, 1, 0))
        parts = []
        for some in passing.split(max(1, self.at_once // len(images))):
            repeated = images.repeat_interleave(len(some), 0)
            passed = _without(seen.model, seen.layer, repeated, some.repeat(len(images), 1), seen.create_graph)
            parts.append(_scores(passed, seen.targets, self.score, len(images)))
        scores = torch.cat(parts, 1).to(seen.maps.dtype)
        whole, without = scores[:, :1], scores[:, 1:]
        return (whole - without) / torch.where(whole == 0, 1, whole)


def _seen(model: nn.Module, images: Images, targets: Classes | None, layer: str, create_graph: bool) -> Seen:
    logits, recorded = record(model, images, [layer], create_graph=create_graph)
    maps = recorded[layer]
    if maps.dtype in (torch.bfloat16, torch.float16):
        maps = maps.float()
    resolved = resolve_targets(logits, targets, model)
    maps, logits = (maps, logits) if create_graph else (maps.detach(), logits.detach())
    return Seen(model, layer, images, maps, logits, resolved, create_graph)


def _scaled(maps: Maps) -> Maps:
    """Each map from its minimum to its maximum as 0 to 1; a constant one is zero."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return torch.where(high > low, (maps - low) / torch.where(high > low, high - low, 1), 0)


def _scores(logits: Float[Tensor, "many classes"], targets: Targets, score: Score, count: int) -> PerMap:
    """The scores of every image's altered passes, an image per row."""
    each = len(logits) // count
    found: PerImage = explained(logits, targets.repeat_interleave(each), score)
    return found.view(count, each)


def _without(model: nn.Module, layer: str, images: Tensor, passing: Tensor, create_graph: bool) -> Tensor:
    """The logits where the layer puts out only the channels that are kept, image by image."""

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output * passing[:, :, None, None].to(output.dtype)

    handle = find_layer(model, layer).register_forward_hook(hook)
    try:
        # differences of nearly equal scores would drown in half precision
        full = torch.autocast(images.device.type, enabled=False)
        with evaluating(model), torch.set_grad_enabled(create_graph), full:
            return model(images)
    finally:
        handle.remove()
