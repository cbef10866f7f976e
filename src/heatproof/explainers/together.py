"""One forward pass for many heatmaps: several layers, several classes, several explainers of the same images."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from heatproof.errors import ModelError
from heatproof.explainers.scores import Score, explained
from heatproof.models.classifier import check_images, resolve_targets
from heatproof.models.finite import ANSWER, check_finite
from heatproof.models.intact import evaluating
from heatproof.models.layers import PIXELS, known_layouts, layer_name, record
from heatproof.models.odd_images import remark_on_one_cell
from heatproof.models.zero_rows import zero_rows_skipped
from heatproof.types import Classes, Explainer, Explanation, Heatmaps, Images, Layered, Logits, PerImage, Targets

Map = Float[Tensor, "batch channels rows cols"]


class Rectified(Protocol):
    """An explainer that can be asked for its positive part."""

    @property
    def relu(self) -> bool: ...


@runtime_checkable
class LayerExplainer(Protocol):
    """An explainer whose map is a function of one layer's output and of the score's gradient there."""

    @property
    def layer(self) -> Layered: ...

    @property
    def score(self) -> Score: ...

    def read(self, activation: Map, gradient: Map) -> Heatmaps: ...


@property
def signed_without_relu(explainer: Rectified) -> bool:
    """``signed`` of whatever may keep the positive part of its map only."""
    return not explainer.relu


class Gradient(NamedTuple):
    """One layer's output, the score's gradient there, and the logits of the same pass."""

    activation: Map
    gradient: Map
    logits: Logits
    targets: Targets


def gradient_at(
    model: nn.Module, images: Images, targets: Classes | None, layer: str, score: Score, *, create_graph: bool
) -> Gradient:
    """d score / d layer for one class per image; ``layer`` may be ``"pixels"``."""
    with torch.inference_mode(False):
        logits, recorded = record(model, images, [layer], create_graph=create_graph)
        targets = resolve_targets(logits, targets, model)
        with zero_rows_skipped(not create_graph and _behind_a_class_token(model, images, [layer])):
            (gradient,) = _gradients(logits, targets, score, [recorded[layer]], create_graph=create_graph)
        if not create_graph:
            logits = logits.detach()
        return Gradient(_full(recorded[layer]), _full(gradient), logits, targets)


def explain_at_layer(
    explainer: LayerExplainer,
    model: nn.Module,
    images: Images,
    targets: Classes | None = None,
    *,
    create_graph: bool = False,
) -> Explanation:
    """One layer explainer, one class per image: ``__call__`` of whatever reads a layer."""
    check_images(model, images)
    layer = layer_name(model, explainer.layer, images)
    activation, gradient, logits, targets = gradient_at(
        model, images, targets, layer, explainer.score, create_graph=create_graph
    )
    heatmaps = explainer.read(activation, gradient)
    remark_on_one_cell(layer, *heatmaps.shape[1:])
    return Explanation(heatmaps if create_graph else heatmaps.detach(), logits, targets)


def predict(model: nn.Module, images: Images, *, create_graph: bool = False) -> Logits:
    """The logits in eval mode, with a graph only on request.

    Raises:
        ModelError: they are not finite.
    """
    with torch.inference_mode(False), evaluating(model), torch.set_grad_enabled(create_graph):
        logits = model(images.clone() if images.is_inference() else images)
    if not create_graph:
        check_finite(logits, ANSWER)
    return logits


class Grid(NamedTuple):
    """Heatmaps of several explainers and several classes of the same images."""

    heatmaps: list[Float[Tensor, "batch classes rows cols"]]
    """One entry per explainer, in the order given."""
    logits: Logits
    targets: Int[Tensor, "batch classes"]
    slope: Images | None = None
    """The gradient of ``climb`` over the pixels, where it was asked for."""
    explanations: tuple[tuple[Explanation, ...], ...] = ()
    """For each explainer one per class, with its interval or certificate; none for those that share a pass."""


def explain_together(
    model: nn.Module,
    images: Images,
    explainers: Sequence[Explainer],
    targets: Int[Tensor, "batch classes"] | Int[Tensor, " classes"] | None = None,
    *,
    top: int = 1,
    climb: Callable[[Logits], PerImage] | None = None,
) -> Grid:
    """What each explainer says about each class, at the cost of one forward pass where that is possible.

    Explainers that read a layer (Grad-CAM with and without ReLU, counterfactual, SimpleGrad, at any layers) share one
    forward pass, and one backward pass through the head per class and score. The others are called once per class.

    Args:
        targets: the classes to explain, per image, or ``[classes]`` the same for all; ``None``: the ``top`` predicted.
        climb: a value of the logits whose gradient over the pixels is wanted too: what an attack needs of the same
            forward pass.
    """
    check_images(model, images)
    at_layers = [e for e in explainers if isinstance(e, LayerExplainer)]
    scores: list[Score] = list(dict.fromkeys([e.score for e in at_layers]))
    layers = {id(e): layer_name(model, e.layer, images) for e in at_layers}
    with torch.inference_mode(False):
        wanted = [*layers.values(), *([PIXELS] if climb else [])]
        logits, recorded = record(model, images, wanted, create_graph=False)
        if targets is None:
            targets = logits.detach().topk(min(top, logits.shape[1]), dim=1).indices
        if targets.ndim == 1:
            targets = targets.expand(len(images), -1)
        columns = [resolve_targets(logits, column) for column in targets.unbind(1)]
        names = list(dict.fromkeys(layers.values()))
        sources = [recorded[name] for name in names]
        maps: list[list[Heatmaps]] = [[] for _ in explainers]
        said: list[list[Explanation]] = [[] for _ in explainers]
        lean = _behind_a_class_token(model, images, names)
        for column in columns:
            by_score = dict[Score, dict[str, Tensor]]()
            for score in scores:
                with zero_rows_skipped(lean):
                    found = _gradients(logits, column, score, sources, create_graph=False, keep=True)
                by_score[score] = dict(zip(names, found, strict=True))
            for place, explainer in enumerate(explainers):
                if isinstance(explainer, LayerExplainer):
                    layer = layers[id(explainer)]
                    heatmaps = explainer.read(_full(recorded[layer]), _full(by_score[explainer.score][layer])).detach()
                    remark_on_one_cell(layer, *heatmaps.shape[1:])
                else:
                    said[place].append(explainer(model, images, column))
                    heatmaps = said[place][-1].heatmaps
                maps[place].append(heatmaps)
        # last, since it may free the graph
        slope = torch.autograd.grad(climb(logits).sum(), recorded[PIXELS])[0] if climb else None
    stacked, predictions = [torch.stack(classes, 1) for classes in maps], tuple(map(tuple, said))
    return Grid(stacked, logits.detach(), torch.stack(columns, 1), slope, predictions)


def _gradients(
    logits: Logits, targets: Targets, score: Score, sources: list[Tensor], *, create_graph: bool, keep: bool = False
) -> list[Tensor]:
    # eval mode: images do not interact, so the sum's gradient holds each image's own
    total = explained(logits, targets, score).sum()
    found: Sequence[Tensor | None] = [None]
    if total.requires_grad:
        # torch's own types forget allow_unused
        found = cast(
            "Sequence[Tensor | None]",
            torch.autograd.grad(
                total, sources, create_graph=create_graph, retain_graph=create_graph or keep, allow_unused=True
            ),
        )
    gradients = [gradient for gradient in found if gradient is not None]
    if len(gradients) < len(sources):
        raise ModelError(
            "the score has no gradient at the layer or the pixels that are explained: it does not depend on them, or "
            "the forward pass cuts the gradient (no_grad, detach, argmax, quantised layers). Name a layer that lies "
            "behind the cut (`heatproof list layers`), or explain by occlusion(), which needs none"
        )
    if not create_graph:  # a training notices it in its loss, and goes back
        for gradient in gradients:
            check_finite(gradient, "the score's gradient")
    return gradients


def _behind_a_class_token(model: nn.Module, images: Images, layers: Sequence[str]) -> bool:
    """Whether these layers put out a class token beside their grid, which may be all that the score reads."""
    if set(layers) <= {PIXELS}:
        return False
    layouts = known_layouts(model, images).known
    return any(layout is not None and layout.prefix > 0 and name in layers for (name, _), layout in layouts.items())


def _full(tensor: Tensor) -> Tensor:
    """Half precision is for convolutions; sums over a map are taken in float32."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
