"""Layer-wise relevance propagation: where in the image, or in a layer, a logit comes from."""

import math
from contextlib import ExitStack
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import InputError, LayerError, ModelError, SpecError, did_you_mean
from heatproof.explainers.lrp.affine import full
from heatproof.explainers.lrp.composites import COMPOSITES, own_types, with_gamma
from heatproof.explainers.lrp.graph import Traced, compare, traced
from heatproof.explainers.lrp.plan import Plan, make_plan
from heatproof.explainers.lrp.walk import forward, walk
from heatproof.explainers.scores import Output, explained
from heatproof.models.altered import is_blurred
from heatproof.models.classifier import Classifier, check_images, resolve_targets
from heatproof.models.finite import ANSWER, check_finite
from heatproof.models.intact import evaluating
from heatproof.models.layers import PIXELS, find_layer, known_layouts, layer_name, network_of, no_maps
from heatproof.models.outputs import read_logits
from heatproof.types import Classes, Explanation, Images, Logits, Targets, settings

LinearScore = Literal["logit", "contrast", "softmax_contrast"] | Output
LINEAR = ("logit", "contrast", "softmax_contrast")


class Relevance(NamedTuple):
    """What arrives at the layer where the walk stops, its channels apart; their sum is the map."""

    channels: Float[Tensor, "batch channels rows cols"]
    logits: Logits
    targets: Targets


@settings
class LRP:
    """Layer-wise relevance propagation to the pixels or (LRP_T) to a layer.

    The explained score is handed down from layer to layer, each output's relevance shared among its inputs by the
    rule of the layer: heatmap = sum over channels of the relevance that arrives. Without biases and stabilizer the map
    sums to the score.

    **Source** Bach et al. 2015; the default composite Lapuschkin et al. 2017 as used by Heo et al. 2019.
    **Differs** batch norm is folded into the convolution before it, where Heo et al.'s code passes relevance through
    it unchanged (``batch_norm="pass"``). Heo et al. take the ReLU of LRP_T and scale it by min-max; here it stays raw.
    **Range** signed, in the score's unit, at the resolution of the pixels or of the layer.

    Args:
        layer: stop at this layer's output; ``None`` or ``"pixels"``: go to the pixels; ``"default"``: the model's
            default layer.
        composite: which rule for which layer, a name of :data:`~heatproof.explainers.lrp.composites.COMPOSITES`.
        batch_norm: ``"fold"``: batch norm and the layer before it are one layer, and where it stands alone (behind a
            concatenation or a ReLU) it is a diagonal linear layer; ``"pass"``: relevance passes it unchanged.
        score: the number that is explained: a class's logit, its difference to the others' (plain or softmax
            weighted) mean, or an :class:`~heatproof.explainers.scores.Output`.
        stabilizer: the small number in the denominators of weighted layers, in units of their outputs. The published
            AttnLRP has 1e-6 or less: maps of pixels then differ by half and more, and are no more faithful
            (docs/methods/transformers.md).
        gamma_conv: the gamma rule with this gamma on convolutions, in place of the composite's own rule; 0 is epsilon.
        gamma_linear: likewise on linear layers. :func:`heatproof.tune_lrp` chooses both.
    """

    layer: str | None = None
    composite: str = "lrp"
    batch_norm: Literal["fold", "pass"] = "fold"
    score: LinearScore = "logit"
    stabilizer: float = 0.01
    gamma_conv: float | None = None
    gamma_linear: float | None = None
    signed = True

    def __post_init__(self) -> None:
        if self.composite not in COMPOSITES:
            raise SpecError(f"there is no composite {self.composite!r}; {did_you_mean(self.composite, COMPOSITES)}")
        if self.batch_norm not in ("fold", "pass"):
            raise SpecError(f"batch_norm is 'fold' or 'pass', got {self.batch_norm!r}")
        if not isinstance(self.score, Output) and self.score not in LINEAR:
            raise SpecError(
                f"LRP shares out a logit, an output or a difference of logits, got score={self.score!r}; "
                f"{did_you_mean(str(self.score), [*LINEAR, 'output'])}"
            )
        if not self.stabilizer > 0:
            raise InputError(f"the stabilizer must be positive, got {self.stabilizer}")
        for gamma in (self.gamma_conv, self.gamma_linear):
            if gamma is not None and not 0 <= gamma < math.inf:
                raise InputError(f"gamma is 0 or more, or None for the composite's own rule, got {gamma}")

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        found = self.relevance(model, images, targets, create_graph=create_graph)
        return Explanation(found.channels.sum(1), found.logits, found.targets)

    def relevance(
        self,
        model: nn.Module,
        images: Images,
        targets: Classes | None = None,
        *,
        slopes: bool = False,
        create_graph: bool = False,
    ) -> Relevance:
        """The relevance of each cell of each channel.

        Args:
            slopes: begin with the slope of the score in each output (1 for a class's logit) instead of the output's
                share of the score (the logit): all classes then begin alike, whatever their logits are.

        Raises:
            LayerError: the layer puts out no map.
        """
        check_images(model, images)
        layer = PIXELS if self.layer is None else layer_name(model, self.layer, images)
        network = network_of(model)
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(create_graph),
            evaluating(model),
            ExitStack() as inside,
        ):
            if images.is_inference():
                images = images.clone()
            pixels = _normalised(model, images)
            graph, plan = self._plan(model, network, layer, pixels)
            if isinstance(model, Classifier):
                # traced as it is written, walked as it is used
                inside.enter_context(model.activation())
            values = forward(graph, plan, network, pixels)
            own = values[plan.end]
            logits = _logits(own, model, images)
            if not create_graph:
                check_finite(logits, ANSWER)
            if pixels.shape not in graph.compared:
                compare(network, pixels, own, _key(model))
                graph.compared.add(pixels.shape)
            targets = resolve_targets(logits, targets, model)
            relevance = _slopes(own, model, images, targets, self.score)
            relevance = relevance if slopes else relevance * full(own)
            bounds = (
                tuple(_normalised(model, torch.full_like(images[:1], pixel)) for pixel in (0.0, 1.0))
                if isinstance(model, Classifier)
                else None
            )
            relevance = walk(plan, network, values, relevance, bounds)
            return Relevance(_maps(model, layer, relevance, images), logits, targets)

    def _plan(self, model: nn.Module, network: nn.Module, layer: str, pixels: Tensor) -> tuple[Traced, Plan]:
        if is_blurred(network):
            raise ModelError(
                f"{type(network).__name__} was trained with a layer whose maps are blurred, for which LRP has no rule; "
                "explain by gradients (gradcam, simple_grad, integrated_gradients) or by occlusion"
            )
        gammas = self.gamma_conv, self.gamma_linear
        composite = with_gamma(COMPOSITES[self.composite](self.stabilizer), *gammas, self.stabilizer)
        graph = traced(network, pixels, own_types(composite))
        key = (self.composite, *gammas, self.batch_norm, self.stabilizer, layer, _key(model))
        if key not in graph.plans:
            stop = None
            if layer != PIXELS:
                first = _first_name(model, layer)
                if first not in graph.outputs:
                    raise LayerError(
                        f"layer {layer!r} is not reached by the forward pass of {type(network).__name__}, "
                        "or puts out more than one tensor"
                    )
                stop = graph.outputs[first]
            graph.plans[key] = make_plan(network, graph.graph, composite, self.batch_norm == "fold", stop, _key(model))
        return graph, graph.plans[key]


def _maps(model: nn.Module, layer: str, relevance: Tensor, images: Images) -> Tensor:
    """The relevance at a layer with its channels first, whatever the layer's layout.

    Raises:
        LayerError: rows and columns cannot be established.
    """
    if layer == PIXELS:
        return relevance
    layout = known_layouts(model, images).get(_first_name(model, layer), relevance)
    if layout is None:
        raise LayerError(no_maps(layer, relevance))
    return layout.maps(relevance)


def _first_name(model: nn.Module, layer: str) -> str:
    """A module that stands under several names is known by its first."""
    module = find_layer(model, layer)
    return next(name for name, known in network_of(model).named_modules() if known is module)


def _key(model: nn.Module) -> str | int | None:
    """Where the logits are in what the network returns, where that was said."""
    return model.logits_key if isinstance(model, Classifier) else None


def _normalised(model: nn.Module, images: Images) -> Images:
    return model.normalised(images) if isinstance(model, Classifier) else images


def _logits(output: Any, model: nn.Module, images: Images) -> Logits:
    """The logits in what the graph puts out, one of them read as a pair.

    Raises:
        ModelError: it is no batch of logits, or the network ends in probabilities.
    """
    name = type(network_of(model)).__name__
    if isinstance(model, Classifier) and model.probabilities:
        raise ModelError(
            f"LRP starts at logits, and {name} puts out probabilities: give it the network without its last softmax or "
            "sigmoid"
        )
    if not isinstance(output, Tensor):
        raise ModelError(
            f"a classifier returns logits [batch, classes], here [{len(images)}, classes]; {name} returned "
            f"{type(output).__name__}"
        )
    return read_logits(output, len(images), name, reading=model.reading if isinstance(model, Classifier) else None)


def _slopes(
    output: Float[Tensor, "batch *any"], model: nn.Module, images: Images, targets: Targets, score: LinearScore
) -> Float[Tensor, "batch *any"]:
    """d score / d each number that the network puts out; times the number it is that number's share of the score.

    Of one logit z, read as the pair (0, z), all of it is z's; of maps each cell of the region has its own.
    """
    with torch.enable_grad():
        leaf = full(output.detach()).requires_grad_()
        (slopes,) = torch.autograd.grad(explained(_logits(leaf, model, images), targets, score).sum(), leaf)
    return slopes
