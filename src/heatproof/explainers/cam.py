"""Class activation maps: which cells of a layer speak for a class."""

import torch
from torch import Tensor, nn

from heatproof.errors import ModelError
from heatproof.explainers.scores import Score
from heatproof.explainers.together import Map, explain_at_layer, signed_without_relu
from heatproof.models.classifier import check_images, resolve_targets
from heatproof.models.layers import default_layer, layer_name, list_layers, network_of, record
from heatproof.types import Classes, Explanation, Heatmaps, Images, Layered, Targets, settings


@settings
class GradCAM:
    """Gradient-weighted class activation map.

    alpha_k = (1/Z) sum_ij dy_c/dA^k_ij over the Z cells of feature map A^k; M = sum_k alpha_k A^k;
    heatmap = ReLU(M), or M itself with ``relu=False``. ``counterfactual=True`` takes alpha from -dy_c/dA, so its map is
    ReLU(-M): what would have to go for the class to rise. At every layer gradcam - counterfactual = M.

    **Source** Selvaraju et al. 2017, eq. 1 and 2, and section 7 (counterfactual).
    **Range** [0, inf) with ReLU, signed without; the unit is the score's.

    Args:
        layer: the layer's own name, or the module; ``None``: the model's default, the last feature map before pooling.
        relu: keep only what speaks for the class.
        counterfactual: what speaks against the class instead.
        score: the number that is explained (:mod:`heatproof.explainers.scores`).
    """

    layer: Layered = None
    relu: bool = True
    counterfactual: bool = False
    score: Score = "logit"
    signed = signed_without_relu
    __call__ = explain_at_layer

    def read(self, activation: Map, gradient: Map) -> Heatmaps:
        heatmaps = (gradient.mean((2, 3), keepdim=True) * activation).sum(1)
        if self.counterfactual:
            heatmaps = -heatmaps
        return heatmaps.relu() if self.relu else heatmaps


@settings
class CAM:
    """Class activation map of a network that ends in global average pooling and a linear layer.

    heatmap = sum_k w_k^c A^k with the weights w of the last layer, so mean(heatmap) + bias_c is the logit. Where the
    last convolution puts out one map per class (SqueezeNet), that class's map itself. Grad-CAM without ReLU at the
    same layer is CAM / Z exactly; where a ReLU without a name follows the layer (DenseNet), CAM reads what comes out
    of it, and Grad-CAM, which reads the layer, differs.

    **Source** Zhou et al. 2016, eq. 2. **Range** signed, in logits.

    Raises:
        ModelError: where the head is anything else, checked on the numbers; Grad-CAM is the generalisation.
    """

    layer: Layered = None
    signed = True

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        check_images(model, images)
        layer = layer_name(model, self.layer, images) if self.layer is not None else cam_layer(model, images)
        with torch.inference_mode(False):
            logits, recorded = record(model, images, [layer], create_graph=create_graph)
            targets = resolve_targets(logits, targets, model)
            scores = _scores(model, recorded[layer], logits, targets, layer)
        if not create_graph:
            scores, logits = scores.detach(), logits.detach()
        return Explanation(scores, logits, targets)


def cam_layer(model: nn.Module, images: Images) -> str:
    """The layer that CAM reads: the default layer, or the map of class scores that is pooled (SqueezeNet's)."""
    layers = list_layers(model, images)
    classes = layers[-1].shape[0]
    maps = [entry for entry in layers if len(entry.shape) == 3 and min(entry.shape[1:]) > 1 and not entry.pooling]
    score_maps = [entry for entry in maps if entry.shape[0] == classes]
    if score_maps and _linear_head(model) is None:
        return score_maps[-1].name
    return default_layer(model, images)


def _linear_head(model: nn.Module) -> nn.Linear | None:
    linears = [module for module in network_of(model).modules() if isinstance(module, nn.Linear)]
    return linears[-1] if linears else None


def _bias(model: nn.Module, activation: Map) -> Tensor | None:
    head = _linear_head(model)
    return head.bias if head is not None and head.in_features == activation.shape[1] else None


def _class_maps(model: nn.Module, activation: Map, targets: Targets) -> Heatmaps:
    head = _linear_head(model)
    if head is not None and head.in_features == activation.shape[1]:
        return torch.einsum("nk,nkhw->nhw", head.weight[targets].to(activation.dtype), activation)
    if head is None:
        return activation[torch.arange(len(targets), device=targets.device), targets % activation.shape[1]]
    raise ModelError(
        f"CAM needs one weight per feature map, but the last linear layer takes {head.in_features} features and the "
        f"layer has {activation.shape[1]} maps; use gradcam(), which needs no such head"
    )


def _scores(model: nn.Module, activation: Map, logits: Tensor, targets: Targets, layer: str) -> Heatmaps:
    """The class maps whose mean is the logit: of the layer, or of its positive part (DenseNet's functional ReLU)."""
    wanted = logits.detach().gather(1, targets[:, None])[:, 0].float()
    bias = _bias(model, activation)
    # autocast rounds each of the two ways differently
    tolerance = (0.05 if logits.dtype in (torch.bfloat16, torch.float16) else 1e-3) * float(logits.detach().abs().max())
    for features in (activation, activation.relu()):
        scores = _class_maps(model, features, targets)
        pooled = scores.detach().mean((1, 2)).float() + (bias.detach()[targets].float() if bias is not None else 0)
        if (pooled - wanted).abs().max() <= tolerance:
            return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
    raise ModelError(
        f"the logits are no global average of class maps over layer {layer!r}, which CAM needs "
        "(global average pooling and one linear layer); use gradcam(), which needs no such head"
    )
