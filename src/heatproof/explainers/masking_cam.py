"""Maps of a layer weighted by what the network says when it sees, or loses, each of them: no gradient is asked."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.explainers.scores import Score, explained
from heatproof.explainers.together import predict
from heatproof.models.classifier import check_images, resolve_targets
from heatproof.models.intact import evaluating
from heatproof.models.layers import PIXELS, find_layer, layer_name, record
from heatproof.types import Classes, Explanation, Images, Layered, PerImage, Targets, settings

Maps = Float[Tensor, "batch maps rows cols"]
PerMap = Float[Tensor, "batch maps"]


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

    @property
    def signed(self) -> bool:
        return not self.relu

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        check_images(model, images)
        layer = layer_name(model, self.layer, images)
        with torch.inference_mode(False), torch.set_grad_enabled(create_graph):
            images = images.clone() if images.is_inference() else images
            activation, logits, targets = _seen(model, images, targets, layer, create_graph)
            masks = _scaled(F.interpolate(activation, images.shape[2:], mode="bilinear", align_corners=False))
            parts = []
            for some in masks.split(max(1, self.at_once // len(images)), dim=1):
                mixed = (images[:, None] * some[:, :, None].to(images.dtype)).flatten(0, 1)
                passed = predict(model, mixed, create_graph=create_graph)
                parts.append(_scores(passed, targets, self.score, len(images)))
            weights = torch.cat(parts, 1).to(activation.dtype).softmax(1)
            heatmaps = (weights[:, :, None, None] * activation).sum(1)
            return Explanation(heatmaps.relu() if self.relu else heatmaps, logits, targets)


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

    @property
    def signed(self) -> bool:
        return not self.relu

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        check_images(model, images)
        layer = layer_name(model, self.layer, images)
        if layer == PIXELS:
            raise InputError("ablation_cam needs a layer of the network, not the pixels; occlusion() covers pixels")
        with torch.inference_mode(False), torch.set_grad_enabled(create_graph):
            images = images.clone() if images.is_inference() else images
            activation, logits, targets = _seen(model, images, targets, layer, create_graph)
            channels = activation.shape[1]
            # all channels first, then all but one
            kept = 1 - F.pad(torch.eye(channels, device=images.device, dtype=images.dtype), (0, 0, 1, 0))
            parts = []
            for some in kept.split(max(1, self.at_once // len(images))):
                repeated = images.repeat_interleave(len(some), 0)
                passed = _without(model, layer, repeated, some.repeat(len(images), 1), create_graph)
                parts.append(_scores(passed, targets, self.score, len(images)))
            scores = torch.cat(parts, 1).to(activation.dtype)
            whole, without = scores[:, :1], scores[:, 1:]
            weights = (whole - without) / torch.where(whole == 0, 1, whole)
            heatmaps = (weights[:, :, None, None] * activation).sum(1)
            return Explanation(heatmaps.relu() if self.relu else heatmaps, logits, targets)


def _seen(
    model: nn.Module, images: Images, targets: Classes | None, layer: str, create_graph: bool
) -> tuple[Maps, Tensor, Targets]:
    """The layer's maps, in full precision, with the logits of the same pass and the classes."""
    logits, recorded = record(model, images, [layer], create_graph=create_graph)
    activation = recorded[layer]
    if activation.dtype in (torch.bfloat16, torch.float16):
        activation = activation.float()
    resolved = resolve_targets(logits, targets, model)
    return (activation, logits, resolved) if create_graph else (activation.detach(), logits.detach(), resolved)


def _scaled(maps: Maps) -> Maps:
    """Each map from its minimum to its maximum as 0 to 1; a constant one is zero."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return torch.where(high > low, (maps - low) / torch.where(high > low, high - low, 1), 0)


def _scores(logits: Float[Tensor, "many classes"], targets: Targets, score: Score, count: int) -> PerMap:
    """The scores of every image's altered passes, an image per row."""
    each = len(logits) // count
    found: PerImage = explained(logits, targets.repeat_interleave(each), score)
    return found.view(count, each)


def _without(model: nn.Module, layer: str, images: Tensor, kept: Tensor, create_graph: bool) -> Tensor:
    """The logits where the layer puts out only the channels that are kept, image by image."""

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output * kept[:, :, None, None].to(output.dtype)

    handle = find_layer(model, layer).register_forward_hook(hook)
    try:
        # differences of nearly equal scores would drown in half precision
        full = torch.autocast(images.device.type, enabled=False)
        with evaluating(model), torch.set_grad_enabled(create_graph), full:
            return model(images)
    finally:
        handle.remove()
