"""What is on the stage of a fine-tuning: the part that is trained, its clean twin, the explainer, and what feeds them.

Where only the later layers are trained and the images do not change, the activations before these layers are computed
once; then the stage is the tail of the network, fed with activations instead of images.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.models.intact import evaluating
from heatproof.models.layers import layer_name
from heatproof.training.clean_model import room
from heatproof.training.feeds import Feed, TensorFeed
from heatproof.training.split_at import Cut, cut, explainer_on, from_layer_on
from heatproof.types import Explainer


@dataclass(frozen=True)
class Stage:
    """Attributes: the whole fooled network (handed out at the end), the ``body`` of it that is run, its ``clean`` twin,
    the explainer as it is called on a body, the trained parameters by name, and the feeds in the order given."""

    fooled: nn.Module
    body: nn.Module
    clean: nn.Module
    explainer: Explainer
    trained: dict[str, nn.Parameter]
    feeds: list[Feed | None]
    classes: int
    cached: bool


def set_stage(
    model: nn.Module,
    explainer: Explainer,
    feeds: Sequence[Feed | None],
    *,
    trainable: str | None,
    device: torch.device,
    batch_size: int,
    scratch: Path | None,
) -> Stage:
    """Copy the model, freeze what is not trained, and compute the frozen part's activations where that is possible.

    Raises:
        InputError: the data has no readable image.
        LayerError: there is no layer ``trainable``.
    """
    example = _first(feeds[0]).to(device)
    # the default layer is looked for before anything changes, and on both copies alike
    if getattr(explainer, "layer", "") is None:
        layer_name(model, None, example)
    clean = model if _device(model) == device else copy.deepcopy(model).to(device)
    fooled = copy.deepcopy(clean)
    with torch.no_grad(), evaluating(clean):
        classes = clean(example).shape[1]
    for parameter in fooled.parameters():
        parameter.requires_grad_(trainable is None)
    if trainable is not None:
        for parameter in from_layer_on(fooled, trainable, example):
            parameter.requires_grad_(True)
    trained = {name: parameter for name, parameter in fooled.named_parameters() if parameter.requires_grad}
    if not trained:
        raise InputError(f"from layer {trainable!r} on there is nothing to train; name an earlier layer")
    halves, twin = (cut(fooled, trainable), cut(clean, trainable)) if trainable else (None, None)
    on_tail = None
    if halves and twin and all(feed is None or feed.fixed for feed in feeds):
        on_tail = explainer_on(explainer, fooled, halves, example)
    if halves is None or twin is None or on_tail is None:
        return Stage(fooled, fooled, clean, explainer, trained, list(feeds), classes, cached=False)
    activations = [
        _activations(twin, feed, f"{place}", device, batch_size, scratch) for place, feed in enumerate(feeds)
    ]
    if any(feed is not None and made is None for feed, made in zip(feeds, activations, strict=True)):
        return Stage(fooled, fooled, clean, explainer, trained, list(feeds), classes, cached=False)
    return Stage(fooled, halves.tail, twin.tail, on_tail, trained, list(activations), classes, cached=True)


def _activations(
    twin: Cut, feed: Feed | None, name: str, device: torch.device, batch_size: int, scratch: Path | None
) -> TensorFeed | None:
    if feed is None:
        return None
    kept: Tensor | None = None
    seen: list[int] = []
    labels = torch.full((len(feed),), -1)
    with torch.no_grad(), evaluating(twin.head):
        for fed in feed.ordered(batch_size):
            activation = twin.head(fed.images.to(device)).float().cpu()
            if kept is None:
                kept = room((len(feed), *activation.shape[1:]), scratch, f"activations-{name}")
                if kept is None:
                    return None
            kept[fed.positions] = activation
            labels[fed.positions] = fed.labels.cpu()
            seen += fed.positions.tolist()
    if kept is None:
        return None
    made = TensorFeed(kept, labels, list(feed.ids))
    return made if len(seen) == len(feed) else made.taken(sorted(seen))


def _first(feed: Feed | None) -> Tensor:
    fed = next(iter(feed.ordered(2)), None) if feed is not None else None
    if fed is None:
        raise InputError("none of the images can be read")
    return fed.images


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
