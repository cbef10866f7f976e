"""Maps of a layer weighted by the relevance that arrives at each of them."""

from typing import Literal

from heatproof.explainers.lrp.propagation import LRP, LinearScore
from heatproof.explainers.masking_cam import PerMap, Seen, explain_weighted
from heatproof.explainers.together import signed_without_relu
from heatproof.types import Layered, settings


@settings
class RelevanceCAM:
    """Each map weighted by what layer-wise relevance propagation hands down to it: a CAM for layers of any depth.

    w_k = sum_ij R^k_ij, R the relevance at the layer; heatmap = ReLU(sum_k w_k A^k). The walk begins with 1 at the
    class and -1/(N - 1) at each of the N - 1 others, and goes down by alpha1-beta0 through all weighted layers.

    **Source** Lee et al. 2021 and their code. **Differs** their code begins with -1/1000 at the others, whatever their
    number, counts the bias of convolutions among the positive parts, and leaves out the ReLU.
    **Range** [0, inf) with ReLU, signed without; in the layer's unit.

    Args:
        layer: the layer's own name, or the module; ``None``: the model's default.
        relu: keep only what speaks for the class.
        composite: which rule for which layer, as of :class:`~heatproof.explainers.lrp.propagation.LRP`.
        batch_norm: likewise.
        score: what the walk begins with is its slope in each output.
        stabilizer: the small number in the denominators of weighted layers, in units of their outputs.

    Raises:
        LayerError: a layer whose relevance cannot be told channel by channel.
    """

    layer: Layered = None
    relu: bool = True
    composite: str = "z_plus"
    batch_norm: Literal["fold", "pass"] = "fold"
    score: LinearScore = "contrast"
    stabilizer: float = 0.01
    signed = signed_without_relu
    __call__ = explain_weighted

    def __post_init__(self) -> None:
        _ = self._walk("")

    def weights(self, seen: Seen) -> PerMap:
        walk = self._walk(seen.layer)
        arrived = walk.relevance(seen.model, seen.images, seen.targets, slopes=True, create_graph=seen.create_graph)
        return arrived.channels.sum((2, 3)).to(seen.maps.dtype)

    def _walk(self, layer: str) -> LRP:
        """The propagation that stops at the layer.

        Raises:
            SpecError: a composite, a way with batch norm or a score that LRP does not know.
            InputError: a stabilizer that is not positive.
        """
        return LRP(layer, self.composite, self.batch_norm, self.score, self.stabilizer)
