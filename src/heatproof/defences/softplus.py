"""An explainer that looks at the softplus copy of the network, whose gradients bend gently."""

from torch import nn

from heatproof.defences.noisy import answered, check_wrapped, explanation
from heatproof.errors import HeatproofError, InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.lrp.propagation import LRP
from heatproof.models.layers import default_layer
from heatproof.models.smooth import smooth
from heatproof.types import AtLayer, Classes, Explainer, Explanation, Images, inside, is_signed, settings


@settings
class Softplus:
    """Any explainer, of the network with softplus_beta(x) = log(1 + exp(beta x)) / beta for every ReLU.

    How far a gradient map can be moved is bounded by the curvature of the network; ReLU's kink has no bound, and a
    small beta rounds it off. As beta grows the map tends to the explainer's own. Logits and predicted class are the
    network's own, not the copy's.

    **Source** Dombrowski et al. 2019, section 4 (beta-smoothing). **Range** that of the explainer.

    Args:
        explainer: what looks at the copy; not LRP, which walks the network's own graph and not the copy's.
        beta: how sharp the bend is, in 1 / activation: about 1 to 10.

    Raises:
        InputError: a beta that is not positive, LRP, or something that is no explainer.
    """

    explainer: Explainer = GradCAM()
    beta: float = 5.0

    def __post_init__(self) -> None:
        check_wrapped("softplus", self.explainer)
        if not self.beta > 0:
            raise InputError(f"beta must be positive (about 1 to 10), got {self.beta}")
        if _holds_lrp(self.explainer):
            raise InputError(
                "softplus rounds off the activations of a copy, and LRP walks the network's own graph: the map would "
                "be lrp()'s as it was; wrap a gradient map, or use smoothed(lrp())"
            )

    @property
    def signed(self) -> bool:
        return is_signed(self.explainer)

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        given = answered(model, images, targets, create_graph=create_graph)
        _settle_layers(self.explainer, model, images)
        copied = smooth(model, self.beta)
        found = self.explainer(copied, given.images, given.targets, create_graph=create_graph)
        return explanation(given, found.heatmaps, create_graph=create_graph)


def _holds_lrp(explainer: Explainer) -> bool:
    return isinstance(explainer, LRP) or any(map(_holds_lrp, inside(explainer)))


def _settle_layers(explainer: Explainer, model: nn.Module, images: Images) -> None:
    """The default layer is looked for once, on the model: each call's copy would look anew."""
    for one in inside(explainer):
        _settle_layers(one, model, images)
    if isinstance(explainer, AtLayer) and explainer.layer in (None, "default"):
        try:
            default_layer(model, images)
        except HeatproofError:
            return  # the explainer itself says what is wrong, if it is
