"""What followed Grad-CAM: other ways to weigh the maps of one layer, by the gradient there or by the maps alone."""

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.explainers.scores import Score
from heatproof.explainers.together import Map, explain_at_layer, signed_without_relu
from heatproof.types import Heatmaps, Layered, settings

# far below any activation that counts, and still a number in half precision's full form
TINY = 1e-12


@settings
class GradCAMPlusPlus:
    """Grad-CAM whose weights count where the gradient is positive, and count cells that matter more.

    w_k = sum_ij a^k_ij ReLU(g^k_ij) with a = g^2 / (2 g^2 + g^3 sum_ab A^k_ab) and g = dy_c/dA, zero where g is zero;
    heatmap = ReLU(sum_k w_k A^k).

    **Source** Chattopadhay et al. 2018, eq. 7 and 19. **Differs** the paper's score is exp(y_c), whose factor scales
    the whole map; as in every package the logit stands in for it.
    **Range** [0, inf) with ReLU, signed without; the unit is not the score's.

    Args:
        layer: the layer's own name, or the module; ``None``: the model's default.
        relu: keep only what speaks for the class.
        score: the number that is explained (:mod:`heatproof.explainers.scores`).
    """

    layer: Layered = None
    relu: bool = True
    score: Score = "logit"
    signed = signed_without_relu
    __call__ = explain_at_layer

    def read(self, activation: Map, gradient: Map) -> Heatmaps:
        # g^2 / (2 g^2 + g^3 S) = 1 / (2 + g S), without its 0 / 0
        denominator = 2 + gradient * activation.sum((2, 3), keepdim=True)
        alpha = torch.where((gradient != 0) & (denominator.abs() > TINY), 1 / _apart(denominator), 0)
        weights = (alpha * gradient.relu()).sum((2, 3), keepdim=True)
        heatmaps = (weights * activation).sum(1)
        return heatmaps.relu() if self.relu else heatmaps


@settings
class XGradCAM:
    """Grad-CAM whose weights are means of the gradient, each cell counted by its share of the activation.

    w_k = sum_ij (A^k_ij / sum_ab A^k_ab) dy_c/dA^k_ij; heatmap = ReLU(sum_k w_k A^k). For a network of ReLUs without
    biases behind the layer the map sums to the score (conservation).

    **Source** Fu et al. 2020, eq. 8. **Range** [0, inf) with ReLU, signed without; the unit is the score's.

    Args:
        layer: the layer's own name, or the module; ``None``: the model's default.
        relu: keep only what speaks for the class.
        score: the number that is explained.
    """

    layer: Layered = None
    relu: bool = True
    score: Score = "logit"
    signed = signed_without_relu
    __call__ = explain_at_layer

    def read(self, activation: Map, gradient: Map) -> Heatmaps:
        total = activation.sum((2, 3), keepdim=True)
        share = torch.where(total.abs() > TINY, activation / _apart(total), 0)
        heatmaps = ((share * gradient).sum((2, 3), keepdim=True) * activation).sum(1)
        return heatmaps.relu() if self.relu else heatmaps


@settings
class LayerCAM:
    """Every cell of every map weighted by its own positive gradient: fine maps at early layers.

    heatmap = ReLU(sum_k ReLU(dy_c/dA^k) A^k), cell by cell.

    **Source** Jiang et al. 2021, eq. 5 and 6. **Range** [0, inf) with ReLU, signed without where A is; the unit is the
    score's.

    Args:
        layer: the layer's own name, or the module; ``None``: the model's default.
        relu: keep only what is positive.
        score: the number that is explained.
    """

    layer: Layered = None
    relu: bool = True
    score: Score = "logit"
    signed = signed_without_relu
    __call__ = explain_at_layer

    def read(self, activation: Map, gradient: Map) -> Heatmaps:
        heatmaps = (gradient.relu() * activation).sum(1)
        return heatmaps.relu() if self.relu else heatmaps


@settings
class HiResCAM:
    """Gradient times activation, cell by cell, without Grad-CAM's mean over the cells.

    heatmap = sum_k dy_c/dA^k A^k, then ReLU. Without ReLU, where all behind the layer is linear, it sums to the score
    but for the bias, wherever Grad-CAM's mean would point elsewhere.

    **Source** Draelos and Carin 2020, eq. 4. **Range** [0, inf) with ReLU, signed without; the unit is the score's.

    Args:
        layer: the layer's own name, or the module; ``None``: the model's default.
        relu: keep only what speaks for the class.
        score: the number that is explained.
    """

    layer: Layered = None
    relu: bool = True
    score: Score = "logit"
    signed = signed_without_relu
    __call__ = explain_at_layer

    def read(self, activation: Map, gradient: Map) -> Heatmaps:
        heatmaps = (gradient * activation).sum(1)
        return heatmaps.relu() if self.relu else heatmaps


@settings
class EigenCAM:
    """The first principal component of a layer's maps: the same for every class.

    With the cells as rows and the channels, each minus its mean over the cells, as columns of A: heatmap = A v_1 with
    the first right singular vector v_1, of the sign with which the largest cell is positive; then ReLU.

    **Source** Muhammad and Yeasin 2020. **Differs** centred, as in pytorch-grad-cam; the paper does not settle the sign
    (nor does that package, whose map may show the background).
    **Range** [0, inf) with ReLU, signed without, in the layer's unit. It asks neither the class nor what comes behind
    the layer, so it cannot say why a class was chosen. Its derivative is not defined where the two largest singular
    values are equal.

    Args:
        layer: the layer's own name, or the module; ``None``: the model's default.
        relu: keep only the positive side.
    """

    layer: Layered = None
    relu: bool = True
    score: Score = "logit"
    signed = signed_without_relu
    classless = True
    __call__ = explain_at_layer

    def read(self, activation: Map, gradient: Map) -> Heatmaps:
        with torch.autocast(activation.device.type, enabled=False):
            projected = _first_component(activation.flatten(2).transpose(1, 2))
        largest = projected.detach().gather(1, projected.detach().abs().argmax(1, keepdim=True))
        heatmaps = (projected * largest.sign()).unflatten(1, activation.shape[2:])
        return heatmaps.relu() if self.relu else heatmaps


def _first_component(cells: Float[Tensor, "batch cells channels"]) -> Float[Tensor, "batch cells"]:
    """A v_1 of the centred matrix, with v_1's exact first derivative where the largest singular value stands alone.

    torch's own derivative of an eigenvector divides by every difference of two eigenvalues, also of those that do not
    matter and are equal: zero, where a layer has more channels than cells.
    """
    cells = cells - cells.mean(1, keepdim=True)
    product = cells.transpose(1, 2) @ cells
    values, vectors = torch.linalg.eigh(product.detach())
    first, rest = vectors[..., -1:], vectors[..., :-1]
    gaps = values[..., -1:] - values[..., :-1]
    # d v_1 = sum_i u_i u_i^T / (lambda_1 - lambda_i) dC v_1
    inverse = (rest / _apart(gaps)[:, None]) @ rest.transpose(1, 2)
    first = first + inverse @ ((product - product.detach()) @ first)
    return (cells @ first)[..., 0]


def _apart(value: Tensor) -> Tensor:
    """The value, or one where it is next to zero: what divides there is thrown away, and its derivative must not be."""
    return torch.where(value.abs() > TINY, value, 1)
